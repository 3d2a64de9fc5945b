//! The writer as its stream meets it: by channels.

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::faults::Fault;
use super::*;
use crate::checkpoint::LedgerHandle;
use crate::lake::error::LakeError;

/// A running writer and its doors.
struct Running {
    batches: mpsc::Sender<CleanBatch>,
    ledger: LedgerHandle,
    windows: Arc<FakeWindows>,
    budget: Budget,
    cancel: CancellationToken,
    board: StreamBoard,
    task: JoinSet<Result<(), LakeError>>,
}

const PATIENT: WriterOptions = WriterOptions { flush_interval: Duration::from_secs(3600), flush_bytes: u64::MAX };

async fn run(lake: &Lake, options: WriterOptions) -> Running {
    run_as(lake, options, |writer| writer).await
}

async fn run_as(lake: &Lake, options: WriterOptions, change: impl FnOnce(Writer) -> Writer) -> Running {
    let (windows, budget, cancel) = (Arc::new(FakeWindows::default()), Budget::new(1 << 20), CancellationToken::new());
    let sink = Arc::clone(&windows) as Arc<dyn WindowSink>;
    let board = stream_board();
    let writer = Writer::new(lake.open().await, options, budget.clone(), sink, None, metrics(), board.clone());
    let (batches, receiver) = mpsc::channel(1);
    let (ledger, requests) = LedgerHandle::channel();
    let mut task = JoinSet::new();
    task.spawn(change(writer).run(receiver, requests, cancel.clone()));
    Running { batches, ledger, windows, budget, cancel, board, task }
}

impl Running {
    async fn drain(mut self) {
        drop(self.batches);
        self.task.join_next().await.unwrap().unwrap().unwrap();
    }

    /// Returns once so many commits of rows were told to the windows.
    async fn committed(&self, commits: usize) {
        let told = async {
            while self.windows.committed.lock().unwrap().len() < commits {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), told).await.expect("no commit came");
    }
}

async fn paid(budget: &Budget, mut batch: CleanBatch, bytes: u64) -> CleanBatch {
    batch.permit = budget.reserve(bytes).await;
    batch
}

#[tokio::test]
async fn a_writer_whose_senders_are_gone_commits_what_it_has_and_its_followers_catch_up() {
    let lake = Lake::in_memory();
    let running = run(&lake, PATIENT).await;
    let grant = ShardGrant::new();
    let view = running.ledger.register(vec![register("a")]).await.unwrap();
    assert_eq!(view.shards[&ShardId::new("a")].resume(), Position::Beginning);
    running.batches.send(paid(&running.budget, batch("a", 0, 10, &grant), 4096).await).await.unwrap();
    running.batches.send(quiet("a", 10, 77_000, &grant)).await.unwrap();
    let budget = running.budget.clone();
    running.drain().await;
    assert_eq!(lake.open().await.view.shards[&ShardId::new("a")].seen_ms, Some(77_000));
    assert_eq!((lake.records(ROWS).await, lake.records(REJECTS).await, lake.records(PARTIALS).await), (9, 1, 1));
    assert_eq!(budget.in_use_bytes(), 0);
}

#[tokio::test]
async fn a_follower_that_a_person_has_to_mend_is_what_a_drain_ends_with_and_costs_the_others_nothing() {
    let lake = Lake::in_memory();
    let running = run(&lake, PATIENT).await;
    running.ledger.register(vec![register("a")]).await.unwrap();
    let foreign =
        serde_json::json!({ "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"] });
    lake.foreign(REJECTS, &[serde_json::json!({ "protocol": foreign })]).await;
    running.batches.send(batch("a", 0, 10, &ShardGrant::new())).await.unwrap();
    let Running { batches, mut task, .. } = running;
    drop(batches);
    let left = task.join_next().await.unwrap().unwrap().unwrap_err().to_string();
    assert!(left.contains("orders_rejects") && left.contains("rowTracking"), "{left}");
    assert_eq!((lake.records(ROWS).await, lake.records(PARTIALS).await), (9, 1));
}

#[tokio::test]
async fn a_full_micro_batch_and_one_whose_time_has_come_are_committed() {
    let full = WriterOptions { flush_bytes: 8192, ..PATIENT };
    let old = WriterOptions { flush_interval: Duration::from_millis(1), ..PATIENT };
    for options in [full, old] {
        let lake = Lake::in_memory();
        let running = run(&lake, options).await;
        running.ledger.register(vec![register("a")]).await.unwrap();
        let batch = batch("a", 0, 10, &ShardGrant::new());
        running.batches.send(paid(&running.budget, batch, 8192).await).await.unwrap();
        running.committed(1).await;
        running.drain().await;
    }
}

#[tokio::test]
async fn a_reader_that_waits_for_bytes_makes_the_writer_flush() {
    let lake = Lake::in_memory();
    let running = run(&lake, PATIENT).await;
    running.ledger.register(vec![register("a")]).await.unwrap();
    let most = running.budget.bytes_max() - 1024;
    let batch = batch("a", 0, 10, &ShardGrant::new());
    running.batches.send(paid(&running.budget, batch, most).await).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(20), running.budget.reserve(most)).await;
    assert_eq!(waited.expect("the writer did not flush").bytes(), most);
    assert_eq!(lake.records(ROWS).await, 9);
}

