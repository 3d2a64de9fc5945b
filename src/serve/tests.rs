use std::time::Duration;

use deltalake::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use deltalake::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::budget::Permit;
use crate::checkpoint::{Position, PositionRange, SequenceNumber, ShardId};
use crate::clock::now_ms;
use crate::contract::{self, ARRIVED_AT, Contract};
use crate::limits::{SERVE_CONNECTIONS_MAX, SERVE_HEAD_MAX, SERVE_URI_BYTES_MAX};
use crate::record::{
    CleanBatch, CleanCounts, LeftOver, RawRecord, Reject, RejectReason, Repair, ShardGrant, WindowSink,
};
use crate::toml_doc::Problems;
use crate::window::LiveFilter;

mod access;
mod feed;
mod openapi;
mod sealed;

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Patience = Patience { silence_max: SOON, head_max: SOON, answer_max: SOON };

// === A house to look at ===

/// A running server; stops with the test.
struct House {
    sources: Sources,
    url: String,
    address: SocketAddr,
    client: Client,
    cancel: CancellationToken,
    tasks: JoinSet<io::Result<()>>,
}

impl House {
    async fn open() -> Self {
        Self::open_with(sources()).await
    }

    async fn open_with(sources: Sources) -> Self {
        Self::open_guarded(sources, Access::default()).await
    }

    async fn open_guarded(sources: Sources, access: Access) -> Self {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), access, sources.clone()).await.unwrap();
        let (address, cancel, mut tasks) = (server.local_addr(), CancellationToken::new(), JoinSet::new());
        tasks.spawn(server.run(cancel.clone()));
        Self { sources, url: format!("http://{address}"), address, client: Client::new(), cancel, tasks }
    }

    async fn ask(&self, method: Method, path: &str) -> Response {
        self.client.request(method, format!("{}{path}", self.url)).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).await
    }

    async fn json(&self, path: &str) -> (StatusCode, Value) {
        let response = self.get(path).await;
        assert_eq!(header(&response, "content-type"), "application/json", "{path}");
        (response.status(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }

    /// The first line of the answer to a request with exactly this `Host` line.
    async fn status_line(&self, host_line: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET /livez HTTP/1.1\r\n{host_line}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }
}

fn sources() -> Sources {
    Sources {
        registry: Registry::new().unwrap(),
        status: StatusBoard::default(),
        windows: Vec::new(),
        window_series_max: 20,
        pipeline: "test".to_owned(),
        started_ms: now_ms(),
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

/// Counts words a minute: `words_by_kind`, and all of them without a key: `words`.
const CONTRACT: &str = r#"
table = "heard"
[[column]]
name = "kind"
type = "string"
[[column]]
name = "letters"
type = "long"
[[window]]
name = "words_by_kind"
every = "1m"
by = ["kind"]
measure = { words = "count", letters = "sum(letters)" }
[[window]]
name = "words"
every = "1m"
by = []
measure = { words = "count", letters = "sum(letters)" }
"#;

pub(super) fn contract() -> Contract {
    let problems = Problems::default();
    let contract = contract::parse("words.toml", CONTRACT.to_owned(), &problems);
    problems.into_result().unwrap();
    contract.unwrap()
}

fn rows_schema() -> Arc<Schema> {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("kind", DataType::Utf8, true),
        Field::new("letters", DataType::Int64, true),
        Field::new(ARRIVED_AT, instant, false),
    ]))
}

/// A batch of `(kind, arrival in ms)`, as the `number`th of its shard.
pub(super) fn batch(number: u64, words: &[(&str, i64)]) -> CleanBatch {
    let position = |number: u64| match number {
        0 => Position::Beginning,
        number => Position::After(SequenceNumber::parse(&number.to_string()).unwrap()),
    };
    let letters = words.iter().map(|(kind, _)| kind.len() as i64);
    let times = words.iter().map(|(_, ms)| ms * 1000);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(words.iter().map(|(kind, _)| *kind))),
        Arc::new(Int64Array::from_iter_values(letters)),
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
    ];
    CleanBatch {
        range: PositionRange {
            shard: ShardId::new("shardId-0"),
            after: position(number - 1),
            through: position(number),
        },
        rows: RecordBatch::try_new(rows_schema(), columns).unwrap(),
        rejects: Vec::new(),
        seen_ms: None,
        watermark_ms: None,
        end: None,
        left: LeftOver::default(),
        grant: ShardGrant::new(),
        permit: Permit::default(),
    }
}

