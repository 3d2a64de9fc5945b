//! What deltalake's own reader makes of our tables, and what we make of its checkpoints.

use std::fs::File;

use deltalake::kernel::transaction::CommitProperties;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::{DeltaTable, protocol::checkpoints};
use object_store::local::LocalFileSystem;
use tokio::sync::oneshot;
use url::Url;

use super::faults::Fault;
use super::*;
use crate::lake::store::LakeConfig;

pub fn on_disk(folder: &tempfile::TempDir) -> Lake {
    let inner = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let faults = Arc::new(Faulty::over(Arc::new(inner)));
    let store = LakeStore::with_objects(Arc::clone(&faults) as Arc<_>, "", "file:///lake");
    Lake { faults, store, clock: TestClock::default() }
}

pub async fn deltalake(folder: &tempfile::TempDir, table: &str) -> DeltaTable {
    deltalake::open_table(Url::from_directory_path(folder.path().join(table)).unwrap()).await.unwrap()
}

fn parquet_rows(table: &DeltaTable) -> usize {
    let rows = |uri: String| {
        let file = File::open(uri.trim_start_matches("file://")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>()
    };
    table.get_file_uris().unwrap().map(rows).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltalake_reads_our_rows_schema_and_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let config = LakeConfig { uri: folder.path().join("made/on/open").display().to_string(), ..LakeConfig::default() };
    LakeStore::open(&config).await.unwrap();
    let lake = on_disk(&folder);
    let mut ours = lake.committer(&["a", "b"]).await;
    let grant = ShardGrant::new();
    let mut two_days = batch("a", 0, 50, &grant);
    two_days.rows = rows("a", 1..50, |id| DAY + id as i32 % 2);
    ours.committer.flush(micro([two_days, batch("b", 0, 5, &grant)])).await.unwrap();

    let table = deltalake(&folder, ROWS).await;
    assert_eq!(table.version(), Some(ours.committer.view.version));
    assert_eq!(parquet_rows(&table), 49 + 4);
    let snapshot = table.snapshot().unwrap();
    let expected: deltalake::kernel::StructType =
        serde_json::from_str(&crate::lake::schema::schema_string(&rows_schema()).unwrap()).unwrap();
    assert_eq!(snapshot.schema().as_ref(), &expected);
    for (limb, value) in number(50).to_limbs().into_iter().enumerate() {
        let app_id = format!("{}a/{limb}", identity().prefix());
        let found = snapshot.transaction_version(table.log_store().as_ref(), app_id).await.unwrap();
        assert_eq!(found, Some(value));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_is_read_from_a_checkpoint_and_its_tail() {
    let folder = tempfile::tempdir().unwrap();
    let lake = on_disk(&folder);
    let mut ours = lake.committer(&["a", "b"]).await;
    let grant = ShardGrant::new();
    ours.committer.flush(micro([batch("a", 0, 10, &grant), batch("b", 0, 5, &grant)])).await.unwrap();
    let properties = read_table(&lake.store, ROWS, "").await.unwrap().unwrap().metadata.configuration;
    checkpoints::create_checkpoint(&deltalake(&folder, ROWS).await, None).await.unwrap();
    let checkpointed = ours.committer.view.version;
    for version in 0..checkpointed {
        std::fs::remove_file(folder.path().join(format!("{ROWS}/_delta_log/{version:020}.json"))).unwrap();
    }
    assert_eq!(lake.open().await.view, ours.committer.view, "at the checkpoint");

    ours.committer.flush(micro([batch("a", 10, 20, &grant)])).await.unwrap();
    let opened = lake.open().await;
    assert_eq!(opened.view, ours.committer.view, "beyond it");
    assert_eq!(opened.rows.state().metadata.configuration, properties);

    std::fs::remove_file(folder.path().join(format!("{ROWS}/_delta_log/_last_checkpoint"))).unwrap();
    assert_eq!(lake.open().await.view, ours.committer.view, "without the hint");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_a_sleeping_writer_made_below_the_checkpoint_is_made_again_above_it() {
    let folder = tempfile::tempdir().unwrap();
    let lake = on_disk(&folder);
    let mut sleeper = lake.committer(&["a", "b"]).await;
    let mut other = Instance::of(lake.open().await);
    let ((arrived, at_put), (go, go_on)) = (oneshot::channel(), oneshot::channel());
    lake.faults.next_put("orders/_delta_log", Fault::Hold(arrived, go_on));
    let grant = ShardGrant::new();
    let version = sleeper.committer.view.version;
    let meanwhile = async {
        at_put.await.unwrap();
        for from in [0, 10, 20] {
            other.committer.flush(micro([batch("b", from, from + 10, &grant)])).await.unwrap();
        }
        checkpoints::create_checkpoint(&deltalake(&folder, ROWS).await, None).await.unwrap();
        for old in 0..version + 3 {
            std::fs::remove_file(folder.path().join(format!("{ROWS}/_delta_log/{old:020}.json"))).unwrap();
        }
        lake.clock.pass_boot(Duration::from_secs(8 * 24 * 60 * 60));
        go.send(()).unwrap();
    };
    let flush = sleeper.committer.flush(micro([batch("a", 0, 10, &grant)]));
    let (flushed, ()) = both(flush, meanwhile).await;
    flushed.unwrap();

    assert!(!grant.is_revoked());
    let table = deltalake(&folder, ROWS).await;
    assert_eq!(table.version(), Some(version + 4));
    assert_eq!(parquet_rows(&table), 9 + 3 * 9);
    assert_eq!(lake.open().await.view.shards[&ShardId::new("a")].resume(), after(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_by_deltalake_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let lake = on_disk(&folder);
    let mut ours = lake.committer(&["a"]).await;
    let table = deltalake(&folder, ROWS).await;
    let properties = deltalake::kernel::transaction::CommitBuilder::from(CommitProperties::default());
    let operation = deltalake::protocol::DeltaOperation::StreamingUpdate {
        output_mode: deltalake::protocol::OutputMode::Append,
        query_id: "q".to_owned(),
        epoch_id: 1,
    };
    properties.build(Some(table.snapshot().unwrap()), table.log_store(), operation).await.unwrap();
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    assert_eq!(deltalake(&folder, ROWS).await.version(), Some(3));
}
