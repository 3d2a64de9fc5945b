//! From a read to the writer: clean on the CPU pool, count in the live windows, hand on.
//!
//! Only here is it known what a batch really holds, so the permit stays at the read's worst case until then: a
//! kilobyte of zstd may have become ten megabytes, and an empty record still costs its bookkeeping.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::checkpoint::Position;
use crate::clean::Cleaner;
use crate::contract::Contract;
use crate::cores::Cores;
use crate::limits::{CLEANED_ALONE_BYTES, HELD_FACTOR_DEN, HELD_FACTOR_NUM, REJECT_OVERHEAD_BYTES};
use crate::metrics::StreamMetrics;
use crate::record::{BatchSink, CleanBatch, Delivered, ProbeRef, RawBatch, Reject, SinkClosed};
use crate::status::StreamBoard;
use crate::window::StreamWindows;

/// One stream's way from its readers to its writer. Shared by the readers.
pub struct Pipe {
    pub way: Arc<Way>,
    pub writer: mpsc::Sender<CleanBatch>,
    pub cores: Cores,
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
    async fn deliver(&self, batch: RawBatch) -> Result<Delivered, SinkClosed> {
        // A record may need several times its size while it is parsed: one large one at a time.
        let has_large = batch.records.iter().any(|record| record.data.len() > CLEANED_ALONE_BYTES);
        let core = if has_large { self.cores.all().await } else { self.cores.one().await };
        let Some(core) = core else { return Err(SinkClosed) };
        let way = Arc::clone(&self.way);
        let cleaned = spawn_blocking(move || {
            let _core = core;
            way.clean_and_count(batch)
        });
        // A panic in there has aborted the process already; a runtime that shuts down has closed the way.
        let cleaned = cleaned.await.map_err(|_| SinkClosed)?;
        let (through, seen_ms, left) = (cleaned.range.through, cleaned.seen_ms, cleaned.left);
        self.writer.send(cleaned).await.map_err(|_| SinkClosed)?;
        Ok(Delivered { through, seen_ms, left })
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
        self.board.cleaned(&cleaned.range.shard, rows, &cleaned.rejects, &counts);
        let cells_bytes = self.windows.observe(&cleaned).unwrap_or_else(|error| {
            panic!("{error}; rows without their windows would break the tables' agreement for good")
        });
        let held_bytes = cells_bytes + cleaned.rows.get_array_memory_size() + rejects_bytes(&cleaned.rejects);
        cleaned.permit.settle(held_bytes as u64 * HELD_FACTOR_NUM / HELD_FACTOR_DEN);
        if let Position::After(number) = cleaned.range.through {
            self.board.shard_if_known(&cleaned.range.shard, |status| status.counted = Some(number.to_string()));
        }
        if let Some(probe) = &self.probe {
            probe.counted(self.metrics.stream(), &cleaned.range);
        }
        cleaned
    }
}