fn reject(reason: RejectReason) -> Reject {
    let record = RawRecord {
        data: b"<b>no \x1b JSON</b>".as_slice().into(),
        sequence_number: SequenceNumber::parse("7").unwrap(),
        sub_sequence_number: 0,
        arrived_at_us: 60_000_000,
        refused: None,
    };
    Reject { record, reason, detail: "expected a value".to_owned() }
}

/// Three minutes of words, the first batch committed, the second pending.
async fn house_with_words() -> (House, Arc<StreamWindows>) {
    let mut sources = sources();
    let windows = Arc::new(StreamWindows::new("a", Arc::new(contract()), sources.registry.stream("a")));
    let first = batch(1, &[("noun", 0), ("verb", 10), ("noun", 60_000)]);
    windows.observe(&first).unwrap();
    windows.committed(std::slice::from_ref(&first.range), 7);
    windows.observe(&batch(2, &[("noun", 60_001), ("noun", 120_000), ("verb", 120_001), ("noun", 120_002)])).unwrap();
    sources.windows.push(Arc::clone(&windows));
    (House::open_with(sources).await, windows)
}

// === Endpoints ===

#[tokio::test]
async fn metrics_are_prometheus_text_of_the_registry() {
    let house = House::open().await;
    house.sources.registry.stream("a").cleaned(3, [RejectReason::InvalidJson], &CleanCounts::default());
    let response = house.get("/metrics").await;
    assert!(header(&response, "content-type").starts_with("text/plain; version=0.0.4"));
    let text = response.text().await.unwrap();
    assert!(text.contains("# HELP pintail_rows_cleaned_total Records that became rows\n"), "{text}");
    assert!(text.contains("# TYPE pintail_rejects_total counter\n"), "{text}");
    assert!(text.contains("pintail_rows_cleaned_total{stream=\"a\"} 3\n"), "{text}");
    assert!(text.contains("pintail_rejects_total{stream=\"a\",reason=\"invalid_json\"} 1\n"), "{text}");
}

#[tokio::test]
async fn metrics_show_the_process_and_the_windows_of_now() {
    let (house, windows) = house_with_words().await;
    let now = now_ms();
    windows.observe(&batch(3, &[("no\"un", now), ("no\"un", now + 60_000)])).unwrap();
    let text = house.get("/metrics").await.text().await.unwrap();
    for line in [
        "# TYPE pintail_window_value gauge\n",
        "pintail_window_records{stream=\"a\",window=\"words_by_kind\",state=\"running\"} 1\n",
        "pintail_window_value{stream=\"a\",window=\"words_by_kind\",state=\"running\",measure=\"words\",key=\"no\\\"un\"} 1\n",
        "pintail_window_value{stream=\"a\",window=\"words\",state=\"running\",measure=\"letters\",key=\"(all)\"} 5\n",
        "# TYPE process_cpu_seconds_total counter\n",
    ] {
        assert!(text.contains(line), "{line} not in {text}");
    }
}

