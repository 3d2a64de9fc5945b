//! Rejects through the cleaner once more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anyhow::Context;
use deltalake::arrow::array::{Int64Array, RecordBatch};
use tokio::task::spawn_blocking;

use crate::checkpoint::ShardId;
use crate::clean::Cleaner;
use crate::contract::{Contract, REPLAYED};
use crate::record::{RawRecord, RejectReason};

/// What cleaning made of some rejects.
pub(super) struct Recleaned {
    pub rows: RecordBatch,
    pub rejected: BTreeMap<RejectReason, u64>,
    /// Those from the first on that does not fit into memory beside those before it.
    pub left: VecDeque<(ShardId, RawRecord)>,
}

/// Cleans rejects as if they had just been read.
pub(super) struct Recleaner {
    cleaner: Cleaner,
}

impl Recleaner {
    /// By this contract.
    pub fn new(contract: &Arc<Contract>) -> Self {
        Self { cleaner: Cleaner::new(Arc::clone(contract)) }
    }

    /// On the CPU pool; gives itself back. Rows name the replay that they are recovered by.
    pub async fn reclean(
        mut self,
        mut rejects: VecDeque<(ShardId, RawRecord)>,
        replay: Option<u64>,
    ) -> anyhow::Result<(Self, Recleaned)> {
        let cleaned = spawn_blocking(move || {
            let (rows, still_rejects) = self.cleaner.clean_some(&mut rejects);
            (self, rows, still_rejects, rejects)
        });
        let (this, rows, still_rejects, left) = cleaned.await.context("cleaning")?;
        let mut rejected = BTreeMap::new();
        for reject in still_rejects {
            *rejected.entry(reject.reason).or_default() += 1;
        }
        let rows = replay.map_or(Ok(rows.clone()), |number| marked(&rows, number))?;
        Ok((this, Recleaned { rows, rejected, left }))
    }
}

/// The rows with the number of the replay that recovered them.
fn marked(rows: &RecordBatch, replay: u64) -> anyhow::Result<RecordBatch> {
    let mut columns = rows.columns().to_vec();
    let index = rows.schema().index_of(REPLAYED)?;
    columns[index] = Arc::new(Int64Array::from_value(i64::try_from(replay)?, rows.num_rows()));
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