#[tokio::test]
async fn batches_keep_arriving_while_a_commit_is_in_the_air() {
    let lake = Lake::in_memory();
    let running = run(&lake, WriterOptions { flush_bytes: 1024, ..PATIENT }).await;
    running.ledger.register(vec![register("a")]).await.unwrap();
    let ((arrived, at_put), (go, go_on)) = (oneshot::channel(), oneshot::channel());
    lake.faults.next_put("orders/_delta_log", Fault::Hold(arrived, go_on));
    let grant = ShardGrant::new();
    running.batches.send(paid(&running.budget, batch("a", 0, 10, &grant), 1024).await).await.unwrap();
    at_put.await.unwrap();
    for from in [10, 20, 30, 40] {
        let batch = paid(&running.budget, batch("a", from, from + 10, &grant), 1024).await;
        running.batches.send(batch).await.unwrap();
    }
    let version = lake.version(ROWS).await;
    go.send(()).unwrap();
    running.drain().await;
    assert!(!grant.is_revoked());
    assert_eq!(lake.version(ROWS).await, version + 2, "four batches, one commit");
    assert_eq!(lake.records(ROWS).await, 5 * 9);
}

#[tokio::test]
async fn an_ending_shard_is_committed_at_once_and_told() {
    let lake = Lake::in_memory();
    let running = run(&lake, PATIENT).await;
    running.ledger.register(vec![register("a")]).await.unwrap();
    let grant = ShardGrant::new();
    running.batches.send(batch("a", 0, 10, &grant)).await.unwrap();
    let (last, told) = ending(quiet("a", 10, 5, &grant), &["b"]);
    running.batches.send(last).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("not committed").unwrap();
    let view = running.ledger.view(false).await.unwrap();
    let ended = view.shards[&ShardId::new("a")];
    assert_eq!((ended.resume(), ended.position.map(Position::After)), (Position::End, Some(after(10))));
    assert!(view.shards.contains_key(&ShardId::new("b")));
}

#[tokio::test]
async fn a_batch_that_does_not_follow_the_last_one_costs_its_reader_the_shard() {
    let lake = Lake::in_memory();
    let running = run(&lake, PATIENT).await;
    running.ledger.register(vec![register("a"), register("b")]).await.unwrap();
    let (gap, fine, unknown) = (ShardGrant::new(), ShardGrant::new(), ShardGrant::new());
    running.batches.send(batch("a", 0, 10, &gap)).await.unwrap();
    running.batches.send(batch("b", 0, 10, &fine)).await.unwrap();
    running.batches.send(batch("a", 11, 20, &gap)).await.unwrap();
    running.batches.send(batch("nobody", 0, 10, &unknown)).await.unwrap();
    running.batches.send(batch("a", 20, 30, &gap)).await.unwrap();
    let anew = ShardGrant::new();
    running.batches.send(batch("a", 0, 15, &anew)).await.unwrap();
    running.drain().await;
    assert!(gap.is_revoked() && unknown.is_revoked() && !fine.is_revoked() && !anew.is_revoked());
    assert_eq!(lake.open().await.view.shards[&ShardId::new("a")].resume(), after(15));
    assert_eq!(lake.records(ROWS).await, 9 + 14);
}

#[tokio::test]
async fn a_shard_that_another_writer_moved_is_fenced_and_can_be_read_again_from_the_ledger() {
    let lake = Lake::in_memory();
    let running = run(&lake, WriterOptions { flush_bytes: 1024, ..PATIENT }).await;
    running.ledger.register(vec![register("a")]).await.unwrap();
    let mut other = Instance::of(lake.open().await);
    other.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();

    let fenced = ShardGrant::new();
    running.batches.send(paid(&running.budget, batch("a", 0, 8, &fenced), 1024).await).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), fenced.revoked()).await.expect("not fenced");
    let view = running.ledger.view(true).await.unwrap();
    assert_eq!(view.shards[&ShardId::new("a")].resume(), after(10));
    running.batches.send(batch("a", 8, 9, &fenced)).await.unwrap();
    running.batches.send(batch("a", 10, 20, &ShardGrant::new())).await.unwrap();
    running.drain().await;
    assert_eq!(lake.records(ROWS).await, 9 + 9);
}

#[tokio::test]
async fn ending_a_lost_shard_waits_for_the_batches_that_are_already_here() {
    let lake = Lake::in_memory();
    let running = run(&lake, PATIENT).await;
    running.ledger.register(vec![register("a")]).await.unwrap();
    let a = ShardId::new("a");
    running.batches.send(batch("a", 0, 10, &ShardGrant::new())).await.unwrap();
    // A second batch can be sent once the first was taken in.
    running.batches.send(batch("a", 10, 11, &ShardGrant::new())).await.unwrap();
    let view = running.ledger.end_lost(a.clone(), Position::Beginning, vec![]).await.unwrap();
    assert_ne!(view.shards[&a].resume(), Position::Beginning, "the ledger has moved since");
    assert!(!view.shards[&a].ended);
    let at = view.shards[&a].resume();
    running.committed(1).await;
    let view = running.ledger.end_lost(a.clone(), at, vec![ShardId::new("b")]).await.unwrap();
    running.drain().await;
    assert!(view.shards[&a].ended || view.shards[&a].resume() != at);
}

