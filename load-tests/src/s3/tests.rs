//! The server as object_store's client, which Pintail uses, finds it.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, PutResult,
    RetryConfig, UpdateVersion,
};

use super::*;

/// A client that asks once and reports what it got.
fn impatient(server: &S3Server, timeout: Duration) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_bucket_name(BUCKET)
        .with_region("us-east-1")
        .with_endpoint(server.endpoint())
        .with_allow_http(true)
        .with_access_key_id("local")
        .with_secret_access_key("local")
        .with_client_options(ClientOptions::new().with_allow_http(true).with_timeout(timeout))
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .build()
        .unwrap()
}

async fn server() -> (S3Server, AmazonS3) {
    let server = S3Server::start().await.unwrap();
    let client = impatient(&server, Duration::from_secs(20));
    (server, client)
}

async fn create(client: &AmazonS3, key: &str, text: &str) -> object_store::Result<PutResult> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    client.put_opts(&Path::from(key), PutPayload::from(text.to_owned()), options).await
}

async fn text(client: &AmazonS3, key: &str) -> object_store::Result<String> {
    let bytes = client.get(&Path::from(key)).await?.bytes().await?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

fn puts_of(key: &'static str) -> impl Fn(&Request<'_>) -> bool + Send + Sync + 'static {
    move |request| request.verb == Verb::Put && request.key == key
}

// === What S3 promises ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_create_one_key_exactly_one_succeeds() {
    let (server, client) = server().await;
    for round in 0..5 {
        let key = format!("tables/race {round}");
        let racers = (0..16).map(|racer| {
            let (client, key) = (client.clone(), key.clone());
            async move { create(&client, &key, &racer.to_string()).await.map(|_| racer) }
        });
        let ended: Vec<_> = futures::future::join_all(racers).await;
        let (won, lost): (Vec<_>, Vec<_>) = ended.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        for lost in lost {
            assert!(matches!(lost, Err(object_store::Error::AlreadyExists { .. })), "{lost:?}");
        }
        let winner = won[0].as_ref().unwrap().to_string();
        assert_eq!(server.get(&key).unwrap(), winner, "what lies there is the winner's");
    }
}

#[tokio::test]
async fn an_object_is_replaced_only_by_who_knows_its_etag() {
    let (_server, client) = server().await;
    let first = create(&client, "a", "1").await.unwrap();
    let update = |version: &PutResult| PutOptions {
        mode: PutMode::Update(UpdateVersion { e_tag: version.e_tag.clone(), version: None }),
        ..PutOptions::default()
    };
    let second = client.put_opts(&Path::from("a"), "2".into(), update(&first)).await.unwrap();
    let stale = client.put_opts(&Path::from("a"), "3".into(), update(&first)).await;
    assert!(matches!(stale, Err(object_store::Error::Precondition { .. })), "{stale:?}");
    assert_eq!(text(&client, "a").await.unwrap(), "2");
    assert_eq!(client.head(&Path::from("a")).await.unwrap().e_tag, second.e_tag);
}

#[tokio::test]
async fn ranges_heads_and_missing_keys_answer_as_s3_does() {
    let (server, client) = server().await;
    server.put("tables/_date=2026-01-02/x", Bytes::from_static(b"0123456789"));
    let path = Path::from("tables/_date=2026-01-02/x");
    assert_eq!(client.get_range(&path, 2..5).await.unwrap(), "234");
    let tail = GetOptions { range: Some(GetRange::Suffix(3)), ..GetOptions::default() };
    assert_eq!(client.get_opts(&path, tail).await.unwrap().bytes().await.unwrap(), "789");
    let meta = client.head(&path).await.unwrap();
    assert_eq!((meta.size, meta.e_tag.is_some()), (10, true));
    server.age("tables/", Duration::from_secs(3600));
    let aged = client.head(&path).await.unwrap();
    assert_eq!((meta.last_modified - aged.last_modified).num_seconds(), 3600);
    assert!(matches!(client.head(&Path::from("y")).await, Err(object_store::Error::NotFound { .. })));
    assert!(matches!(client.get(&Path::from("y")).await, Err(object_store::Error::NotFound { .. })));
}

