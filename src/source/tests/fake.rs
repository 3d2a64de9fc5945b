//! A Kinesis of one test's making: one stream, answers by script, every call on record.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::rig::{STREAM, shard};
use crate::clock;
use crate::source::Kinesis;

/// Status and body.
pub type Answer = (u16, Value);

/// What the next calls are answered; an empty queue answers as an open, idle shard does.
#[derive(Debug)]
pub struct Script {
    pub created_s: i64,
    pub retention_h: i64,
    pub describes: VecDeque<Answer>,
    pub listings: VecDeque<Answer>,
    /// The listing once the queue is empty.
    pub shards: Vec<Value>,
    /// So many of them on a page.
    pub page_shards: usize,
    pub iterators: VecDeque<Answer>,
    pub reads: VecDeque<Answer>,
    /// Every call: operation, body, when.
    pub calls: Vec<(String, Value, Instant)>,
}

impl Script {
    pub fn calls_of(&self, operation: &str) -> Vec<Value> {
        self.calls.iter().filter(|call| call.0 == operation).map(|call| call.1.clone()).collect()
    }

    fn page(&self, body: &Value) -> Answer {
        let from = body["NextToken"].as_str().map_or(0, |token| token.parse().unwrap_or_default());
        let end = self.shards.len().min(from + self.page_shards.min(self.shards.len()));
        let token = (end < self.shards.len()).then(|| end.to_string());
        ok(json!({"Shards": self.shards[from..end], "NextToken": token}))
    }

    fn answer(&mut self, operation: &str, body: Value) -> Answer {
        self.calls.push((operation.to_owned(), body.clone(), Instant::now()));
        let page = self.page(&body);
        let mut summary = described(self.created_s);
        summary.1["StreamDescriptionSummary"]["RetentionPeriodHours"] = self.retention_h.into();
        let (queue, usual) = match operation {
            "DescribeStreamSummary" => (&mut self.describes, summary),
            "ListShards" => (&mut self.listings, page),
            "GetShardIterator" => (&mut self.iterators, ok(json!({"ShardIterator": "fresh"}))),
            "GetRecords" => (&mut self.reads, read(&[])),
            other => panic!("unexpected call {other}"),
        };
        queue.pop_front().unwrap_or(usual)
    }
}

/// The server; stops when dropped.
pub struct Fake {
    pub kinesis: Kinesis,
    script: Arc<Mutex<Script>>,
    _server: JoinSet<()>,
}

impl Fake {
    pub async fn start(shards: Vec<Value>) -> Self {
        let script = Arc::new(Mutex::new(Script {
            created_s: 1_000,
            retention_h: 24,
            describes: VecDeque::new(),
            listings: VecDeque::new(),
            shards,
            page_shards: usize::MAX,
            iterators: VecDeque::new(),
            reads: VecDeque::new(),
            calls: Vec::new(),
        }));
        let app = Router::new().route("/", post(answer)).with_state(Arc::clone(&script));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kinesis = Kinesis::local(&format!("http://{}", listener.local_addr().unwrap()));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { kinesis, script, _server: server }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap();
    let operation = target.strip_prefix("Kinesis_20131202.").unwrap();
    let (status, body) = script.lock().unwrap().answer(operation, serde_json::from_slice(&body).unwrap());
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}

// === Answers ===

pub fn ok(body: Value) -> Answer {
    (200, body)
}

pub fn refuse(code: &str) -> Answer {
    (400, json!({"__type": code, "message": "because the test says so"}))
}

pub fn described(created_s: i64) -> Answer {
    ok(json!({"StreamDescriptionSummary": {
        "StreamName": STREAM,
        "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/postings",
        "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": created_s,
        "EnhancedMonitoring": [],
        "OpenShardCount": 1,
    }}))
}

pub fn open(n: usize, parents: &[usize]) -> Value {
    let mut shard = json!({
        "ShardId": shard(n).as_str(),
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": u128::MAX.to_string()},
        "SequenceNumberRange": {"StartingSequenceNumber": "1"},
    });
    for (name, parent) in ["ParentShardId", "AdjacentParentShardId"].into_iter().zip(parents) {
        shard[name] = json!(super::rig::shard(*parent).as_str());
    }
    shard
}

pub fn closed(n: usize, parents: &[usize]) -> Value {
    let mut shard = open(n, parents);
    shard["SequenceNumberRange"]["EndingSequenceNumber"] = json!("999999");
    shard
}

/// A record with this number, arrived now, without a partition key.
pub fn record(number: &str) -> Value {
    let data = base64_simd::STANDARD.encode_to_string(number.as_bytes());
    let arrived = clock::now_ms() as f64 / 1000.0;
    json!({"SequenceNumber": number, "Data": data, "ApproximateArrivalTimestamp": arrived})
}

/// These records, and more to come.
pub fn read(numbers: &[&str]) -> Answer {
    let records: Vec<Value> = numbers.iter().map(|number| record(number)).collect();
    ok(json!({"Records": records, "NextShardIterator": "next", "MillisBehindLatest": 0}))
}

/// These records, and no next iterator.
pub fn last(numbers: &[&str], children: Value) -> Answer {
    let (status, mut body) = read(numbers);
    body["NextShardIterator"] = Value::Null;
    body["ChildShards"] = children;
    (status, body)
}
