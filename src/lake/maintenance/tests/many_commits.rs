//! Thousands of commits: the log stays small and a commit costs what the first one cost.

use std::time::Duration;

use super::*;

const COMMITS: u64 = 400;
/// So that the rows table's log retention of 7 days is 183 commits.
const BETWEEN: Duration = Duration::from_secs(55 * 60);

#[tokio::test]
async fn the_log_stays_small_and_a_commit_never_costs_more_requests() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let mut maintainer =
        maintainer(&lake, MaintenanceOptions { checkpoint_commits: 100, compact_files: 16, ..OPTIONS });
    let (grant, mut costs, mut opening) = (ShardGrant::new(), Vec::new(), Vec::new());
    for commit in 0..COMMITS {
        lake.clock.pass_wall(BETWEEN);
        let before = lake.faults.calls();
        ours.committer.flush(micro([batch("a", commit * 2, commit * 2 + 2, &grant)])).await.unwrap();
        costs.push(lake.faults.calls() - before);
        if commit % 100 == 99 {
            let before = lake.faults.calls();
            let instance = Instance::of(lake.open().await);
            opening.push(lake.faults.calls() - before);
            follow_all(instance).await;
            well(&mut maintainer, false).await;
        }
    }
    assert!(!grant.is_revoked());
    // The first commit after maintenance also finds what that has committed.
    let (first, last) = (&costs[1..100], &costs[COMMITS as usize - 99..]);
    assert!(first.iter().chain(last).all(|cost| *cost == costs[1]), "{first:?} {last:?}");
    assert!(costs.iter().all(|cost| *cost <= costs[1] + 8), "{costs:?}");
    // Each of three tables is read twice: at most its checkpoint and the 100 entries since.
    assert!(opening.iter().all(|cost| *cost <= 3 * 2 * 110), "{opening:?}");

    let json = objects(&lake, "orders/_delta_log").await.iter().filter(|path| path.ends_with(".json")).count();
    assert!(json <= 183 + 40, "{json} entries");
    let checkpoints = objects(&lake, "orders/_delta_log").await.len() - json;
    assert!(checkpoints <= 6, "{checkpoints} checkpoints and hint");
    assert!(active(&lake, ROWS).await.len() < 64);
    assert_eq!(numbers(&lake, ROWS, "id").await.len() as u64, COMMITS);
    assert_eq!(numbers(&lake, PARTIALS, "records").await.len() as u64, COMMITS);
    assert_eq!(lake.open().await.view.shards, ours.committer.view.shards);
}
