//! CPU work shared by all streams: no more of it at once than there are cores, however many shards are read.
//!
//! Work that needs a multiple of its input in memory takes all cores, so that only one such is going on.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::WAITING_THREADS_MAX;

/// The cores of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cores {
    free: Arc<Semaphore>,
    all: u32,
}

/// How many threads a runtime may have for what blocks: one for each core's work, and some for what only waits.
pub fn blocking_threads() -> usize {
    available_parallelism().map_or(1, usize::from) + WAITING_THREADS_MAX
}

/// The right to use some of them; given back when dropped.
pub type CorePermit = OwnedSemaphorePermit;

impl Cores {
    /// As many as this process may use.
    pub fn available() -> Self {
        Self::of(available_parallelism().map_or(1, usize::from))
    }

    /// So many.
    pub fn of(cores: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(cores)), all: u32::try_from(cores).unwrap_or(u32::MAX) }
    }

    /// Waits for one. `None` if there will be none any more.
    pub async fn one(&self) -> Option<CorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Waits until nobody else has one, and takes all of them. `None` if there will be none any more.
    pub async fn all(&self) -> Option<CorePermit> {
        Arc::clone(&self.free).acquire_many_owned(self.all).await.ok()
    }
}