fn rejects_bytes(rejects: &[Reject]) -> usize {
    rejects.iter().map(|reject| REJECT_OVERHEAD_BYTES + reject.record.data.len() + reject.detail.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::checkpoint::{PositionRange, SequenceNumber, ShardId};
    use crate::contract;
    use crate::demo::aggregate;
    use crate::limits::{READ_BYTES_MAX, READ_COST_MAX, READ_RECORDS_MAX};
    use crate::metrics::Registry;
    use crate::record::{RawRecord, ShardGrant};
    use crate::source::aggregated::{Rules, disaggregate};
    use crate::status::StatusBoard;
    use crate::toml_doc::Problems;

    /// Columns, most of them empty, and windows with every kind of sketch.
    const CONTRACT: &str = r#"
        table = "orders"
        event_time = "arrival"
        column = [
            { name = "id", type = "integer" }, { name = "kind", type = "string" }, { name = "place", type = "string" },
            { name = "buyer", type = "string" }, { name = "price", type = "integer" }, { name = "note", type = "string" },
            { name = "street", type = "string" }, { name = "city", type = "string" }, { name = "country", type = "string" },
            { name = "phone", type = "string" }, { name = "mail", type = "string" }, { name = "coupon", type = "string" },
        ]

        [[window]]
        name = "by_kind"
        every = "1m"
        by = ["kind"]
        measure = { orders = "count", sum = "sum(price)", mean = "mean(price)", price = "quantiles(price)", buyers = "distinct(buyer)" }

        [[window]]
        name = "by_place"
        every = "1m"
        by = ["place"]
        measure = { orders = "count", kinds = "top(kind, 3)" }
    "#;

    fn way() -> Way {
        let problems = Problems::default();
        let contract = contract::parse("orders.toml", CONTRACT.to_owned(), &problems);
        problems.into_result().unwrap();
        let contract = contract.unwrap();
        let (contract, registry) = (Arc::new(contract), Registry::new().unwrap());
        Way {
            windows: Arc::new(StreamWindows::new("orders", Arc::clone(&contract), registry.stream("orders"))),
            contract,
            metrics: registry.stream("orders"),
            board: StatusBoard::default().stream("orders"),
            probe: None,
            cleaners: Mutex::default(),
        }
    }

    /// Kinesis records of one aggregate each, as many as a read may bring; each of `per_aggregate` such payloads.
    fn read(per_aggregate: usize, payload: impl Fn(usize) -> String) -> Vec<RawRecord> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        loop {
            let payloads: Vec<String> =
                (0..per_aggregate).map(|n| payload(records.len() * per_aggregate + n)).collect();
            let data = aggregate(payloads.iter().map(|payload| ("k", None, payload.as_bytes())));
            bytes += data.len() as u64;
            if bytes > READ_BYTES_MAX {
                return records;
            }
            records.push(RawRecord {
                data: data.into(),
                sequence_number: SequenceNumber::parse(&(records.len() + 1).to_string()).unwrap(),
                sub_sequence_number: 0,
                arrived_at_us: 1_705_247_984_638_000,
                refused: None,
            });
        }
    }

    #[tokio::test]
    async fn what_a_read_full_of_small_aggregated_records_becomes_is_paid_for_by_its_permit() {
        let row = |n| format!("{{\"id\":{n},\"kind\":\"a\"}}");
        let with_its_own_key = |n| format!("{{\"id\":{n},\"kind\":\"{n}\"}}");
        let with_sketches = |n| {
            let key = n % 15_000;
            format!("{{\"id\":{n},\"kind\":\"{key}\",\"buyer\":\"{n}\",\"price\":\"{n}\"}}")
        };
        let reject = |_| "x".to_owned();
        for records in
            [read(1_000, row), read(1_000, with_its_own_key), read(1_000, with_sketches), read(1_000, reject)]
        {
            let taken = disaggregate(records, Rules::default());
            assert!(taken.left > 0 && taken.records.len() > READ_RECORDS_MAX - 1_000, "{}", taken.records.len());
            let raw: usize = taken.records.iter().map(|record| size_of::<RawRecord>() + record.data.len()).sum();
            let (after, through) = (Position::Beginning, Position::After(taken.last.unwrap().0));
            let range = PositionRange { shard: ShardId::new("shardId-000000000000"), after, through };
            let (records, grant) = (taken.records, ShardGrant::new());
            let permit = Budget::new(2 * READ_COST_MAX).reserve(READ_COST_MAX).await;
            let cleaned = way().clean_and_count(RawBatch { range, records, seen_ms: None, end: None, grant, permit });
            let held = cleaned.permit.bytes();
            assert!(held < READ_COST_MAX, "more than the permit: it was not shrunk");
            let at_once = raw as u64 + held * HELD_FACTOR_DEN / HELD_FACTOR_NUM;
            assert!(at_once < READ_COST_MAX, "{at_once} while it is cleaned");
        }
    }
}