#[tokio::test]
async fn readiness_names_every_trouble_until_it_is_resolved() {
    let house = House::open().await;
    let (status, body) = house.json("/readyz").await;
    assert_eq!((status, body), (StatusCode::SERVICE_UNAVAILABLE, json!({ "ready": false, "streams": [] })));

    let (a, b) = (house.sources.status.stream("a"), house.sources.status.stream("b"));
    a.resolved("start");
    b.resolved("start");
    b.trouble("lake", "no access");
    let (status, body) = house.json("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["streams"][0], json!({ "stream": "a", "ready": true, "trouble": {} }));
    assert_eq!(body["streams"][1], json!({ "stream": "b", "ready": false, "trouble": { "lake": "no access" } }));
    assert_eq!(house.get("/livez").await.status(), StatusCode::OK);

    b.resolved("lake");
    let (status, body) = house.json("/readyz").await;
    assert_eq!((status, &body["ready"]), (StatusCode::OK, &json!(true)));
}

#[tokio::test]
async fn shards_tables_and_summary_show_the_status_board() {
    let house = House::open().await;
    let board = house.sources.status.stream("a");
    let arrival_ms = now_ms() - 5_000;
    let position = "49".repeat(28);
    board.shard(&ShardId::new("shardId-1"), |shard| {
        shard.state = "reading";
        shard.parents = vec![ShardId::new("shardId-0")];
        shard.hash_range = Some(("0".to_owned(), "9".to_owned()));
        shard.position = Some(position.clone());
        shard.behind_ms = Some(40);
        shard.last_arrival_ms = Some(arrival_ms);
        (shard.records, shard.bytes) = (10, 1000);
    });
    board.shard(&ShardId::new("shardId-2"), |shard| {
        shard.last_arrival_ms = Some(now_ms() + 60_000);
        (shard.records, shard.bytes) = (2, 50);
    });
    board.table("a_rejects", |table| (table.kind, table.rows, table.last_commit_ms) = ("rejects", 3, Some(arrival_ms)));
    let mut counts = CleanCounts::default();
    counts.nulls.insert(("age".to_owned(), "sentinel"), 4);
    counts.repairs.insert(Repair::Base64, 2);
    let rejects = [RejectReason::Empty, RejectReason::Empty, RejectReason::AnotherKind].map(reject);
    board.cleaned(&ShardId::new("shardId-1"), 9, &rejects, &counts);

    let (_, shards) = house.json("/api/shards").await;
    let shard = &shards["streams"][0]["shards"][0];
    let age_ms = shard["record_age_ms"].as_i64().unwrap();
    assert!((5_000..65_000).contains(&age_ms), "{age_ms}");
    assert_eq!(shard["position"], json!(position), "a position is text");
    assert_eq!(shard["parents"], json!(["shardId-0"]));
    assert_eq!(shard["hash_range"], json!(["0", "9"]));
    assert_eq!(shards["streams"][0]["shards"][1]["record_age_ms"], json!(0), "a clock that is ahead makes no age");

    let (_, tables) = house.json("/api/tables").await;
    let table = &tables["streams"][0]["tables"][0];
    assert_eq!((&table["table"], &table["kind"], &table["rows"]), (&json!("a_rejects"), &json!("rejects"), &json!(3)));
    assert!((5_000..65_000).contains(&table["commit_age_ms"].as_i64().unwrap()));

    let (_, summary) = house.json("/api/summary").await;
    assert_eq!((&summary["pipeline"], &summary["ready"]), (&json!("test"), &json!(false)));
    let stream = &summary["streams"][0];
    assert_eq!((&stream["records"], &stream["bytes"], &stream["rows"]), (&json!(12), &json!(1050), &json!(9)));
    assert_eq!(stream["rejects"], json!({ "another_kind": 1, "empty": 2 }));
    assert_eq!(stream["nulls"], json!({ "age": { "sentinel": 4 } }));
    assert_eq!(stream["repairs"], json!({ "base64": 2 }));
    assert_eq!(stream["trouble"], json!({ "start": "starting" }));
    assert_eq!(stream["shards"][0]["behind_ms"], json!(40));
    assert_eq!(stream["tables"][0]["table"], json!("a_rejects"));
}

#[tokio::test]
async fn history_begins_with_the_server() {
    let sources = sources();
    sources.status.stream("a").shard(&ShardId::new("shardId-0"), |shard| (shard.records, shard.bytes) = (10, 1000));
    let house = House::open_with(sources).await;
    let mut samples = json!([]);
    while samples[0].is_null() {
        let (_, history) = house.json("/api/history").await;
        samples = history["streams"][0]["samples"].clone();
    }
    assert_eq!((&samples[0][1], &samples[0][2]), (&json!(10), &json!(1000)));
}

#[tokio::test]
async fn windows_are_the_live_windows() {
    let (house, windows) = house_with_words().await;
    let (_, all) = house.json("/api/windows").await;
    assert_eq!(all, serde_json::to_value(windows.live(&LiveFilter::default())).unwrap());
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[0]["committed_version"], json!(7));
    assert_eq!(
        all[0]["starts"][1]["rows"],
        json!([
            { "key": ["noun"], "measures": [2, 8], "records": 2, "pending": 1 }
        ])
    );

    let (_, newest) = house.json("/api/windows?window=words_by_kind&starts=1&rows=1").await;
    assert_eq!(newest.as_array().unwrap().len(), 1);
    let starts = newest[0]["starts"].as_array().unwrap();
    assert_eq!(starts.len(), 1);
    assert_eq!((&starts[0]["records"], &starts[0]["pending"]), (&json!(3), &json!(3)), "totals of all keys");
    assert_eq!((&starts[0]["keys"], starts[0]["rows"].as_array().unwrap().len()), (&json!(2), 1));
    assert_eq!(starts[0]["rows"][0]["key"], json!(["noun"]), "the largest key is kept");
}

