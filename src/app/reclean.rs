//! Rejects through the cleaner once more.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use deltalake::arrow::array::{Int64Array, RecordBatch};
use deltalake::arrow::compute::concat_batches;
use tokio::task::spawn_blocking;

use crate::budget::Permit;
use crate::checkpoint::{Position, PositionRange, ShardId};
use crate::clean::Cleaner;
use crate::contract::{Contract, REPLAYED};
use crate::record::{RawBatch, RawRecord, RejectReason, ShardGrant};

/// What cleaning made of some rejects.
pub(super) struct Recleaned {
    pub rows: RecordBatch,
    pub rejected: BTreeMap<RejectReason, u64>,
}

/// Cleans rejects as if they had just been read.
pub(super) struct Recleaner {
    contract: Arc<Contract>,
    cleaner: Cleaner,
}

impl Recleaner {
    /// By this contract.
    pub fn new(contract: &Arc<Contract>) -> Self {
        Self { contract: Arc::clone(contract), cleaner: Cleaner::new(Arc::clone(contract)) }
    }

    /// On the CPU pool; gives itself back. Rows name the replay that they are recovered by.
    pub async fn reclean(
        mut self,
        rejects: Vec<(ShardId, RawRecord)>,
        replay: Option<u64>,
    ) -> anyhow::Result<(Self, Recleaned)> {
        let cleaned = spawn_blocking(move || {
            let recleaned = self.reclean_here(rejects, replay);
            (self, recleaned)
        });
        let (this, recleaned) = cleaned.await.context("cleaning")?;
        Ok((this, recleaned?))
    }

    fn reclean_here(&mut self, rejects: Vec<(ShardId, RawRecord)>, replay: Option<u64>) -> anyhow::Result<Recleaned> {
        let (mut batches, mut rejected) = (Vec::new(), BTreeMap::new());
        let mut rejects = rejects.into_iter().peekable();
        while let Some((shard, first)) = rejects.next() {
            let mut records = vec![first];
            while let Some((_, record)) = rejects.next_if(|(other, _)| *other == shard) {
                records.push(record);
            }
            // Rows name the shard that they are cleaned for: where the record once stood.
            let range = PositionRange { shard, after: Position::Beginning, through: Position::Beginning };
            let (grant, permit) = (ShardGrant::new(), Permit::default());
            let (cleaned, _) = self.cleaner.clean(RawBatch { range, records, seen_ms: None, end: None, grant, permit });
            batches.push(cleaned.rows);
            for reject in cleaned.rejects {
                *rejected.entry(reject.reason).or_default() += 1;
            }
        }
        let rows = concat_batches(&self.contract.rows_schema, &batches)?;
        let rows = replay.map_or(Ok(rows.clone()), |number| marked(&rows, number))?;
        Ok(Recleaned { rows, rejected })
    }
}

/// The rows with the number of the replay that recovered them.
fn marked(rows: &RecordBatch, replay: u64) -> anyhow::Result<RecordBatch> {
    let mut columns = rows.columns().to_vec();
    let index = rows.schema().index_of(REPLAYED)?;
    columns[index] = Arc::new(Int64Array::from_value(i64::try_from(replay)?, rows.num_rows()));
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
