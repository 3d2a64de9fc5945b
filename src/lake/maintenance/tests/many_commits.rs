//! Thousands of commits: the log stays small and a commit costs what the first one cost.

use std::time::Duration;

use super::*;

const COMMITS: u64 = 1_200;
/// So that the rows table's log retention of 7 days is 336 commits, and the other tables' 30 days all but all.
const BETWEEN: Duration = Duration::from_secs(30 * 60);

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
    // After maintenance the next commit finds its versions, a request or two for each.
    let usual = |costs: &[usize]| costs.iter().filter(|cost| **cost <= 10).count();
    assert_eq!((usual(&costs[..100]), usual(&costs[COMMITS as usize - 100..])), (100, 99));
    let sum = |costs: &[usize]| costs.iter().copied().filter(|cost| *cost <= 10).sum::<usize>();
    assert_eq!(sum(&costs[1..99]), sum(&costs[COMMITS as usize - 98..]));
    assert!(opening.iter().max() <= opening.first().map(|first| first + 40).as_ref(), "{opening:?}");

    let json = objects(&lake, "orders/_delta_log").await.iter().filter(|path| path.ends_with(".json")).count();
    assert!(json <= 336 + 2 * 110, "{json} entries");
    let checkpoints = objects(&lake, "orders/_delta_log").await.len() - json;
    assert!(checkpoints <= 8, "{checkpoints} checkpoints and hint");
    assert!(active(&lake, ROWS).await.len() < 64);
    assert_eq!(numbers(&lake, ROWS, "id").await.len() as u64, COMMITS);
    assert_eq!(numbers(&lake, PARTIALS, "records").await.len() as u64, COMMITS);
    assert_eq!(lake.open().await.view.shards, ours.committer.view.shards);
}