#[tokio::test]
async fn windows_are_filtered_by_key_and_time_and_told_as_json_or_csv() {
    let (house, _) = house_with_words().await;
    let (_, nouns) = house.json("/api/windows?key.kind=noun&since=60000&until=1970-01-01T00:02:00Z").await;
    assert_eq!(nouns.as_array().unwrap().len(), 1, "the other window has no such key");
    let starts = nouns[0]["starts"].as_array().unwrap();
    assert_eq!(starts.iter().map(|start| start["start_ms"].as_i64().unwrap()).collect::<Vec<_>>(), [60_000]);
    let (_, verbs) = house.json("/api/windows?key.kind=verb&window=words_by_kind&rows=0").await;
    let counts = |start: &Value| {
        [&start["start_ms"], &start["records"], &start["pending"], &start["keys"]].map(Value::to_string)
    };
    let starts = verbs[0]["starts"].as_array().unwrap();
    assert_eq!(starts.iter().map(counts).collect::<Vec<_>>(), [["120000", "1", "1", "1"], ["0", "1", "0", "1"]]);

    let csv = house.get("/api/windows?window=words_by_kind&key.kind=noun&starts=1&format=csv").await;
    assert_eq!(header(&csv, "content-type"), "text/csv; charset=utf-8");
    let expected = "window_start,window_end,kind,words,letters,records,pending\r\n\
                    1970-01-01T00:02:00.000Z,1970-01-01T00:03:00.000Z,noun,2,8,2,2\r\n";
    assert_eq!(csv.text().await.unwrap(), expected);
    let accepts = house.client.get(format!("{}/api/windows?window=words", house.url)).header("accept", "text/csv");
    assert!(accepts.send().await.unwrap().text().await.unwrap().starts_with("window_start,window_end,words,"));
}

