//! From a read to the writer: clean on the CPU pool, count in the live windows, hand on.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;

use crate::clean::Cleaner;
use crate::contract::Contract;
use crate::metrics::StreamMetrics;
use crate::record::{BatchSink, CleanBatch, ProbeRef, RawBatch, SinkClosed};
use crate::status::StreamBoard;
use crate::window::StreamWindows;

/// One stream's way from its readers to its writer. Shared by the readers.
pub struct Pipe {
    pub contract: Arc<Contract>,
    pub windows: Arc<StreamWindows>,
    pub writer: mpsc::Sender<CleanBatch>,
    pub metrics: StreamMetrics,
    pub board: StreamBoard,
    pub probe: Option<ProbeRef>,
    /// Cleaners are reused for their scratch buffers; there are never more than batches being cleaned.
    pub cleaners: Mutex<Vec<Cleaner>>,
    /// Cleaning is CPU work: no more at once than there are cores, however many shards there are.
    pub cores: Arc<Semaphore>,
}

impl BatchSink for Pipe {
    async fn deliver(self: &Arc<Self>, batch: RawBatch) -> Result<(), SinkClosed> {
        let Ok(core) = Arc::clone(&self.cores).acquire_owned().await else { return Err(SinkClosed) };
        let pipe = Arc::clone(self);
        let cleaned = spawn_blocking(move || {
            let _core = core;
            pipe.clean_and_count(batch)
        });
        // A panic in there has aborted the process already; a runtime that shuts down has closed the way.
        let cleaned = cleaned.await.map_err(|_| SinkClosed)?;
        self.writer.send(cleaned).await.map_err(|_| SinkClosed)
    }
}

impl Pipe {
    fn clean_and_count(&self, batch: RawBatch) -> CleanBatch {
        let spare = self.cleaners.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut cleaner = spare.unwrap_or_else(|| Cleaner::new(Arc::clone(&self.contract)));
        let (cleaned, counts) = cleaner.clean(batch);
        self.cleaners.lock().unwrap_or_else(PoisonError::into_inner).push(cleaner);
        let rejects = cleaned.rejects.iter().map(|reject| reject.reason);
        self.metrics.cleaned(cleaned.rows.num_rows() as u64, rejects.clone(), &counts);
        self.board.cleaned(cleaned.rows.num_rows() as u64, rejects, &counts);
        if let Err(error) = self.windows.observe(&cleaned) {
            panic!("{error}; rows without their windows would break the tables' agreement for good");
        }
        if let Some(probe) = &self.probe {
            probe.counted(self.metrics.stream(), &cleaned.range);
        }
        cleaned
    }
}
