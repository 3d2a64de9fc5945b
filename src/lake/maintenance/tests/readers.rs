//! What deltalake makes of our checkpoints and compactions, and we of its.

use std::fs::File;

use deltalake::DeltaTable;
use deltalake::kernel::transaction::{CommitBuilder, FinalizedCommit};
use deltalake::kernel::{Action, Add};
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::protocol::{DeltaOperation, checkpoints};

use super::*;
use crate::lake::tests::readers::{deltalake, on_disk, parquet_rows};
use crate::lake::tests::{identity, number};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltalake_reads_positions_and_rows_when_only_our_checkpoint_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let lake = on_disk(&folder);
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 5).await;
    let mut maintainer = maintainer(&lake, OPTIONS);
    well(&mut maintainer, true).await;
    flushes(&lake, 50, 4).await;
    well(&mut maintainer, true).await;
    let head = lake.version(ROWS).await;
    for version in 0..=head {
        let path = folder.path().join(format!("{ROWS}/_delta_log/{version:020}.json"));
        std::fs::remove_file(path).unwrap();
    }
    let table = deltalake(&folder, ROWS).await;
    assert_eq!(table.version(), Some(head));
    assert_eq!(parquet_rows(&table), 9 * 9);
    let snapshot = table.snapshot().unwrap();
    for (limb, value) in number(90).to_limbs().into_iter().enumerate() {
        let app_id = format!("{}a/{limb}", identity().prefix());
        let found = snapshot.transaction_version(table.log_store().as_ref(), app_id).await.unwrap();
        assert_eq!(found, Some(value));
    }
    assert_eq!(snapshot.metadata().partition_columns(), &["_date"]);
    for name in [REJECTS, PARTIALS] {
        assert_eq!(parquet_rows(&deltalake(&folder, name).await), 9, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_by_deltalake_is_carried_on() {
    let folder = tempfile::tempdir().unwrap();
    let lake = on_disk(&folder);
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 2).await;
    checkpoints::create_checkpoint(&deltalake(&folder, ROWS).await, None).await.unwrap();
    flushes(&lake, 20, 2).await;
    let (view, files) = (lake.open().await.view, active(&lake, ROWS).await);
    let options = MaintenanceOptions { compact_files: 1_000, ..OPTIONS };
    well(&mut maintainer(&lake, options), true).await;
    for version in 0..view.version {
        std::fs::remove_file(folder.path().join(format!("{ROWS}/_delta_log/{version:020}.json"))).unwrap();
    }
    assert_eq!(lake.open().await.view, view);
    assert_eq!(active(&lake, ROWS).await.into_keys().collect::<Vec<_>>(), files.into_keys().collect::<Vec<_>>());
    assert_eq!(parquet_rows(&deltalake(&folder, ROWS).await), 4 * 9);
}

/// Another engine's OPTIMIZE of the rows table as it was when `stale` was opened: its files out, one of their rows in.
async fn optimize(
    folder: &tempfile::TempDir,
    stale: &DeltaTable,
) -> Result<FinalizedCommit, deltalake::DeltaTableError> {
    let snapshot = stale.snapshot().unwrap();
    let path = "_date=2026-11-22/rewritten.parquet";
    let mut rewritten: Option<ArrowWriter<File>> = None;
    for uri in stale.get_file_uris().unwrap() {
        let file = File::open(uri.trim_start_matches("file://")).unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let new = || File::create(folder.path().join(ROWS).join(path)).unwrap();
            let writer = rewritten.get_or_insert_with(|| ArrowWriter::try_new(new(), batch.schema(), None).unwrap());
            writer.write(&batch).unwrap();
        }
    }
    let file = rewritten.unwrap().into_inner().unwrap();
    let mut actions: Vec<Action> =
        snapshot.log_data().iter().map(|view| Action::Remove(view.remove_action(false))).collect();
    let add = Add {
        path: path.to_owned(),
        partition_values: [("_date".to_owned(), Some("2026-11-22".to_owned()))].into(),
        size: file.metadata().unwrap().len().try_into().unwrap(),
        ..Add::default()
    };
    actions.push(Action::Add(add));
    let operation = DeltaOperation::Optimize { predicate: None, target_size: 1 << 20 };
    CommitBuilder::default().with_actions(actions).build(Some(snapshot), stale.log_store(), operation).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_optimize_in_flight_is_refused_because_our_compaction_repeats_the_meta_data() {
    for is_repeated in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let lake = on_disk(&folder);
        lake.committer(&["a"]).await;
        flushes(&lake, 0, 3).await;
        let stale = deltalake(&folder, ROWS).await;
        well(&mut maintainer(&lake, OPTIONS), false).await;
        let compacted = lake.version(ROWS).await;
        assert_eq!(stale.version(), Some(compacted - 1));
        if !is_repeated {
            let path = folder.path().join(format!("{ROWS}/_delta_log/{compacted:020}.json"));
            let entry = std::fs::read_to_string(&path).unwrap();
            let rest: Vec<&str> = entry.lines().filter(|line| !line.starts_with("{\"metaData\"")).collect();
            assert_eq!(rest.len() + 1, entry.lines().count());
            std::fs::write(&path, rest.join("\n")).unwrap();
        }
        let outcome = optimize(&folder, &stale).await;
        let table = deltalake(&folder, ROWS).await;
        let found = (table.version(), parquet_rows(&table));
        if is_repeated {
            let error = outcome.err().unwrap().to_string();
            assert!(error.contains("Metadata changed"), "{error}");
            assert_eq!(found, (Some(compacted), 3 * 9));
        } else {
            // What the repetition is for: otherwise both keep every row.
            outcome.unwrap();
            assert_eq!(found, (Some(compacted + 1), 2 * 3 * 9));
        }
    }
}
