//! From a read to the writer: clean on the CPU pool, count in the live windows, hand on.
//!
//! Only here is it known what a batch really holds, so the permit stays at the read's worst case until then: a
//! kilobyte of zstd may have become ten megabytes, and an empty record still costs its bookkeeping.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_blocking;

use crate::clean::Cleaner;
use crate::contract::Contract;
use crate::limits::{CLEANED_ALONE_BYTES, HELD_FACTOR_DEN, HELD_FACTOR_NUM, REJECT_OVERHEAD_BYTES};
use crate::metrics::StreamMetrics;
use crate::record::{BatchSink, CleanBatch, ProbeRef, RawBatch, Reject, SinkClosed};
use crate::status::StreamBoard;
use crate::window::StreamWindows;

/// One stream's way from its readers to its writer. Shared by the readers.
pub struct Pipe {
    pub way: Arc<Way>,
    pub writer: mpsc::Sender<CleanBatch>,
    pub cores: Cores,
}

/// Cleaning is CPU work: no more at once than there are cores, however many streams and shards there are.
#[derive(Debug, Clone)]
pub struct Cores {
    free: Arc<Semaphore>,
    all: u32,
}

impl Cores {
    /// As many as this process may use.
    pub fn new() -> Self {
        let all = available_parallelism().map_or(1, usize::from);
        Self { free: Arc::new(Semaphore::new(all)), all: u32::try_from(all).unwrap_or(1) }
    }

    /// Waits for a core; for all of them if a record is so large that others must not be cleaned beside it.
    async fn take(&self, batch: &RawBatch) -> Result<OwnedSemaphorePermit, AcquireError> {
        let is_large = batch.records.iter().any(|record| record.data.len() > CLEANED_ALONE_BYTES);
        let wanted = if is_large { self.all } else { 1 };
        Arc::clone(&self.free).acquire_many_owned(wanted).await
    }
}

/// What a batch meets on the CPU pool.
pub struct Way {
    pub contract: Arc<Contract>,
    pub windows: Arc<StreamWindows>,
    pub metrics: StreamMetrics,
    pub board: StreamBoard,
    pub probe: Option<ProbeRef>,
    /// Reused for their scratch buffers; never more than batches were being cleaned at once.
    pub cleaners: Mutex<Vec<Cleaner>>,
}

impl BatchSink for Pipe {
    async fn deliver(&self, batch: RawBatch) -> Result<(), SinkClosed> {
        let Ok(core) = self.cores.take(&batch).await else { return Err(SinkClosed) };
        let way = Arc::clone(&self.way);
        let cleaned = spawn_blocking(move || {
            let _core = core;
            way.clean_and_count(batch)
        });
        // A panic in there has aborted the process already; a runtime that shuts down has closed the way.
        let cleaned = cleaned.await.map_err(|_| SinkClosed)?;
        self.writer.send(cleaned).await.map_err(|_| SinkClosed)
    }
}

impl Way {
    fn clean_and_count(&self, batch: RawBatch) -> CleanBatch {
        let spare = self.cleaners.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut cleaner = spare.unwrap_or_else(|| Cleaner::new(Arc::clone(&self.contract)));
        let (mut cleaned, counts) = cleaner.clean(batch);
        self.cleaners.lock().unwrap_or_else(PoisonError::into_inner).push(cleaner);
        let rows = cleaned.rows.num_rows() as u64;
        self.metrics.cleaned(rows, cleaned.rejects.iter().map(|reject| reject.reason), &counts);
        self.board.cleaned(rows, cleaned.rejects.iter().map(|reject| reject.reason), &counts);
        let cells_bytes = self.windows.observe(&cleaned).unwrap_or_else(|error| {
            panic!("{error}; rows without their windows would break the tables' agreement for good")
        });
        let held_bytes = cells_bytes + cleaned.rows.get_array_memory_size() + rejects_bytes(&cleaned.rejects);
        cleaned.permit.shrink(held_bytes as u64 * HELD_FACTOR_NUM / HELD_FACTOR_DEN);
        if let Some(probe) = &self.probe {
            probe.counted(self.metrics.stream(), &cleaned.range);
        }
        cleaned
    }
}

fn rejects_bytes(rejects: &[Reject]) -> usize {
    rejects.iter().map(|reject| REJECT_OVERHEAD_BYTES + reject.record.data.len() + reject.detail.len()).sum()
}
