//! A bounded number of connections, none of which is kept without a purpose.
//!
//! The HTTP library neither counts connections nor gives up on silent ones, and a client that stops reading in the
//! middle of an answer would keep a shutdown waiting. Nor may a few clients that ask for nothing take the health
//! checks away from everyone else. All of it is settled where the bytes pass: a connection holds one of a fixed
//! number of slots, must ask within a deadline that no single byte moves, ends after a while of silence, gives way
//! to a new client while it asks for nothing, and ends at once when it is cut.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::line::{Line, LineState};
use crate::limits::SERVE_CONNECTIONS_MAX;

/// The listener. When all slots are taken, a new client gets that of the oldest idle connection, and waits if none
/// is idle.
#[derive(Debug)]
pub struct Connections {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    open: Vec<Weak<LineState>>,
    went_idle: Arc<Notify>,
    patience: Patience,
    cut: CancellationToken,
}

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Without a byte in either direction.
    pub silence_max: Duration,
    /// From a request's first byte, or from the opening, to the end of the request's head.
    pub head_max: Duration,
    /// From an answer's first byte to its last; one without an end has no end.
    pub answer_max: Duration,
}

impl Connections {
    /// Every connection ends when it exceeds `patience`, and when `cut` is cancelled.
    pub fn new(listener: TcpListener, patience: Patience, cut: CancellationToken) -> Self {
        let slots = Arc::new(Semaphore::new(SERVE_CONNECTIONS_MAX));
        Self { listener, slots, open: Vec::new(), went_idle: Arc::default(), patience, cut }
    }

    /// A free slot; always comes in the end, since the semaphore is never closed.
    async fn slot(&mut self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        let mut freed = pin!(Arc::clone(&self.slots).acquire_owned());
        while !self.close_oldest_idle() {
            tokio::select! {
                slot = &mut freed => return slot.ok(),
                () = self.went_idle.notified() => {}
            }
        }
        freed.await.ok()
    }

    /// False if no connection is idle.
    fn close_oldest_idle(&mut self) -> bool {
        self.open.retain(|line| line.strong_count() > 0);
        loop {
            let lines = self.open.iter().filter_map(Weak::upgrade);
            let idle = lines.filter_map(|line| Some((line.idle_since()?, line)));
            let Some((_, oldest)) = idle.min_by_key(|(since, _)| *since) else { return false };
            // It may have asked just now; then the next one.
            if oldest.close_if_idle() {
                return true;
            }
        }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, client) = Listener::accept(&mut self.listener).await;
        let slot = self.slot().await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%client, %error, "answers may be delayed by the kernel");
        }
        let close = self.cut.child_token();
        let cut = Box::pin(close.clone().cancelled_owned());
        let line = Line::open(self.patience, close, Arc::clone(&self.went_idle));
        self.open.retain(|line| line.strong_count() > 0);
        self.open.push(line.downgrade());
        (Connection::new(stream, line, self.patience.silence_max, cut, slot), client)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A client's connection with its slot and its deadlines.
pub struct Connection {
    stream: TcpStream,
    line: Line,
    silence_max: Duration,
    last_byte: Instant,
    deadline: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(
        stream: TcpStream,
        line: Line,
        silence_max: Duration,
        cut: Pin<Box<WaitForCancellationFutureOwned>>,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let last_byte = Instant::now();
        let deadline = Box::pin(sleep_until(last_byte));
        Self { stream, line, silence_max, last_byte, deadline, cut, _slot: slot }
    }

    /// What its requests have in common.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Passes on what the stream says, unless the connection is cut or a deadline has passed.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut TcpStream>, &Line, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.poll_ended(context)?;
        let result = ready!(poll(Pin::new(&mut self.stream), &self.line, context));
        self.last_byte = Instant::now();
        let due = self.due();
        self.deadline.as_mut().reset(due);
        Poll::Ready(result)
    }

    /// Fails once the connection is over, and wakes the task when that happens.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        // What the deadline depends on may have changed since it was set.
        while self.deadline.as_mut().poll(context).is_ready() {
            let due = self.due();
            if due <= Instant::now() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.deadline.as_mut().reset(due);
        }
        Ok(())
    }

    fn due(&self) -> Instant {
        let silent = self.last_byte + self.silence_max;
        self.line.due().map_or(silent, |due| due.min(silent))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.watch(context, |stream, line, context| {
            let before = into.filled().len();
            ready!(stream.poll_read(context, into))?;
            if into.filled().len() > before {
                line.received();
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.watch(context, |stream, line, context| {
            line.sending();
            stream.poll_write(context, bytes)
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch(context, |stream, line, context| {
            line.sending();
            stream.poll_write_vectored(context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The HTTP library flushes when it has written all that it had, so the answer is out.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ended(context)?;
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.line.sent();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(context, |stream, _, context| stream.poll_shutdown(context))
    }
}