#[tokio::test]
async fn a_listing_of_many_pages_is_whole_and_starts_where_it_is_told() {
    let (server, client) = server().await;
    let keys: Vec<String> = (0..2_500).map(|n| format!("t/_delta_log/{n:020}.json")).collect();
    keys.iter().for_each(|key| server.put(key, Bytes::new()));
    let listings = server.faults().add(|request| request.verb == Verb::List, Fault::Count, None);
    let names = async |prefix: &str, after: &str| -> Vec<String> {
        let listed = client.list_with_offset(Some(&Path::from(prefix)), &Path::from(after));
        listed.map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
    };
    assert_eq!(names("t", "").await, keys);
    assert_eq!(server.faults().hits(listings), 3, "a page has 1000 keys");
    assert_eq!(names("t/_delta_log", &keys[1_100]).await, keys[1_101..]);

    server.put("t/a", Bytes::new());
    server.put("t/z/deep", Bytes::new());
    let level = client.list_with_delimiter(Some(&Path::from("t"))).await.unwrap();
    let folders: BTreeSet<_> = level.common_prefixes.iter().map(Path::to_string).collect();
    assert_eq!(folders, ["t/_delta_log", "t/z"].map(str::to_owned).into());
    assert_eq!(level.objects.len(), 1);
    let thousands = server.objects.list("t/", Some("/"), "", 1);
    let next = thousands.next.unwrap();
    assert_eq!(server.objects.list("t/", Some("/"), &next, 1).objects[0].0, "t/a");
}

#[tokio::test]
async fn deletes_and_uploads_in_parts_take_effect() {
    let (server, client) = server().await;
    let path = Path::from("tables/big");
    let mut upload = client.put_multipart(&path).await.unwrap();
    for part in ["a", "b"] {
        upload.put_part(part.repeat(5 << 20).into()).await.unwrap();
    }
    assert_eq!(server.get("tables/big"), None, "no reader sees it before it is whole");
    upload.complete().await.unwrap();
    let whole = server.get("tables/big").unwrap();
    assert_eq!((whole.len(), whole[(5 << 20) - 1], whole[5 << 20]), (10 << 20, b'a', b'b'));

    let mut dropped = client.put_multipart(&Path::from("tables/other")).await.unwrap();
    dropped.put_part("x".into()).await.unwrap();
    dropped.abort().await.unwrap();
    server.put("tables/small", Bytes::new());
    let paths = futures::stream::iter([path, Path::from("tables/small")].map(Ok)).boxed();
    let deleted: Vec<_> = client.delete_stream(paths).try_collect().await.unwrap();
    assert_eq!((deleted.len(), server.keys("")), (2, Vec::new()));
}

// === What goes wrong ===

