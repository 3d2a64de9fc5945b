//! The HTTP side: one call in, the rules, one call out, one answer back.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pintail::clock::now_ms;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::faults::{Act, Edit, Fault, Faults, Operation, Request};
use super::quota::{Meter, Quota, Usage};
use super::shards::{children, cut, page, payload_bytes, unwrap, wrap};

const TARGET: &str = "x-amz-target";
const API: &str = "Kinesis_20131202.";
/// What each shard has given; Kinesis itself is only ever POSTed to.
pub const USAGE: &str = "/usage";
/// In an answer, unless fewer are asked for.
const RECORDS_MAX: u64 = 10_000;
const JSON: &str = "application/x-amz-json-1.1";

/// Kinesis's own limits.
pub struct Limits {
    pub page_shards: usize,
    pub reply_bytes: usize,
    pub lock: Duration,
    /// By stream and shard, until when.
    locked: BTreeMap<(String, String), Instant>,
    /// What each shard gives, if that is limited.
    pub quota: Option<Quota>,
    /// By stream and shard, of those that were read since there is a quota.
    meters: BTreeMap<(String, String), Meter>,
}

impl Limits {
    fn new() -> Self {
        let (reply_bytes, lock) = (10 << 20, Duration::from_secs(5));
        let (locked, meters) = (BTreeMap::new(), BTreeMap::new());
        Self { page_shards: 1000, reply_bytes, lock, locked, quota: None, meters }
    }

    /// What each shard has given since there is a quota.
    pub fn usage(&self) -> Vec<Usage> {
        self.meters.values().map(|meter| meter.usage().clone()).collect()
    }

    /// Whether a read may be made.
    fn admits(&mut self, key: &(String, String), now: Instant) -> bool {
        let is_locked = self.locked.get(key).is_some_and(|until| now < *until);
        let Some(quota) = self.quota else { return !is_locked };
        let meter = self.meters.entry(key.clone()).or_insert_with(|| Meter::new(quota, &key.0, &key.1, now));
        !is_locked && meter.ask(now).is_ok()
    }
}

/// What every connection shares.
pub struct Front {
    pub faults: Faults,
    limits: Mutex<Limits>,
    behind: String,
    client: reqwest::Client,
}

