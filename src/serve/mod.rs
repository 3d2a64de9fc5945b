//! The serve room: what the process is doing, over HTTP, for Prometheus, for scripts and for people.
//!
//! It only looks. Nothing here decides or changes anything, so every answer to a reader is a copy made at that
//! moment, and the server may be stopped last: health still answers while the rest drains. Once [`Server::run`]
//! has returned, no connection of it is left, whatever its clients do.
//!
//! | endpoint | answer |
//! |---|---|
//! | `/` | the live page; `/?token=` lets a browser in where a token is needed |
//! | `/metrics` | Prometheus text |
//! | `/livez` | 200 as long as the process answers |
//! | `/readyz` | 200 if every stream reads and commits, else 503; JSON with every stream's troubles |
//! | `/api/summary` | totals, shards and tables of every stream |
//! | `/api/shards` | every stream's shards: state, owner, parents and children, position, how far behind |
//! | `/api/tables` | every stream's tables: rows, files, bytes, last commit |
//! | `/api/history` | two minutes of totals, one sample a second: `[epoch ms, records, bytes]` |
//! | `/api/rejects` | counts by stream and reason, with the last few of each |
//! | `/api/windows` | the live windows, by window, key and time, as JSON or CSV |
//! | `/api/sealed` | the newest sealed windows, by window, key and time, as JSON or CSV |
//! | `/api/stream` | all of it as server-sent events: what feeds the live page |
//! | `/api/openapi.json` | all of the above, for machines |
//!
//! GET and HEAD only. Times are epoch milliseconds, spans milliseconds, sizes bytes.

mod access;
mod api;
mod connections;
mod csv;
mod error;
mod feed;
mod grafana_live;
mod guard;
mod history;
mod large;
mod line;
mod page;
mod questions;
mod views;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{MethodRouter, get};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::limits::{SERVE_ANSWER_MAX, SERVE_GRACE, SERVE_HEAD_MAX, SERVE_LOOKS_MAX, SERVE_SILENCE_MAX};
use crate::metrics::Registry;
use crate::status::StatusBoard;
use crate::window::StreamWindows;
pub use access::{Access, Token};
pub use grafana_live::{GrafanaLive, GrafanaLiveConfig};

use connections::{Connections, Patience};
use feed::Feed;
use guard::Guard;
use history::History;
use large::LargeAnswers;
use line::with_lines;

/// What the server shows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The numbers behind `/metrics`.
    pub registry: Registry,
    /// Readiness, shards and tables.
    pub status: StatusBoard,
    /// The live windows of every stream, in the order in which they are shown.
    pub windows: Vec<Arc<StreamWindows>>,
    /// How many keys of each window `/metrics` shows.
    pub window_series_max: usize,
    /// The pipeline's name.
    pub pipeline: String,
    /// When the process started, epoch ms.
    pub started_ms: i64,
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen}; is something else using it? Another address goes into `[serve] listen`")]
pub struct BindError {
    listen: SocketAddr,
    #[source]
    source: io::Error,
}

/// A bound server that does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    access: Access,
    shared: Shared,
}

impl Server {
    /// Takes the address, so that a wrong one fails before anything else starts. Port 0 = any free one.
    pub async fn bind(listen: SocketAddr, access: Access, sources: Sources) -> Result<Self, BindError> {
        let failed = |source| BindError { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, local_addr, access, shared: Shared::new(sources) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers until `cancel`, then finishes the answers under way. Connections that are still open a moment later
    /// are cut: a slow reader must not hold up the exit.
    pub async fn run(self, cancel: CancellationToken) -> io::Result<()> {
        let cut = CancellationToken::new();
        let _cut_when_dropped = cut.clone().drop_guard();
        let shared = self.shared;
        let status = shared.sources.status.clone();
        let (history, feed) = (shared.history.clone(), shared.feed.clone());
        let feeding = feed.run(shared.clone(), cancel.clone());
        let service = with_lines(router(shared, Guard::of(self.local_addr, self.access)));
        let patience =
            Patience { silence_max: SERVE_SILENCE_MAX, head_max: SERVE_HEAD_MAX, answer_max: SERVE_ANSWER_MAX };
        let connections = Connections::new(self.listener, patience, cut.clone());
        let served = axum::serve(connections, service).with_graceful_shutdown(cancel.clone().cancelled_owned());
        let mut served = pin!(served.into_future());
        let overdue = async {
            cancel.cancelled().await;
            tokio::time::sleep(SERVE_GRACE).await;
        };
        tokio::select! {
            result = &mut served => return result,
            () = overdue => cut.cancel(),
            never = history.keep(&status) => never,
            never = feeding => never,
        }
        served.await
    }
}

/// What a handler sees.
#[derive(Debug, Clone)]
struct Shared {
    sources: Arc<Sources>,
    history: History,
    feed: Feed,
    /// Looking at the windows copies them; only so many looks at once.
    looks: Arc<Semaphore>,
    large: LargeAnswers,
}

impl Shared {
    fn new(sources: Sources) -> Self {
        let looks = Arc::new(Semaphore::new(SERVE_LOOKS_MAX));
        let (history, feed, large) = (History::default(), Feed::default(), LargeAnswers::default());
        Self { sources: Arc::new(sources), history, feed, looks, large }
    }
}

/// Every path there is, each in `openapi.json` and in [`error::ENDPOINTS`].
fn routes() -> [(&'static str, MethodRouter<Shared>); 13] {
    [
        ("/", get(page::page)),
        ("/metrics", get(api::metrics)),
        ("/livez", get(api::livez)),
        ("/readyz", get(api::readyz)),
        ("/api/summary", get(api::summary)),
        ("/api/shards", get(api::shards)),
        ("/api/tables", get(api::tables)),
        ("/api/history", get(api::history)),
        ("/api/rejects", get(api::rejects)),
        ("/api/windows", get(api::windows)),
        ("/api/sealed", get(api::sealed)),
        ("/api/stream", get(api::stream)),
        ("/api/openapi.json", get(api::openapi)),
    ]
}

fn router(shared: Shared, guard: Guard) -> Router {
    let routes = routes().into_iter();
    let router = routes.fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    let guarded = middleware::from_fn_with_state(guard, guard::guard);
    router.fallback(api::not_found).with_state(shared).layer(guarded)
}

#[cfg(test)]
mod tests;