#[tokio::test]
async fn a_refusal_is_answered_as_often_as_told_and_has_no_effect() {
    let (server, client) = server().await;
    let busy = Fault::Status { code: 503, s3_code: "SlowDown" };
    let rule = server.faults().add(puts_of("a"), busy, Some(2));
    for _ in 0..2 {
        let error = create(&client, "a", "1").await.unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("SlowDown"), "{error}");
        assert_eq!(server.get("a"), None);
    }
    create(&client, "a", "1").await.unwrap();
    assert_eq!(server.faults().hits(rule), 2);

    let denied = Fault::Status { code: 403, s3_code: "AccessDenied" };
    let rule = server.faults().add(|request| request.verb == Verb::Head, denied, None);
    assert!(client.head(&Path::from("a")).await.is_err());
    server.faults().remove(rule);
    client.head(&Path::from("a")).await.unwrap();
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_has_landed_and_a_dropped_one_has_not() {
    let (server, client) = server().await;
    server.faults().add(puts_of("landed"), Fault::StoreThenDrop, Some(1));
    server.faults().add(puts_of("not"), Fault::Drop, Some(1));
    assert!(create(&client, "landed", "1").await.is_err());
    assert!(create(&client, "not", "1").await.is_err());
    assert_eq!((server.get("landed").unwrap(), server.get("not")), (Bytes::from_static(b"1"), None));
    assert_eq!(server.cuts(), 2);

    // A client with retries asks again by itself, and is told that there is one: its own.
    server.faults().add(puts_of("again"), Fault::StoreThenDrop, Some(1));
    let patient = server.client().unwrap();
    let own = create(&patient, "again", "1").await;
    assert!(matches!(own, Err(object_store::Error::AlreadyExists { .. })), "{own:?}");

    let lied = Fault::StoreThenStatus { code: 500, s3_code: "InternalError" };
    server.faults().add(puts_of("lied"), lied, Some(1));
    assert!(create(&client, "lied", "1").await.is_err());
    assert!(server.get("lied").is_some());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_and_not_a_short_object() {
    let (server, client) = server().await;
    server.put("a", Bytes::from_static(b"0123456789"));
    server.faults().add(|request| request.verb == Verb::Get, Fault::HalfThenDrop, Some(1));
    assert!(text(&client, "a").await.is_err());
    assert_eq!(text(&client, "a").await.unwrap(), "0123456789");
}

#[tokio::test]
async fn a_stalled_request_is_never_answered_and_a_delayed_one_late() {
    let server = S3Server::start().await.unwrap();
    let client = impatient(&server, Duration::from_millis(200));
    let stall = server.faults().add(puts_of("a"), Fault::Stall, None);
    let error = create(&client, "a", "1").await.unwrap_err();
    assert!(format!("{error:?}").to_lowercase().contains("timeout"), "{error:?}");
    assert_eq!(server.get("a"), None);

    let patient = impatient(&server, Duration::from_secs(20));
    let stalled = create(&patient, "a", "1");
    tokio::pin!(stalled);
    let hits = || server.faults().hits(stall);
    tokio::select! {
        ended = &mut stalled => panic!("{ended:?}"),
        () = async { while hits() < 2 { tokio::task::yield_now().await } } => {}
    }
    server.faults().remove(stall);
    assert!(stalled.await.is_err(), "cut off when the stall ends");

    server.faults().add(puts_of("late"), Fault::Delay(Duration::from_millis(20)), Some(1));
    create(&patient, "late", "1").await.unwrap();
}

#[tokio::test]
async fn a_request_is_held_before_or_after_its_effect_until_released() {
    let (server, client) = server().await;
    for (key, at, there) in [("before", At::Before, false), ("after", At::After, true)] {
        let mut held = server.faults().hold(move |request| request.key == key, at);
        let put = create(&client, key, "1");
        tokio::pin!(put);
        tokio::select! {
            ended = &mut put => panic!("{ended:?}"),
            () = held.reached() => {}
        }
        assert_eq!(server.get(key).is_some(), there);
        held.release();
        put.await.unwrap();
        assert!(server.get(key).is_some());
        assert_eq!(text(&client, key).await.unwrap(), "1", "only one request is held");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_takes_its_parked_request_with_it() {
    let server = S3Server::start().await.unwrap();
    let client = impatient(&server, Duration::from_millis(200));
    let mut held = server.faults().hold(puts_of("a"), At::Before);
    let (put, ()) = tokio::join!(create(&client, "a", "1"), held.reached());
    assert!(put.is_err());
    // Its connection is gone before the next one is answered, or the answer would still be to come.
    crate::until("the parked request is gone", async || Ok(held.is_abandoned().then_some(()))).await.unwrap();
    held.release();
    create(&client, "b", "1").await.unwrap();
    assert_eq!(server.keys(""), ["b"]);
}

#[tokio::test]
async fn a_rule_for_deletes_sees_every_key_of_a_request() {
    let (server, client) = server().await;
    for key in ["a", "b"] {
        server.put(key, Bytes::new());
    }
    let denied = Fault::Status { code: 403, s3_code: "AccessDenied" };
    let of_b = |request: &Request<'_>| request.verb == Verb::Delete && request.key == "b";
    server.faults().add(of_b, denied, Some(1));
    let paths = || futures::stream::iter(["a", "b"].map(|key| Ok(Path::from(key)))).boxed();
    let all: Result<Vec<_>, _> = client.delete_stream(paths()).try_collect().await;
    assert!(all.is_err());
    assert_eq!(server.keys(""), ["a", "b"]);
    client.delete_stream(paths()).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(server.keys("").len(), 0);
}
