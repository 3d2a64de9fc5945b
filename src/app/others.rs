//! What other processes commit, brought into the live windows while they run: by a second worker, by whoever took a shard
//! over, by a replay of rejects.
//!
//! Nobody waits for it. A lake that is away is looked into again, and meanwhile the live view says as of when it
//! knows; a commit that cannot be read costs the live view its records until the next start, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::now_ms;
use crate::error_chain::chain;
use crate::lake::{CommitLog, LakeError, LoggedCommit};
use crate::window::{FoundCommit, Knowledge, OthersCells, StreamWindows};

/// The lake is looked into this often at most, and at least.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(250);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// Goes through the rows table's log.
pub struct Others {
    log: CommitLog,
    windows: Arc<StreamWindows>,
    stream: String,
    /// By window: the version up to which its rows were restored.
    restored_through: Vec<u64>,
    /// The last look that saw everything.
    looked_ms: i64,
    /// It could not be looked, and that was told.
    blind: bool,
}

impl Others {
    /// After what was restored of each window, up to a version of its own.
    pub fn after(log: CommitLog, windows: Arc<StreamWindows>, stream: &str, restored_through: Vec<u64>) -> Self {
        let stream = stream.to_owned();
        Self { log, windows, stream, restored_through, looked_ms: now_ms(), blind: false }
    }

