//! Tables of a replayed time range: theirs from the first entry on, and never somebody else's.

use super::*;
use crate::checkpoint::TimeRange;
use crate::lake::error::LakeError;
use crate::lake::ledger::read_ledgers;

const RANGE: TimeRange = TimeRange { from_ms: 1_000, to_ms: 2_000 };

async fn open(lake: &Lake, range: TimeRange) -> Result<StreamLake, LakeError> {
    let identity = identity().of_range_replay();
    let tables = tables_of(&identity);
    StreamLake::open_range_tables(lake.store.clone(), identity, tables, range, lake.clock.moments()).await
}

fn refusal(opened: Result<StreamLake, LakeError>) -> String {
    match opened {
        Err(error @ LakeError::Refused { .. }) => error.to_string(),
        other => panic!("was not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_range_is_pinned_with_the_table_and_another_one_is_refused() {
    let lake = Lake::in_memory();
    open(&lake, RANGE).await.unwrap();
    open(&lake, RANGE).await.unwrap();
    let written = lake.faults.puts("");
    for other in [TimeRange { to_ms: 3_000, ..RANGE }, TimeRange { from_ms: 500, ..RANGE }] {
        let refused = refusal(open(&lake, other).await);
        assert!(refused.contains("it holds 1970-01-01T00:00:01Z to 1970-01-01T00:00:02Z of this stream"), "{refused}");
    }
    assert_eq!(lake.faults.puts(""), written);
}

#[tokio::test]
async fn of_two_ranges_that_begin_at_once_the_table_is_of_one() {
    let lake = Lake::in_memory();
    let other = TimeRange { to_ms: 9_000, ..RANGE };
    let (one, two) = both(open(&lake, RANGE), open(&lake, other)).await;
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    refusal(if one.is_ok() { two } else { one });
}

#[tokio::test]
async fn tables_of_the_service_or_of_somebody_else_are_refused_and_left_alone() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    let written = lake.faults.puts("");
    let refused = refusal(open(&lake, RANGE).await);
    assert!(refused.starts_with("table orders is refused: it is there, and not made by a replay"), "{refused}");
    assert_eq!(lake.faults.puts(""), written);

    // Only a follower's name is taken.
    let lake = Lake::in_memory();
    let mut elsewhere = tables();
    elsewhere.rows.name = "elsewhere".to_owned();
    StreamLake::open_tables(lake.store.clone(), identity(), elsewhere, lake.clock.moments()).await.unwrap();
    let written = lake.faults.puts("");
    let refused = refusal(open(&lake, RANGE).await);
    assert!(refused.starts_with("table orders_rejects is refused: it is there"), "{refused}");
    assert_eq!(lake.faults.puts(""), written);
}

#[tokio::test]
async fn a_replay_that_died_while_it_made_its_tables_makes_the_rest() {
    let lake = Lake::in_memory();
    open(&lake, RANGE).await.unwrap();
    let rejects: object_store::path::Path = "lake/orders_rejects/_delta_log/00000000000000000000.json".into();
    lake.faults.inner().delete(&rejects).await.unwrap();
    let opened = open(&lake, RANGE).await.unwrap();
    assert_eq!(opened.followers.len(), 2);
    assert_eq!(lake.version(REJECTS).await, 0);
}

#[tokio::test]
async fn its_ledger_is_of_a_pipeline_that_nobody_can_configure_and_knows_when_it_is_finished() {
    let lake = Lake::in_memory();
    let mut opened = open(&lake, RANGE).await.unwrap();
    opened.finish_range().await.unwrap();
    let version = lake.version(ROWS).await;
    open(&lake, RANGE).await.unwrap().finish_range().await.unwrap();
    assert_eq!(lake.version(ROWS).await, version, "once");
    let ledgers = read_ledgers(&lake.store, ROWS).await.unwrap().unwrap();
    assert_eq!(ledgers.len(), 1);
    assert_eq!(ledgers[0].identity.pipeline, "shop:replay");
    assert!(ledgers[0].view.shards.is_empty(), "the range is no shard");
}
