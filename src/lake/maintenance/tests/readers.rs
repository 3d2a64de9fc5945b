//! What deltalake's own reader makes of our checkpoints, and we of its.

use deltalake::protocol::checkpoints;

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
