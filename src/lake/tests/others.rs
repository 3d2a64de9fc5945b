//! What the live windows are told of commits that others make.

use deltalake::protocol::checkpoints;

use super::readers::{deltalake, on_disk};
use super::*;
use crate::lake::error::LakeError;
use crate::lake::log::entry_path;
use crate::lake::{CommitLog, LoggedCommit};

async fn staged_rows(log: &CommitLog, commit: &LoggedCommit, since_us: i64) -> Result<usize, LakeError> {
    let mut rows = 0;
    log.partials(commit, 0, since_us)?
        .each(|batch| {
            rows += batch.num_rows();
            Ok(())
        })
        .await?;
    Ok(rows)
}

#[tokio::test]
async fn every_commit_is_told_once_in_order_with_what_it_moves_and_what_it_stages() {
    let lake = Lake::in_memory();
    let mut writer = lake.committer(&["a", "b"]).await;
    let mut log = lake.open().await.commit_log();
    assert!(log.next().await.unwrap().is_none());
    let grant = ShardGrant::new();
    writer.committer.flush(micro([batch("a", 0, 10, &grant), batch("b", 0, 5, &grant)])).await.unwrap();
    let (last, _told) = ending(batch("a", 10, 20, &grant), &["c"]);
    writer.committer.flush(micro([last])).await.unwrap();

    let range = |shard: &str, from, through| PositionRange { shard: ShardId::new(shard), after: from, through };
    let first = log.next().await.unwrap().unwrap();
    assert_eq!(first.ranges.len(), 2);
    assert_eq!(log.next().await.unwrap().unwrap().version, first.version, "until it is passed");
    assert_eq!(staged_rows(&log, &first, 0).await.unwrap(), 2);
    assert_eq!(staged_rows(&log, &first, 1).await.unwrap(), 0, "its windows start earlier");
    let version = first.version;
    log.passed(first);
    let second = log.next().await.unwrap().unwrap();
    assert_eq!((second.version, &second.ranges), (version + 1, &vec![range("a", after(10), after(20))]));
    assert_eq!(second.ended, [ShardId::new("a")]);
    assert!(second.at_ms.is_some());
    log.passed(second);
    assert!(log.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_staged_file_that_is_gone_is_told_and_not_taken_for_nothing() {
    let lake = Lake::in_memory();
    let mut writer = lake.committer(&["a"]).await;
    let log = lake.open().await.commit_log();
    writer.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    let first = log.next().await.unwrap().unwrap();
    for add in lake.entry(ROWS, first.version).await[0]["commitInfo"]["staged"][PARTIALS].as_array().unwrap() {
        lake.faults.inner().delete(&lake.store.path(PARTIALS, add["path"].as_str().unwrap())).await.unwrap();
    }
    let error = staged_rows(&log, &first, 0).await.unwrap_err();
    assert!(!error.is_passing() && error.to_string().contains("is gone"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_were_cleaned_away_unread_are_one_commit_of_which_only_the_positions_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let lake = on_disk(&folder);
    let mut writer = lake.committer(&["a"]).await;
    let mut log = lake.open().await.commit_log();
    let (begun, grant) = (log.version(), ShardGrant::new());
    for (from, through) in [(0, 10), (10, 20), (20, 30)] {
        writer.committer.flush(micro([batch("a", from, through, &grant)])).await.unwrap();
    }
    checkpoints::create_checkpoint(&deltalake(&folder, ROWS).await, None).await.unwrap();
    for version in 0..=begun + 1 {
        lake.faults.inner().delete(&entry_path(&lake.store, ROWS, version)).await.unwrap();
    }
    let gap = log.next().await.unwrap().unwrap();
    assert_eq!((gap.version, gap.ranges[0].through), (begun + 3, after(30)));
    let error = staged_rows(&log, &gap, 0).await.unwrap_err();
    assert!(!error.is_passing() && error.to_string().contains("cleaned away"), "{error}");
    log.passed(gap);
    assert!(log.next().await.unwrap().is_none());
    writer.committer.flush(micro([batch("a", 30, 40, &grant)])).await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().ranges[0].after, after(30));
}