/// Why a client sees its connection cut.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    #[error("a rule says so")]
    Asked,
    #[error("the client's request is cut off")]
    Client(#[source] hyper::Error),
    #[error("the Kinesis behind does not answer")]
    Behind(#[from] reqwest::Error),
}

struct Call {
    operation: Operation,
    stream: String,
    shard: String,
    headers: HeaderMap,
    body: Bytes,
    json: Value,
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

/// Takes connections until it is dropped, and cuts them then.
pub async fn serve(listener: TcpListener, front: Arc<Front>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let front = Arc::clone(&front);
        connections.spawn(async move {
            let service = service_fn(|request| front.answer(request));
            // A connection ends with an error whenever a rule or its client cuts it: that is what the test is about.
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

impl Front {
    pub fn new(endpoint: &str) -> Self {
        Self {
            faults: Faults::default(),
            limits: Mutex::new(Limits::new()),
            behind: endpoint.to_owned(),
            client: reqwest::Client::new(),
        }
    }

    pub fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
        let (head, body) = request.into_parts();
        if head.method == Method::GET && head.uri.path() == USAGE {
            return Ok(Answer { status: StatusCode::OK, body: json!(self.limits().usage()).to_string().into() }
                .respond(Duration::ZERO));
        }
        let body = body.collect().await.map_err(Cut::Client)?.to_bytes();
        let call = Call::new(head.headers, body);
        let met = self.faults.meet(&call.request());
        let (mut edits, mut ahead, mut cut_after) = (Vec::new(), Duration::ZERO, false);
        for act in met {
            match act {
                Act::Park { reached, released } => {
                    // A test that no longer waits for it still parks it.
                    reached.send(()).await.ok();
                    released.cancelled().await;
                }
                Act::Fault(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
                Act::Fault(Fault::Stall) => match std::future::pending::<Infallible>().await {},
                Act::Fault(Fault::Drop) => return Err(Cut::Asked),
                Act::Fault(Fault::Refuse { status, code }) => return Ok(Answer::refuse(status, code).respond(ahead)),
                Act::Fault(Fault::Body(text)) => return Ok(Answer::text(text).respond(ahead)),
                Act::Fault(Fault::Empty { behind_ms }) => return Ok(call.empty(behind_ms).respond(ahead)),
                Act::Fault(Fault::AskThenDrop) => cut_after = true,
                Act::Fault(Fault::Edit(edit)) => edits.push(edit),
                Act::Fault(Fault::Ahead(more)) => ahead += more,
            }
        }
        let answer = self.ask(&call).await?.edited(&edits);
        if cut_after { Err(Cut::Asked) } else { Ok(answer.respond(ahead)) }
    }

    async fn ask(&self, call: &Call) -> Result<Answer, Cut> {
        match call.operation {
            Operation::DescribeStreamSummary | Operation::Other => self.forward(call, None, call.body.clone()).await,
            Operation::GetShardIterator => {
                let answer = self.forward(call, None, call.body.clone()).await?;
                Ok(answer.changed(|json| call.wrap_field(json, "ShardIterator")))
            }
            Operation::ListShards => self.list(call).await,
            Operation::GetRecords => self.read(call).await,
        }
    }

    /// Asks the Kinesis behind; another operation than the call's, if need be.
    async fn forward(&self, call: &Call, operation: Option<&str>, body: Bytes) -> Result<Answer, Cut> {
        let mut request = self.client.post(&self.behind).body(body);
        for (name, value) in call.headers.iter().filter(|(name, _)| {
            let name = name.as_str();
            name.starts_with("x-amz") && (name != TARGET || operation.is_none())
                || ["authorization", "content-type"].contains(&name)
        }) {
            request = request.header(name, value);
        }
        if let Some(operation) = operation {
            request = request.header(TARGET, format!("{API}{operation}"));
        }
        let answer = request.send().await?;
        Ok(Answer { status: answer.status(), body: answer.bytes().await? })
    }

    async fn list(&self, call: &Call) -> Result<Answer, Cut> {
        let token = call.json["NextToken"].as_str();
        let from = token.map_or(Ok(0), |token| unwrap(token).2.parse());
        let (Ok(from), false) = (from, token.is_some() && call.json.get("StreamName").is_some()) else {
            return Ok(Answer::refuse(400, "InvalidArgumentException"));
        };
        let listing = self.listing(call).await?;
        let count = self.limits().page_shards;
        Ok(listing.changed(|json| *json = page(json, &call.stream, from, count)))
    }

    /// Every shard of the call's stream.
    async fn listing(&self, call: &Call) -> Result<Answer, Cut> {
        self.forward(call, Some("ListShards"), json!({"StreamName": call.stream}).to_string().into()).await
    }

    async fn read(&self, call: &Call) -> Result<Answer, Cut> {
        let key = (call.stream.clone(), call.shard.clone());
        if !self.limits().admits(&key, Instant::now()) {
            return Ok(Answer::refuse(400, "ProvisionedThroughputExceededException"));
        }
        let mut body = call.json.clone();
        body["ShardIterator"] = json!(unwrap(body["ShardIterator"].as_str().unwrap_or_default()).2);
        let answer = self.forward(call, None, body.to_string().into()).await?;
        if answer.status != StatusCode::OK {
            return Ok(answer);
        }
        let (mut json, bytes_max) = (answer.json(), self.limits().reply_bytes);
        let cut_after = cut(&mut json, bytes_max);
        let is_cut = cut_after.is_some();
        if let Some(last) = cut_after {
            json["NextShardIterator"] = self.iterator_after(call, &last).await?;
            let mut limits = self.limits();
            let until = Instant::now() + limits.lock;
            limits.locked.insert(key.clone(), until);
        }
        self.charge(call, &key, &mut json, is_cut);
        if json["NextShardIterator"].is_string() {
            call.wrap_field(&mut json, "NextShardIterator");
        } else {
            json["ChildShards"] = children(&self.listing(call).await?.json(), &call.shard);
        }
        Ok(Answer { status: answer.status, body: json.to_string().into() })
    }

    /// Books what an answer gives. The Kinesis behind says of every answer that nothing is behind it; whoever catches up
    /// under a quota is told the truth.
    fn charge(&self, call: &Call, key: &(String, String), answer: &mut Value, is_cut: bool) {
        let mut limits = self.limits();
        let Some(meter) = limits.meters.get_mut(key) else { return };
        let records = answer["Records"].as_array().map(Vec::as_slice).unwrap_or_default();
        let bytes: usize = records.iter().map(payload_bytes).sum();
        let asked = call.json["Limit"].as_u64().unwrap_or(RECORDS_MAX);
        let is_behind = is_cut || records.len() as u64 >= asked;
        if let Some(last) = records.last().filter(|_| is_behind) {
            let arrived_ms = (last["ApproximateArrivalTimestamp"].as_f64().unwrap_or_default() * 1e3) as i64;
            answer["MillisBehindLatest"] = json!((now_ms() - arrived_ms).max(1));
        }
        meter.gave(Instant::now(), bytes as u64, is_behind);
    }

    async fn iterator_after(&self, call: &Call, number: &str) -> Result<Value, Cut> {
        let body = json!({
            "StreamName": call.stream, "ShardId": call.shard,
            "ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": number,
        });
        let answer = self.forward(call, Some("GetShardIterator"), body.to_string().into()).await?;
        Ok(answer.json()["ShardIterator"].clone())
    }
}

impl Call {
    fn new(headers: HeaderMap, body: Bytes) -> Self {
        let target = headers.get(TARGET).and_then(|target| target.to_str().ok()).unwrap_or_default();
        let operation = match target.strip_prefix(API).unwrap_or_default() {
            "DescribeStreamSummary" => Operation::DescribeStreamSummary,
            "ListShards" => Operation::ListShards,
            "GetShardIterator" => Operation::GetShardIterator,
            "GetRecords" => Operation::GetRecords,
            _ => Operation::Other,
        };
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |name: &str| json[name].as_str().unwrap_or_default();
        let token = [text("ShardIterator"), text("NextToken")].join("");
        let (of_token, shard, _) = unwrap(&token);
        let by_arn = text("StreamARN").rsplit_once('/').map_or("", |(_, name)| name);
        let named = [text("StreamName"), by_arn, of_token].into_iter().find(|name| !name.is_empty());
        let stream = named.unwrap_or_default().to_owned();
        let shard = if shard.is_empty() { text("ShardId") } else { shard }.to_owned();
        Self { operation, stream, shard, headers, body, json }
    }

    fn request(&self) -> Request<'_> {
        Request { operation: self.operation, stream: &self.stream, shard: &self.shard }
    }

    fn wrap_field(&self, json: &mut Value, field: &str) {
        if let Some(inner) = json[field].as_str() {
            json[field] = json!(wrap(&self.stream, &self.shard, inner));
        }
    }

    fn empty(&self, behind_ms: i64) -> Answer {
        let json = json!({
            "Records": [], "NextShardIterator": self.json["ShardIterator"], "MillisBehindLatest": behind_ms,
        });
        Answer { status: StatusCode::OK, body: json.to_string().into() }
    }
}

impl Answer {
    fn refuse(status: u16, code: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, body: json!({"__type": code, "message": "because a test says so"}).to_string().into() }
    }

    fn text(text: &'static str) -> Self {
        Self { status: StatusCode::OK, body: Bytes::from_static(text.as_bytes()) }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn changed(self, change: impl FnOnce(&mut Value)) -> Self {
        if self.status != StatusCode::OK {
            return self;
        }
        let mut json = self.json();
        change(&mut json);
        Self { status: self.status, body: json.to_string().into() }
    }

    fn edited(self, edits: &[Edit]) -> Self {
        if edits.is_empty() {
            return self;
        }
        self.changed(|json| edits.iter().for_each(|edit| edit(json)))
    }

    fn respond(self, ahead: Duration) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        if let Some(date) = http_date(now_ms() + i64::try_from(ahead.as_millis()).unwrap_or_default()) {
            response.headers_mut().insert(DATE, date);
        }
        response
    }
}

fn http_date(ms: i64) -> Option<HeaderValue> {
    let text = DateTime::from_timestamp_millis(ms)?.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::from_str(&text).ok()
}