    /// As often as this stream is flushed, within bounds. Never ends.
    pub async fn follow(mut self, flush_interval: Duration) {
        let mut looks = tokio::time::interval(flush_interval.clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL_MAX));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.look(u64::MAX).await;
        }
    }

    /// Up to where the rows of all windows were restored, so that they stand for one version before anything is read.
    pub async fn level(&mut self) {
        let through = self.restored_through.iter().copied().max().unwrap_or_default();
        self.look(through).await;
    }

    async fn look(&mut self, through: u64) {
        let begun_ms = now_ms();
        match self.take_all(through).await {
            Ok(()) => {
                self.looked_ms = begun_ms;
                self.windows.looked(None);
                if std::mem::take(&mut self.blind) {
                    tracing::info!(stream = self.stream, "the live view sees other processes' commits again");
                }
            }
            Err(error) => {
                self.windows.looked(Some(self.looked_ms));
                if !std::mem::replace(&mut self.blind, true) {
                    let (stream, error) = (&self.stream, chain(&error));
                    tracing::warn!(stream, error, "the live view cannot look for other processes' commits, for now");
                }
            }
        }
    }

    async fn take_all(&mut self, through: u64) -> Result<(), LakeError> {
        while self.log.version() < through {
            let Some(commit) = self.log.next().await? else { return Ok(()) };
            if self.windows.knowledge(&commit.ranges) == Knowledge::Awaited {
                return Ok(());
            }
            self.take(&commit).await?;
            self.log.passed(commit);
        }
        Ok(())
    }

    /// `Err` if it can be tried again.
    async fn take(&self, commit: &LoggedCommit) -> Result<(), LakeError> {
        let found = FoundCommit {
            version: commit.version,
            at_ms: commit.at_ms.unwrap_or_else(now_ms),
            ranges: commit.ranges.clone(),
            ended: commit.ended.clone(),
        };
        let cells = if self.windows.knowledge(&found.ranges) == Knowledge::Counted {
            None
        } else {
            match self.cells(commit).await? {
                Ok(cells) => Some(cells),
                Err(error) => {
                    let (stream, version) = (&self.stream, commit.version);
                    tracing::warn!(
                        stream,
                        version,
                        error,
                        "the live view lacks what another process committed, until the next start"
                    );
                    None
                }
            }
        };
        self.windows.found(&found, cells);
        Ok(())
    }

    /// The inner error is for good.
    async fn cells(&self, commit: &LoggedCommit) -> Result<Result<OthersCells, String>, LakeError> {
        let mut cells = OthersCells::default();
        for (window, restored_through) in self.restored_through.iter().enumerate() {
            if commit.version <= *restored_through {
                continue;
            }
            match self.decode(commit, window, &mut cells).await {
                Ok(()) => {}
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => return Ok(Err(chain(&error))),
            }
        }
        Ok(Ok(cells))
    }

    async fn decode(&self, commit: &LoggedCommit, window: usize, cells: &mut OthersCells) -> Result<(), LakeError> {
        let recent = self.log.partials(commit, window, self.windows.live_since_us(window))?;
        recent.each(|rows| self.windows.decode(window, rows, cells)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use deltalake::arrow::array::{
        ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    };
    use object_store::memory::InMemory;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::app::restore::restore;
    use crate::budget::{Budget, Permit};
    use crate::checkpoint::{LedgerHandle, Position, PositionRange, Registration, SequenceNumber, ShardId};
    use crate::contract::{self, Contract};
    use crate::lake::{LakeStore, StreamIdentity, StreamLake, Writer, WriterOptions};
    use crate::limits::{LIVE_FILES_RESTORED_MAX, LIVE_WINDOWS_RESTORED};
    use crate::metrics::{Registry, StreamMetrics};
    use crate::record::{CleanBatch, LeftOver, ShardGrant, WindowSink};
    use crate::status::StatusBoard;
    use crate::toml_doc::Problems;
    use crate::window::LiveFilter;

    const CONTRACT: &str = "table = \"orders\"\n[[column]]\nname = \"place\"\ntype = \"string\"\n\
        [[window]]\nname = \"by_place\"\nevery = \"1h\"\nby = [\"place\"]\nmeasure = { n = \"count\" }\n\
        [[window]]\nname = \"all_orders\"\nevery = \"1h\"\nmeasure = { n = \"count\" }\n";

    struct World {
        store: LakeStore,
        contract: Arc<Contract>,
    }

    impl World {
        fn new() -> Self {
            let problems = Problems::default();
            let contract = contract::parse("orders.toml", CONTRACT.to_owned(), &problems);
            problems.into_result().unwrap();
            let store = LakeStore::with_objects(Arc::new(InMemory::new()), "lake", "memory://lake");
            Self { store, contract: Arc::new(contract.unwrap()) }
        }

        fn metrics(&self) -> StreamMetrics {
            Registry::new().unwrap().stream("orders")
        }

        fn windows(&self) -> Arc<StreamWindows> {
            Arc::new(StreamWindows::new("orders", Arc::clone(&self.contract), self.metrics()))
        }

        async fn open(&self) -> StreamLake {
            let identity = StreamIdentity {
                pipeline: "shop".to_owned(),
                stream: "orders".to_owned(),
                created_at_s: 1_700_000_000,
            };
            StreamLake::open(self.store.clone(), identity, &self.contract).await.unwrap()
        }

        /// A process that commits one order of each number in (from, through], and ends.
        async fn commit(&self, from: u32, through: u32) {
            let (lake, windows) = (self.open().await, self.windows());
            let (batches, batch_queue) = mpsc::channel(1);
            let (ledger, questions) = LedgerHandle::channel();
            let options = WriterOptions { flush_interval: Duration::from_millis(10), flush_bytes: 1 << 20 };
            let sink = Arc::clone(&windows) as Arc<dyn WindowSink>;
            let board = StatusBoard::default().stream("orders");
            let writer = Writer::new(lake, options, Budget::new(1 << 20), sink, None, self.metrics(), board);
            let read = async {
                let shard = Registration { shard: ShardId::new("a"), start_ms: 0, ended: false };
                ledger.register(vec![shard]).await.unwrap();
                let batch = self.batch(from, through);
                windows.observe(&batch).unwrap();
                batches.send(batch).await.unwrap();
                drop(batches);
            };
            let (written, ()) = tokio::join!(writer.run(batch_queue, questions, CancellationToken::new()), read);
            written.unwrap();
        }

        fn batch(&self, from: u32, through: u32) -> CleanBatch {
            let at = |number: u32| match number {
                0 => Position::Beginning,
                _ => Position::After(SequenceNumber::parse(&number.to_string()).unwrap()),
            };
            let (count, now_us) = ((through - from) as usize, now_ms() * 1000);
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from(vec!["x"; count])),
                Arc::new(StringArray::from(vec!["a"; count])),
                Arc::new(StringArray::from_iter_values((from..through).map(|number| number.to_string()))),
                Arc::new(Int64Array::from(vec![0; count])),
                Arc::new(TimestampMicrosecondArray::from(vec![now_us; count]).with_timezone("UTC")),
                Arc::new(Int64Array::new_null(count)),
                Arc::new(Date32Array::from(vec![now_us.div_euclid(86_400_000_000) as i32; count])),
            ];
            CleanBatch {
                range: PositionRange { shard: ShardId::new("a"), after: at(from), through: at(through) },
                rows: RecordBatch::try_new(Arc::clone(&self.contract.rows_schema), columns).unwrap(),
                rejects: Vec::new(),
                seen_ms: None,
                watermark_ms: None,
                end: None,
                left: LeftOver::default(),
                grant: ShardGrant::new(),
                permit: Permit::default(),
            }
        }
    }

    /// By window, the records on show.
    fn shown(windows: &StreamWindows) -> Vec<u64> {
        let live = windows.live(&LiveFilter::default()).into_iter();
        live.map(|window| window.starts.iter().map(|start| start.records).sum()).collect()
    }

    async fn restored(windows: &StreamWindows, lake: &StreamLake, window: usize) -> u64 {
        restore(windows, lake, window, now_ms() * 1000, LIVE_FILES_RESTORED_MAX).await.unwrap()
    }

    #[tokio::test]
    async fn windows_that_were_restored_at_different_versions_stand_for_one_before_anything_is_read() {
        let world = World::new();
        world.commit(0, 3).await;
        let (lake, windows) = (world.open().await, world.windows());
        windows.begin_after(lake.ledger());
        let mut through = vec![restored(&windows, &lake, 0).await];
        world.commit(3, 8).await;
        world.commit(8, 10).await;
        through.push(restored(&windows, &lake, 1).await);
        assert!(through[0] < through[1], "{through:?}");
        assert_eq!(shown(&windows), [3, 10], "somebody committed between the two");

        let mut others = Others::after(lake.commit_log(), Arc::clone(&windows), "orders", through);
        others.level().await;
        assert_eq!(shown(&windows), [10, 10]);
        world.commit(10, 14).await;
        others.level().await;
        assert_eq!(shown(&windows), [10, 10], "what comes after is not looked for yet");
        others.look(u64::MAX).await;
        assert_eq!(shown(&windows), [14, 14]);
        others.look(u64::MAX).await;
        assert_eq!(shown(&windows), [14, 14]);
    }

    #[tokio::test]
    async fn a_window_of_which_too_many_files_were_committed_says_so_until_a_start_would_not_bring_back_more() {
        let world = World::new();
        for number in 0..3 {
            world.commit(number, number + 1).await;
        }
        let (lake, windows) = (world.open().await, world.windows());
        windows.begin_after(lake.ledger());
        let now_us = now_ms() * 1000;
        restore(&windows, &lake, 0, now_us, 2).await.unwrap();
        restore(&windows, &lake, 1, now_us, 3).await.unwrap();
        assert_eq!(shown(&windows), [0, 3], "the hour that runs is not whole");
        let told = |hours: i64| {
            let now_ms = Some(now_us / 1000 + hours * 3_600_000);
            let live = windows.live(&LiveFilter { now_ms, ..LiveFilter::default() }).into_iter();
            live.map(|window| window.not_shown.unwrap_or_default()).collect::<Vec<_>>()
        };
        for hours in [0, LIVE_WINDOWS_RESTORED - 1] {
            let why = told(hours);
            assert!(why[0].contains("3 files of by_place_partials") && why[1].is_empty(), "{hours}: {why:?}");
        }
        assert_eq!(told(LIVE_WINDOWS_RESTORED), ["", ""]);
    }

    #[tokio::test]
    async fn what_ends_where_our_own_commit_is_on_its_way_is_not_read_until_that_is_decided() {
        let world = World::new();
        let (lake, windows) = (world.open().await, world.windows());
        windows.begin_after(lake.ledger());
        let mut others = Others::after(lake.commit_log(), Arc::clone(&windows), "orders", vec![0, 0]);
        let ours = world.batch(0, 3);
        windows.observe(&ours).unwrap();
        world.commit(0, 3).await;
        let ranges = std::slice::from_ref(&ours.range);
        others.look(u64::MAX).await;
        assert_eq!((shown(&windows), windows.knowledge(ranges)), (vec![3, 3], Knowledge::Awaited));
        ours.grant.revoke();
        windows.discard(&ours.range.shard);
        others.look(u64::MAX).await;
        assert_eq!((shown(&windows), windows.knowledge(ranges)), (vec![3, 3], Knowledge::Counted), "it was not ours");
    }
}