#[tokio::test]
async fn a_writer_that_is_cancelled_stops_though_the_lake_is_away() {
    let lake = Lake::in_memory();
    let mut running = run(&lake, WriterOptions { flush_bytes: 1024, ..PATIENT }).await;
    running.ledger.register(vec![register("a")]).await.unwrap();
    let ((arrived, at_put), (_go, go_on)) = (oneshot::channel(), oneshot::channel());
    lake.faults.next_put("orders/_delta_log", Fault::Hold(arrived, go_on));
    let batch = paid(&running.budget, batch("a", 0, 10, &ShardGrant::new()), 1024).await;
    running.batches.send(batch).await.unwrap();
    at_put.await.unwrap();
    running.cancel.cancel();
    running.task.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(lake.records(ROWS).await, 0);
}

#[tokio::test]
async fn a_follower_that_is_denied_for_long_holds_nothing_up_and_nothing_in_memory_and_is_complete_afterwards() {
    const COMMITS: u64 = 150;
    let lake = Lake::in_memory();
    let running = run(&lake, WriterOptions { flush_bytes: 1024, ..PATIENT }).await;
    running.ledger.register(vec![register("a")]).await.unwrap();
    lake.faults.deny(Some("orders_rejects/_delta_log"));
    let grant = ShardGrant::new();
    for commit in 0..COMMITS {
        let next = batch("a", commit * 10, (commit + 1) * 10, &grant);
        running.batches.send(paid(&running.budget, next, 1024).await).await.unwrap();
        running.committed(commit as usize + 1).await;
    }
    // What is committed is paid back once its flight has landed, whatever the follower does.
    running.ledger.view(false).await.unwrap();
    assert_eq!(running.budget.in_use_bytes(), 0);
    assert_eq!((lake.records(ROWS).await, lake.records(REJECTS).await), (COMMITS * 9, 0));

    assert!(running.board.is_ready(), "five minutes have not passed");

    lake.faults.deny(None);
    running.drain().await;
    assert_eq!((lake.records(REJECTS).await, lake.records(PARTIALS).await), (COMMITS, COMMITS));
    // It came from the log in bounded steps and not from memory.
    let mut before = 0;
    for version in 1..=lake.version(REJECTS).await {
        let through = lake.entry(REJECTS, version).await[0]["commitInfo"]["appliedThrough"].as_u64().unwrap();
        assert!((1..=64).contains(&(through - before)), "from {before} to {through} at once");
        before = through;
    }
    assert_eq!(before, lake.version(ROWS).await);
}

/// What is logged on this thread from now on, as long as the guard lives.
fn logged() -> (Arc<Mutex<Vec<u8>>>, tracing::subscriber::DefaultGuard) {
    struct Pen(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Pen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Arc::<Mutex<Vec<u8>>>::default();
    let pens = Arc::clone(&lines);
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || Pen(Arc::clone(&pens))).finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn a_follower_that_is_denied_for_longer_than_its_patience_is_told_once_while_rows_go_on() {
    let (lines, _guard) = logged();
    let told = |words: &str| String::from_utf8(lines.lock().unwrap().clone()).unwrap().matches(words).count();
    let lake = Lake::in_memory();
    let options = WriterOptions { flush_bytes: 1024, ..PATIENT };
    let running = run_as(&lake, options, |writer| writer.telling_after(Duration::from_millis(300))).await;
    running.ledger.register(vec![register("a")]).await.unwrap();
    lake.faults.deny(Some("orders_rejects/_delta_log"));
    let (grant, mut commits) = (ShardGrant::new(), 0);
    let mut commit = async || {
        let next = batch("a", commits * 10, (commits + 1) * 10, &grant);
        running.batches.send(paid(&running.budget, next, 1024).await).await.unwrap();
        commits += 1;
        running.committed(commits as usize).await;
        commits
    };
    while running.board.is_ready() {
        commit().await;
    }
    // Rows go on, and the failures too.
    let denials = lake.faults.denials();
    while lake.faults.denials() < denials + 2 {
        commit().await;
    }
    let commits = commit().await;
    let trouble = running.board.snapshot().trouble;
    assert_eq!(trouble.keys().collect::<Vec<_>>(), [&"followers"]);
    assert!(trouble["followers"].contains("403"), "{trouble:?}");
    assert_eq!((told("lake table cannot be written"), told("lake table works again")), (1, 0));
    assert_eq!((lake.records(ROWS).await, lake.records(REJECTS).await), (commits * 9, 0));

    lake.faults.deny(None);
    let ready = async {
        while !running.board.is_ready() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ready).await.expect("it does not get ready again");
    assert_eq!((told("lake table cannot be written"), told("lake table works again")), (1, 1));
    running.drain().await;
    assert_eq!((lake.records(REJECTS).await, lake.records(PARTIALS).await), (commits, commits));
}