#[tokio::test]
async fn rejects_are_told_by_stream_and_reason_with_harmless_samples() {
    let house = House::open().await;
    for stream in ["a", "b"] {
        let rejects = [RejectReason::Empty, RejectReason::InvalidJson, RejectReason::Empty].map(reject);
        house.sources.status.stream(stream).cleaned(&ShardId::new("shardId-1"), 0, &rejects, &CleanCounts::default());
    }
    let (_, all) = house.json("/api/rejects").await;
    assert_eq!(all["streams"].as_array().unwrap().iter().map(|stream| &stream["rejects"]).collect::<Vec<_>>(), [3, 3]);
    let (_, one) = house.json("/api/rejects?stream=b&reason=empty").await;
    let stream = &one["streams"][0];
    assert_eq!(
        (&stream["stream"], &stream["rejects"], &stream["reasons"][0]["count"]),
        (&json!("b"), &json!(2), &json!(2))
    );
    let sample = &stream["reasons"][0]["samples"][0];
    assert_eq!(sample["payload"], json!("<b>no \\u{1b} JSON</b>"));
    assert_eq!((&sample["sequence_number"], &sample["arrived_ms"]), (&json!("7"), &json!(60_000)));
    let (status, body) = house.json("/api/rejects?stream=c").await;
    assert_eq!((status, &body["streams"]), (StatusCode::NOT_FOUND, &json!(["a", "b"])));
    assert_eq!(house.json("/api/rejects?reason=because").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn shards_are_a_family_tree_with_owners() {
    let house = House::open().await;
    let board = house.sources.status.stream("a");
    let tree = [
        ("s-0", "ended", vec!["gone"]),
        ("s-1", "ended", vec![]),
        ("s-2", "reading", vec!["s-0"]),
        ("s-3", "fenced", vec!["s-1", "s-2"]),
    ];
    for (shard, state, parents) in tree {
        let parents = parents.into_iter().map(ShardId::new).collect();
        board.shard(&ShardId::new(shard), |status| (status.state, status.parents) = (state, parents));
    }
    let (_, shards) = house.json("/api/shards").await;
    let shards = shards["streams"][0]["shards"].as_array().unwrap().clone();
    let found: Vec<Value> =
        shards.iter().map(|it| json!([it["shard"], it["generation"], it["children"], it["owner"]])).collect();
    let expected = [
        json!(["s-0", 0, ["s-2"], null]),
        json!(["s-1", 0, ["s-3"], null]),
        json!(["s-2", 1, ["s-3"], "self"]),
        json!(["s-3", 2, [], "another"]),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_wrong_question_about_windows_is_told_what_is_right() {
    let (house, _) = house_with_words().await;
    let (status, body) = house.json("/api/windows?window=words_by_king").await;
    assert_eq!((status, &body["windows"]), (StatusCode::NOT_FOUND, &json!(["words_by_kind", "words"])));
    assert!(body["error"].as_str().unwrap().contains("words_by_king"), "{body}");

    for (query, told) in [
        ("starts=ten", "starts=10"),
        ("rows=-1", "rows=10"),
        ("start=1", "starts, rows and format"),
        ("since=yesterday", "2026-01-31T08:00:00Z"),
        ("since=2026-01-31T09:00:00+01:00", "write %2B"),
        ("until=2026-01-31%2009:00:00+01:00", "write %2B"),
        ("rows=1&rows=2", "more than once"),
        ("format=xml", "neither json nor csv"),
        ("format=csv", "window=NAME"),
        ("key.king=noun", "grouped by"),
        ("window=words&key.kind=noun", "grouped by"),
    ] {
        let (status, body) = house.json(&format!("/api/windows?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(body["error"].as_str().unwrap().contains(told), "{query}: {body}");
    }
}

#[tokio::test]
async fn a_parameter_that_would_do_nothing_is_refused_everywhere() {
    let house = House::open().await;
    for (path, _) in routes().iter().filter(|(path, _)| path.starts_with("/api/")) {
        for query in ["starts=1&rows=1&limit=5", "limit"] {
            let (status, body) = house.json(&format!("{path}?{query}")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path}?{query}");
            assert!(body["error"].as_str().unwrap().contains("is not a parameter of this endpoint"), "{path}: {body}");
        }
    }
}

#[tokio::test]
async fn markup_in_keys_travels_as_data() {
    let mut sources = sources();
    let windows = Arc::new(StreamWindows::new("a", Arc::new(contract()), sources.registry.stream("a")));
    let nasty = "</script><script>alert(\"1\")</script>";
    windows.observe(&batch(1, &[(nasty, 0)])).unwrap();
    sources.windows.push(windows);
    let house = House::open_with(sources).await;
    house.sources.status.stream(nasty).trouble("lake", nasty);

    let (_, body) = house.json("/api/windows").await;
    assert_eq!(body[0]["starts"][0]["rows"][0]["key"], json!([nasty]));
    let (_, body) = house.json("/api/summary").await;
    assert_eq!(body["streams"][0]["trouble"]["lake"], json!(nasty));
    assert!(!house.get("/").await.text().await.unwrap().contains("alert("), "the page itself holds no data");
}

#[tokio::test]
async fn the_page_runs_only_its_own_script() {
    let house = House::open().await;
    let (first, second) = (house.get("/").await, house.get("/").await);
    assert_eq!(header(&first, "content-type"), "text/html; charset=utf-8");
    let policy = header(&first, "content-security-policy").to_owned();
    assert_ne!(policy, header(&second, "content-security-policy"), "a nonce is used once");
    let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    let page = first.text().await.unwrap();
    assert_eq!(page.matches("<script").count(), page.matches(&format!("<script nonce=\"{nonce}\">")).count());
    assert_eq!(page.matches("<style").count(), page.matches(&format!("<style nonce=\"{nonce}\">")).count());
    for outside in ["innerHTML", "src=\"http", "href=\"http", "@import", " style=\"", "onclick="] {
        assert!(!page.contains(outside), "{outside}");
    }
}

// === What holds for every request ===

#[tokio::test]
async fn every_listed_endpoint_answers_get_and_head_with_safe_headers() {
    let house = House::open().await;
    house.sources.status.stream("a").resolved("start");
    let (status, body) = house.json("/api/nothing").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let endpoints = body["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), routes().len());
    for endpoint in endpoints {
        let path = endpoint.as_str().unwrap().split('?').next().unwrap();
        for method in [Method::GET, Method::HEAD] {
            let response = house.ask(method, path).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{path}");
            assert_eq!(header(&response, "cache-control"), "no-store", "{path}");
            assert!(header(&response, "content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        }
    }
}

#[tokio::test]
async fn whatever_would_change_something_or_is_too_much_is_refused() {
    let house = House::open().await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let response = house.ask(method.clone(), "/api/summary").await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(header(&response, "allow"), "GET, HEAD");
    }
    let with_body = house.client.get(format!("{}/livez", house.url)).body("x").send().await.unwrap();
    assert_eq!(with_body.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let long = format!("/api/windows?window={}", "w".repeat(SERVE_URI_BYTES_MAX));
    assert_eq!(house.get(&long).await.status(), StatusCode::URI_TOO_LONG);
}

#[tokio::test]
async fn on_loopback_only_the_machines_own_names_are_answered() {
    let house = House::open().await;
    for host in ["localhost", "localhost:9464", "127.0.0.1:1", "[::1]:9464"] {
        assert!(house.status_line(&format!("Host: {host}\r\n")).await.ends_with("200 OK"), "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:9464", "127.0.0.1.evil.example", "192.168.0.1"] {
        assert!(house.status_line(&format!("Host: {host}\r\n")).await.ends_with("403 Forbidden"), "{host}");
    }
    assert!(house.status_line("").await.ends_with("403 Forbidden"), "no name at all");
}

#[tokio::test]
async fn on_a_public_address_every_name_is_answered() {
    let server = Server::bind("0.0.0.0:0".parse().unwrap(), Access::default(), sources()).await.unwrap();
    let port = server.local_addr().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(CancellationToken::new()));
    let request = Client::new().get(format!("http://127.0.0.1:{port}/livez")).header("host", "pintail.internal");
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
}

// === Connections ===

#[tokio::test]
async fn an_address_in_use_is_named() {
    let house = House::open().await;
    let error = Server::bind(house.address, Access::default(), sources()).await.unwrap_err();
    assert!(error.to_string().contains(&house.address.to_string()), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn shutdown_waits_neither_for_idle_nor_for_stuck_clients() {
    let mut house = House::open().await;
    let mut silent = TcpStream::connect(house.address).await.unwrap();
    let mut halfway = TcpStream::connect(house.address).await.unwrap();
    halfway.write_all(b"GET /livez HTTP/1.1\r\nHost: local").await.unwrap();
    // The client keeps its connection for the next request.
    assert_eq!(house.get("/livez").await.status(), StatusCode::OK);

    house.cancel.cancel();
    timeout(SOON, house.tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    for stream in [&mut silent, &mut halfway] {
        let mut rest = Vec::new();
        // Closed or reset, but over.
        timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().ok();
    }
}

const HALF_A_HEAD: &[u8] = b"GET /livez HTTP/1.1\r\nHost: local";

#[tokio::test]
async fn clients_that_never_finish_asking_do_not_keep_others_out() {
    let house = House::open().await;
    let mut slow = Vec::new();
    for _ in 0..=SERVE_CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        stream.write_all(HALF_A_HEAD).await.unwrap();
        slow.push(stream);
    }
    // Sooner than any of them is given up on.
    let answer = timeout(SERVE_HEAD_MAX / 2, house.get("/livez")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_oldest_idle_connection_gives_way_and_the_younger_stay() {
    let house = House::open().await;
    let mut held = Vec::new();
    for _ in 0..SERVE_CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        asks_and_is_answered(&mut stream).await;
        held.push(stream);
    }
    // The first is now the youngest, and the second the oldest.
    asks_and_is_answered(&mut held[0]).await;
    assert_eq!(timeout(SERVE_HEAD_MAX / 2, house.get("/livez")).await.unwrap().status(), StatusCode::OK);
    timeout(SOON, held.remove(1).read_to_end(&mut Vec::new())).await.unwrap().ok();
    for stream in &mut held {
        asks_and_is_answered(stream).await;
    }
}

async fn asks_and_is_answered(stream: &mut TcpStream) {
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"{\"live\":true}") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed");
    }
}

#[tokio::test]
async fn clients_that_are_being_answered_do_not_give_way() {
    let (asked, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (count, wait) = (Arc::clone(&asked), Arc::clone(&gate));
    let slow = move || async move {
        count.add_permits(1);
        wait.acquire().await.unwrap().forget();
        "at last"
    };
    let router = Router::new().route("/slow", get(slow)).route("/quick", get(async || "at once"));
    let (address, _tasks) = serving(router, PATIENCE).await;
    let mut held = Vec::new();
    for _ in 0..SERVE_CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        held.push(stream);
    }
    asked.acquire_many(SERVE_CONNECTIONS_MAX as u32).await.unwrap().forget();
    let mut quick = pin!(Client::new().get(format!("http://{address}/quick")).send());
    assert!(timeout(Duration::from_millis(200), &mut quick).await.is_err());
    // One answer goes out; its connection is then idle and gives way.
    gate.add_permits(1);
    assert_eq!(timeout(SOON, quick).await.unwrap().unwrap().status(), StatusCode::OK);
    gate.add_permits(SERVE_CONNECTIONS_MAX);
    for mut stream in held {
        let mut answer = Vec::new();
        while !answer.ends_with(b"at last") {
            assert!(timeout(SOON, stream.read_buf(&mut answer)).await.unwrap().unwrap() > 0, "closed");
        }
    }
}

/// A router behind the connections' rules.
async fn serving(router: Router, patience: Patience) -> (SocketAddr, JoinSet<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Connections::new(listener, patience, CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(axum::serve(connections, with_lines(router)).into_future());
    (address, tasks)
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let patience = Patience { silence_max: Duration::from_millis(50), head_max: 10 * SOON, answer_max: SOON };
    let (address, _tasks) = serving(Router::new(), patience).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HALF_A_HEAD).await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().ok();
    assert_eq!(rest, b"", "closed without an answer");
}

#[tokio::test]
async fn a_head_that_trickles_in_is_closed_however_steadily_it_does() {
    let (address, _tasks) = serving(
        Router::new().route("/", get(async || "")),
        Patience { silence_max: 10 * SOON, head_max: Duration::from_millis(500), answer_max: SOON },
    )
    .await;
    let (mut reads, mut writes) = TcpStream::connect(address).await.unwrap().into_split();
    // The deadline holds for later requests of a connection too.
    writes.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(reads.read(&mut [0; 1024]).await.unwrap() > 0);
    writes.write_all(HALF_A_HEAD).await.unwrap();
    let trickle = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while writes.write_all(b"l").await.is_ok() {
            ticks.tick().await;
        }
    };
    let mut rest = Vec::new();
    let closed = async { tokio::join!(trickle, reads.read_to_end(&mut rest)) };
    timeout(SOON, closed).await.unwrap().1.ok();
    assert_eq!(rest, b"", "closed without an answer");
}

#[tokio::test]
async fn the_deadline_for_asking_does_not_hurry_the_answer_or_the_next_question() {
    let head_max = Duration::from_millis(250);
    let slow = async move || {
        tokio::time::sleep(2 * head_max).await;
        "at last"
    };
    let patience = Patience { silence_max: 10 * SOON, head_max, answer_max: SOON };
    let (address, _tasks) = serving(Router::new().route("/", get(slow)), patience).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"at last") {
            assert!(timeout(SOON, stream.read_buf(&mut answer)).await.unwrap().unwrap() > 0, "closed");
        }
        tokio::time::sleep(2 * head_max).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_read_a_little_at_a_time_is_not_held_for_ever() {
    let large = async || vec![b'x'; 64 << 20];
    let patience = Patience { silence_max: 10 * SOON, head_max: SOON, answer_max: Duration::from_millis(300) };
    let (address, _tasks) = serving(Router::new().route("/", get(large)), patience).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // At first a little at a time; then what the kernel holds already, at once.
    let (mut ticks, mut read, mut some) = (tokio::time::interval(Duration::from_millis(5)), 0, vec![0; 1 << 20]);
    for turn in 0.. {
        let length = if turn < 200 { 1024 } else { some.len() };
        match timeout(SOON, stream.read(&mut some[..length])).await.unwrap() {
            Ok(more @ 1..) => read += more,
            Ok(0) | Err(_) => break,
        }
        if turn < 200 {
            ticks.tick().await;
        }
    }
    assert!(read < 64 << 20, "{read} bytes");
}
