//! `/api/stream` as a page meets it.

use super::*;
use crate::limits::{SERVE_STREAM_EVENTS_MAX, SERVE_STREAMS_MAX};
use crate::serve::feed::{Seen, Shown};
use crate::serve::line::Line;

/// A page that is fed.
pub struct Events {
    response: Response,
    text: String,
}

impl Events {
    /// The next event's name and data.
    pub async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (name, data) = event.split_once('\n').unwrap();
                let name = name.strip_prefix("event: ").unwrap().to_owned();
                let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                self.text = rest.to_owned();
                return (name, data);
            }
            let bytes = timeout(SOON, self.response.chunk()).await.unwrap().unwrap().expect("the stream ended");
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    pub async fn next_of(&mut self, wanted: &str) -> Value {
        loop {
            let (name, data) = self.next().await;
            if name == wanted {
                return data;
            }
        }
    }
}

/// Opens a page on the house.
pub async fn fed(house: &House) -> Events {
    let response = house.get("/api/stream").await;
    assert_eq!((response.status(), header(&response, "content-type")), (StatusCode::OK, "text/event-stream"));
    Events { response, text: String::new() }
}

#[tokio::test]
async fn a_page_gets_everything_first_and_then_only_what_changed() {
    let (house, windows) = house_with_words().await;
    house.sources.status.stream("a");
    let mut page = fed(&house).await;
    let (name, hello) = page.next().await;
    assert_eq!(name, "hello");
    assert_eq!(hello["windows"], serde_json::to_value(windows.live(&LiveFilter::default())).unwrap());
    assert_eq!(hello["summary"]["pipeline"], json!("test"));

    windows.observe(&batch(3, &[("noun", 60_002)])).unwrap();
    let changes = page.next_of("windows").await;
    let change = &changes[0];
    assert_eq!((&change["window"], &change["shown"]), (&json!("words_by_kind"), &json!([120_000, 60_000, 0])));
    let starts = change["starts"].as_array().unwrap();
    assert_eq!(starts.len(), 1, "{starts:?}");
    assert_eq!((&starts[0]["start_ms"], &starts[0]["records"]), (&json!(60_000), &json!(3)));

    house.sources.status.stream("a").trouble("lake", "away");
    while page.next_of("summary").await["streams"][0]["trouble"]["lake"] != json!("away") {}
}

#[tokio::test]
async fn records_of_the_future_do_not_take_the_place_of_now() {
    let (house, windows) = house_with_words().await;
    let now = now_ms();
    let later: Vec<_> = (1..=20).map(|days| ("noun", now + days * 86_400_000)).collect();
    windows.observe(&batch(3, &[&[("verb", now)], later.as_slice()].concat())).unwrap();
    let (_, hello) = fed(&house).await.next().await;
    let window = &hello["windows"][0];
    let starts: Vec<i64> =
        window["starts"].as_array().unwrap().iter().map(|it| it["start_ms"].as_i64().unwrap()).collect();
    assert_eq!(starts, [now / 60_000 * 60_000, 120_000, 60_000, 0]);
    assert_eq!(window["ahead"], json!({ "starts": 20, "records": 20 }));
    let (_, newest) = house.json("/api/windows?window=words&starts=1").await;
    assert_eq!(newest[0]["starts"][0]["start_ms"], json!(starts[0]), "as the page has it");
}

#[tokio::test]
async fn only_so_many_pages_are_fed_and_one_that_leaves_makes_room() {
    let house = House::open().await;
    let mut pages = Vec::new();
    for _ in 0..SERVE_STREAMS_MAX {
        pages.push(fed(&house).await);
    }
    let refused = house.get("/api/stream").await;
    assert_eq!((refused.status(), header(&refused, "retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "30"));
    assert_eq!(house.get("/livez").await.status(), StatusCode::OK);
    pages.pop();
    while house.get("/api/stream").await.status() != StatusCode::OK {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_page_that_does_not_take_its_events_is_cut_off() {
    let (feed, close, shared) = (Feed::default(), CancellationToken::new(), Shared::new(sources()));
    let answer = feed.join(Line::open(PATIENCE, close.clone(), Arc::default())).unwrap();
    let mut shown = Shown::default();
    for _ in 0..SERVE_STREAM_EVENTS_MAX {
        feed.send(&Seen::of(&shared.sources, 0, true), &mut shown, &shared.history, true);
        assert!(!close.is_cancelled() && feed.feeding() == 1);
    }
    feed.send(&Seen::of(&shared.sources, 0, true), &mut shown, &shared.history, true);
    assert!(close.is_cancelled() && feed.feeding() == 0);
    drop(answer);
    let others: Vec<_> = (0..SERVE_STREAMS_MAX).map(|_| Line::open(PATIENCE, close.clone(), Arc::default())).collect();
    let answers: Vec<_> = others.into_iter().map(|line| feed.join(line).unwrap()).collect();
    assert!(feed.join(Line::open(PATIENCE, close, Arc::default())).is_err(), "{} are fed", answers.len());
}

#[tokio::test]
async fn pages_that_are_fed_do_not_hold_up_the_end() {
    let mut house = House::open().await;
    let mut page = fed(&house).await;
    page.next_of("hello").await;
    house.cancel.cancel();
    timeout(SOON, house.tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
}
