//! `/api/stream`: what changes, sent to every open page, from one look for all of them.
//!
//! A page first gets everything (`hello`), then the board once a second (`summary`, which is the heartbeat too) with
//! the rejects and sealed windows if there are new ones, and whatever changed of the live windows several times a second. Events have no ids: a page that
//! comes again gets everything again, so there is nothing to go on from. Every page has room for so many events; one
//! that does not even take these is cut off, so that no page holds up another or grows the memory.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::StreamExt;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::error::RequestError;
use super::history::{History, Samples};
use super::line::Line;
use super::questions::{look, look_back};
use super::views::{Rejects, StreamRejects, Summary};
use super::{Shared, Sources};
use crate::clock::now_ms;
use crate::limits::{
    SERVE_STREAM_EVENTS_MAX, SERVE_STREAM_INTERVAL, SERVE_STREAM_ROWS, SERVE_STREAM_SHARE, SERVE_STREAM_STARTS,
    SERVE_STREAMS_MAX,
};
use crate::window::{LiveFilter, LiveWindow, SealedWindow};

const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

/// The pages that are fed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed {
    slots: Arc<Semaphore>,
    pages: Arc<Mutex<Vec<Page>>>,
}

#[derive(Debug)]
struct Page {
    events: mpsc::Sender<Bytes>,
    line: Line,
    /// Has not got everything yet.
    is_new: bool,
}

impl Default for Feed {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(SERVE_STREAMS_MAX)), pages: Arc::default() }
    }
}

impl Feed {
    /// The body of an answer that goes on until the page leaves, falls behind or the server stops.
    pub fn join(&self, line: Line) -> Result<Body, RequestError> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| RequestError::TooManyPages)?;
        line.streaming();
        let (events, taken) = mpsc::channel(SERVE_STREAM_EVENTS_MAX);
        self.pages().push(Page { events, line, is_new: true });
        Ok(Body::from_stream(ReceiverStream::new(taken).map(move |event| with_slot(event, &slot))))
    }

    /// Feeds the pages until `stop`, and ends their answers then.
    pub async fn run(self, shared: Shared, stop: CancellationToken) -> ! {
        let mut shown = Shown::default();
        let mut next_summary = Instant::now();
        while !stop.is_cancelled() {
            let begun = Instant::now();
            self.pages().retain(|page| !page.events.is_closed());
            if !self.pages().is_empty() {
                let summary_due = begun >= next_summary;
                let looks_back = summary_due || self.pages().iter().any(|page| page.is_new);
                if let Some(seen) = Seen::look(&shared, looks_back).await {
                    self.send(&seen, &mut shown, &shared.history, summary_due);
                }
                if summary_due {
                    next_summary = begun + SUMMARY_INTERVAL;
                }
            }
            let pause = SERVE_STREAM_INTERVAL.max(begun.elapsed() * SERVE_STREAM_SHARE);
            stop.run_until_cancelled(tokio::time::sleep_until(begun + pause)).await;
        }
        self.pages().clear();
        std::future::pending().await
    }

    pub(super) fn send(&self, seen: &Seen, shown: &mut Shown, history: &History, summary_due: bool) {
        let changes = shown.changes(seen, summary_due);
        let changes: Vec<Bytes> =
            changes.into_iter().chain(summary_due.then(|| event("summary", &seen.summary))).collect();
        let mut hello = None;
        self.pages().retain_mut(|page| {
            let events = match std::mem::take(&mut page.is_new) {
                true => std::slice::from_ref(
                    hello.get_or_insert_with(|| event("hello", &Hello::of(seen, &shown.sealed, history))),
                ),
                false => changes.as_slice(),
            };
            let taken = events.iter().all(|event| page.events.try_send(event.clone()).is_ok());
            if !taken {
                page.line.cut();
            }
            taken
        });
    }

    #[cfg(test)]
    pub fn feeding(&self) -> usize {
        self.pages().len()
    }

    fn pages(&self) -> MutexGuard<'_, Vec<Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot lives as long as the answer.
fn with_slot(event: Bytes, _slot: &OwnedSemaphorePermit) -> Result<Bytes, Infallible> {
    Ok(event)
}

fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_else(|error| {
        tracing::error!(%error, name, "an event could not be written as JSON");
        "null".to_owned()
    });
    // JSON on one line: its own line ends are escaped.
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

/// Everything that pages show, at one moment.
pub(super) struct Seen {
    summary: Summary,
    windows: Vec<LiveWindow>,
    /// Changes when a window closes, so that it is looked at less often.
    sealed: Option<Vec<SealedWindow>>,
    rejects: Rejects,
}

impl Seen {
    async fn look(shared: &Shared, looks_back: bool) -> Option<Self> {
        // The semaphore is never closed.
        let _look = shared.looks.acquire().await.ok();
        let sources = Arc::clone(&shared.sources);
        tokio::task::spawn_blocking(move || Self::of(&sources, now_ms(), looks_back)).await.ok()
    }

    pub(super) fn of(sources: &Sources, now_ms: i64, looks_back: bool) -> Self {
        let filter = LiveFilter {
            starts_max: Some(SERVE_STREAM_STARTS),
            rows_max: Some(SERVE_STREAM_ROWS),
            now_ms: Some(now_ms),
            ..LiveFilter::default()
        };
        Self {
            summary: Summary::of(sources, now_ms),
            windows: look(sources, &filter),
            sealed: looks_back.then(|| look_back(sources, &filter)),
            rejects: Rejects::of(&sources.status, None, None, now_ms),
        }
    }
}

/// The first event.
#[derive(Serialize)]
struct Hello<'a> {
    summary: &'a Summary,
    windows: &'a [LiveWindow],
    sealed: &'a [SealedWindow],
    rejects: &'a Rejects,
    history: Samples,
}

impl<'a> Hello<'a> {
    fn of(seen: &'a Seen, sealed: &'a [SealedWindow], history: &History) -> Self {
        let history = history.samples(seen.summary.now_ms);
        Self { summary: &seen.summary, windows: &seen.windows, sealed, rejects: &seen.rejects, history }
    }
}

/// What of a window is to be shown from now on.
#[derive(Debug, Serialize)]
struct WindowChange<'a> {
    /// The window with those of its starts that changed.
    #[serde(flatten)]
    window: LiveWindow,
    /// All starts that are shown, epoch ms, newest first.
    shown: &'a [i64],
}

/// What the pages were told last.
#[derive(Default)]
pub(super) struct Shown {
    windows: BTreeMap<(String, String), LiveWindow>,
    sealed: Vec<SealedWindow>,
    rejects: Vec<StreamRejects>,
}

impl Shown {
    /// The events that tell the difference. Samples are for reading, so that rejects come with summaries.
    fn changes(&mut self, seen: &Seen, summary_due: bool) -> Vec<Bytes> {
        let mut events = Vec::new();
        let starts: Vec<Vec<i64>> =
            seen.windows.iter().map(|window| window.starts.iter().map(|start| start.start_ms).collect()).collect();
        let changed: Vec<WindowChange<'_>> = seen
            .windows
            .iter()
            .zip(&starts)
            .filter_map(|(window, shown)| {
                let last = self.windows.insert((window.stream.clone(), window.window.clone()), window.clone());
                let last = last.as_ref();
                if last == Some(window) {
                    return None;
                }
                let known = |start| last.is_some_and(|last| last.starts.contains(start));
                let starts = window.starts.iter().filter(|start| !known(start)).cloned().collect();
                Some(WindowChange { window: LiveWindow { starts, ..window.clone() }, shown })
            })
            .collect();
        if !changed.is_empty() {
            events.push(event("windows", &changed));
        }
        if let Some(sealed) = &seen.sealed {
            let changed: Vec<&SealedWindow> = sealed.iter().filter(|window| !self.sealed.contains(window)).collect();
            if !changed.is_empty() {
                events.push(event("sealed", &changed));
            }
            self.sealed.clone_from(sealed);
        }
        if summary_due && self.rejects != seen.rejects.streams {
            self.rejects.clone_from(&seen.rejects.streams);
            events.push(event("rejects", &seen.rejects));
        }
        events
    }
}
