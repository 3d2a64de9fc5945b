//! What a connection is doing: whether it may give way to a new client, and by when its request must be whole.
//!
//! The bytes tell when a request begins and when an answer is out; only the server knows that a request is whole and
//! being answered. Both tell it here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use axum::Router;
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected, IntoMakeServiceWithConnectInfo};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::IncomingStream;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connections::{Connections, Patience};

/// A connection's state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Line(Arc<LineState>);

/// What a [`Line`] shares.
#[derive(Debug)]
pub struct LineState {
    phase: Mutex<Phase>,
    patience: Patience,
    close: CancellationToken,
    went_idle: Arc<Notify>,
    /// The place of a large answer, until it is out.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Between requests.
    Waiting { since: Instant },
    /// A request has begun. It is as old as the wait before it: bytes earn no younger place.
    Asking { since: Instant, due: Instant },
    /// A request is whole and has no answer yet.
    Answering,
    /// An answer is on its way, and in memory until all of it is out.
    Sending { due: Instant },
    /// An answer without an end is on its way. There are few of these, so that they need not give way.
    Streaming,
    /// Gave way to another.
    Closed,
}

impl Line {
    /// A new connection. It is expected to ask at once. `close` ends it; `went_idle` is told when it may be ended.
    pub fn open(patience: Patience, close: CancellationToken, went_idle: Arc<Notify>) -> Self {
        let since = Instant::now();
        let phase = Mutex::new(Phase::Asking { since, due: since + patience.head_max });
        Self(Arc::new(LineState { phase, patience, close, went_idle, place: Mutex::default() }))
    }

    /// Does not keep the state alive.
    pub fn downgrade(&self) -> Weak<LineState> {
        Arc::downgrade(&self.0)
    }

    /// Bytes came in.
    pub fn received(&self) {
        let mut phase = self.0.phase();
        if let Phase::Waiting { since } = *phase {
            *phase = Phase::Asking { since, due: Instant::now() + self.0.patience.head_max };
        }
    }

    /// A request is whole.
    fn answering(&self) {
        self.0.pass_to(Phase::Answering);
    }

    /// The answer goes on until somebody ends it; the connection is of no use afterwards.
    pub fn streaming(&self) {
        self.0.pass_to(Phase::Streaming);
    }

    /// Keeps the place of its answer until that is out.
    pub fn hold(&self, place: OwnedSemaphorePermit) {
        *self.0.place() = Some(place);
    }

    /// Ends the connection, whatever it is doing.
    pub fn cut(&self) {
        self.0.close.cancel();
    }

    /// Bytes are about to go out.
    pub fn sending(&self) {
        let is_begun = matches!(*self.0.phase(), Phase::Sending { .. });
        if !is_begun {
            self.0.pass_to(Phase::Sending { due: Instant::now() + self.0.patience.answer_max });
        }
    }

    /// All bytes so far went out.
    pub fn sent(&self) {
        let mut phase = self.0.phase();
        if let Phase::Sending { .. } = *phase {
            *phase = Phase::Waiting { since: Instant::now() };
            *self.0.place() = None;
            self.0.went_idle.notify_one();
        }
    }

    /// When the request that has begun must be whole, or the answer out.
    pub fn due(&self) -> Option<Instant> {
        match *self.0.phase() {
            Phase::Asking { due, .. } | Phase::Sending { due } => Some(due),
            Phase::Waiting { .. } | Phase::Answering | Phase::Streaming | Phase::Closed => None,
        }
    }
}

impl LineState {
    /// Since when it has asked for nothing, or not yet for something whole. `None` while it is being answered.
    pub fn idle_since(&self) -> Option<Instant> {
        match *self.phase() {
            Phase::Waiting { since } | Phase::Asking { since, .. } => Some(since),
            Phase::Answering | Phase::Sending { .. } | Phase::Streaming | Phase::Closed => None,
        }
    }

    /// Ends the connection unless it is being answered; false if it is.
    pub fn close_if_idle(&self) -> bool {
        let mut phase = self.phase();
        let idle = matches!(*phase, Phase::Waiting { .. } | Phase::Asking { .. });
        if idle {
            *phase = Phase::Closed;
            self.close.cancel();
        }
        idle
    }

    fn pass_to(&self, next: Phase) {
        let mut phase = self.phase();
        if !matches!(*phase, Phase::Streaming | Phase::Closed) {
            *phase = next;
        }
    }

    fn place(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected<IncomingStream<'_, Connections>> for Line {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.io().line().clone()
    }
}

/// Lets each connection's line know of its requests.
pub fn with_lines(router: Router) -> IntoMakeServiceWithConnectInfo<Router, Line> {
    router.layer(middleware::from_fn(note_request)).into_make_service_with_connect_info()
}

async fn note_request(ConnectInfo(line): ConnectInfo<Line>, request: Request, next: Next) -> Response {
    line.answering();
    next.run(request).await
}
