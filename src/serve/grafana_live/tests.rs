//! Against an HTTP server that answers as it is told.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::metrics::Registry;
use crate::serve::tests::{batch, contract};

#[derive(Debug, Default, Clone)]
struct Grafana {
    /// What it answers, in order; then always 200.
    answers: Arc<Mutex<VecDeque<StatusCode>>>,
    /// Path, `Authorization` and body of every request.
    got: Arc<Mutex<Vec<(String, String, String)>>>,
}

impl Grafana {
    async fn start(answers: &[StatusCode]) -> (Self, Url, JoinSet<()>) {
        let grafana = Self { answers: Arc::new(Mutex::new(answers.iter().copied().collect())), ..Self::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/grafana/", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(post(Self::take)).with_state(grafana.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (grafana, url, tasks)
    }

    async fn take(State(grafana): State<Self>, uri: Uri, headers: HeaderMap, body: String) -> StatusCode {
        let token = headers[AUTHORIZATION].to_str().unwrap().to_owned();
        grafana.got.lock().unwrap_or_else(PoisonError::into_inner).push((uri.path().to_owned(), token, body));
        grafana.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(StatusCode::OK)
    }

    fn got(&self) -> Vec<(String, String, String)> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Stage {
    windows: Arc<StreamWindows>,
    registry: Registry,
    live: GrafanaLive,
    token: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new(url: Url) -> Self {
        let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::new().unwrap());
        let token = folder.path().join("token");
        std::fs::write(&token, "glsa_secret\n").unwrap();
        let windows = Arc::new(StreamWindows::new("a", Arc::new(contract()), registry.stream("a")));
        let interval = Duration::from_millis(100);
        let config = GrafanaLiveConfig { url, token_file: token.clone(), interval };
        let live = GrafanaLive::new(config, vec![Arc::clone(&windows)], 10, registry.grafana_live()).unwrap();
        Self { windows, registry, live, token, _folder: folder }
    }

    /// A word that is in the running start, also if the minute turns meanwhile.
    fn observe(&self, number: u64, kind: &str) {
        let now = now_ms();
        self.windows.observe(&batch(number, &[(kind, now), (kind, now + 60_000)])).unwrap();
    }

    fn pushes(&self, result: &str) -> bool {
        self.registry.render().contains(&format!("pintail_grafana_live_pushes_total{{result=\"{result}\"}} 1\n"))
    }
}

#[tokio::test]
async fn a_window_is_pushed_when_it_has_changed_and_only_then() {
    let (grafana, url, _server) = Grafana::start(&[]).await;
    let mut stage = Stage::new(url);
    stage.live.push().await;
    assert_eq!(grafana.got(), [], "nothing to tell");
    stage.observe(1, "a noun");
    stage.live.push().await;
    stage.live.push().await;
    let got = grafana.got();
    assert_eq!(got.len(), 1, "{got:?}");
    let (path, token, body) = &got[0];
    assert_eq!((path.as_str(), token.as_str()), ("/grafana/api/live/push/pintail", "Bearer glsa_secret"));
    assert!(body.starts_with("words_by_kind,stream=a,key=a\\ noun words=1,letters=6 "), "{body}");
    assert!(body.contains("\nwords,stream=a,key=(all) words=1,letters=6 "), "{body}");
    stage.observe(2, "verb");
    stage.live.push().await;
    assert_eq!(grafana.got().len(), 2);
}

#[tokio::test]
async fn a_grafana_that_refuses_is_counted_and_gets_the_newest_picture_when_it_takes_it() {
    let (grafana, url, _server) = Grafana::start(&[StatusCode::UNAUTHORIZED]).await;
    let mut stage = Stage::new(url);
    stage.observe(1, "noun");
    assert_eq!(stage.live.push().await, GRAFANA_LIVE_RETRY);
    assert!(stage.pushes("failed") && !stage.pushes("ok"));
    std::fs::write(&stage.token, "glsa_new").unwrap();
    stage.observe(2, "verb");
    stage.live.push().await;
    assert!(stage.pushes("ok"));
    let (_, token, body) = grafana.got().pop().unwrap();
    assert_eq!(token, "Bearer glsa_new");
    assert!(body.contains("key=noun ") && body.contains("key=verb "), "{body}");
}

#[tokio::test]
async fn one_that_is_away_costs_a_count_and_the_words_do_not_hold_the_token() {
    let mut stage = Stage::new("http://127.0.0.1:1".parse().unwrap());
    stage.observe(1, "noun");
    assert_eq!(stage.live.push().await, GRAFANA_LIVE_RETRY);
    assert!(stage.pushes("failed"));
    let error = stage.live.send("x".to_owned()).await.unwrap_err();
    let words = format!("{} {error:?} {:?}", chain(&error), stage.live);
    assert!(words.contains("cannot be reached") && !words.contains("glsa"), "{words}");
    std::fs::write(&stage.token, "two\nlines").unwrap();
    assert!(matches!(stage.live.send("x".to_owned()).await, Err(PushError::NoToken { .. })));
    std::fs::remove_file(&stage.token).unwrap();
    assert!(matches!(stage.live.send("x".to_owned()).await, Err(PushError::TokenFile { .. })));
}

#[tokio::test]
async fn it_runs_until_it_is_told_to_stop() {
    let (grafana, url, _server) = Grafana::start(&[]).await;
    let stage = Stage::new(url);
    stage.observe(1, "noun");
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(stage.live.run(stop.clone()));
    while grafana.got().is_empty() {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.join_next().await.unwrap().unwrap();
}
