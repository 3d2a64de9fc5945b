//! From PutRecords to the tables, and a second start.

use load_tests::{Scene, Seed, until};
use pintail::demo::Kind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_a_row_or_a_reject_once_and_the_partials_are_a_group_by() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let scene = Scene::new(2).await?;
    let mut poster = scene.poster(seed.value());
    let mut pintail = scene.start().await?;
    poster.post(3_000, 6_000.0).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    assert_eq!(pintail.records_read(), 3_000);
    pintail.drain().await?;

    let verdict = scene.verify(&poster.log).await?;
    assert_eq!(verdict.values().map(|found| found.reckoning.total().accepted).sum::<u64>(), 3_000);
    for (kind, found) in &verdict {
        assert!(found.reckoning.rows > 500 && found.partials > 0, "{kind:?}: {found:?}");
        assert!(found.reckoning.rejects.len() >= 3, "{kind:?}: dirt of several sorts was posted, {found:?}");
    }

    // The reckoning can fail: these are accepted and read by nobody.
    poster.post(30, 6_000.0).await?;
    let lost = scene.verify(&poster.log).await.map_err(|error| format!("{error:#}"));
    assert!(lost.as_ref().is_err_and(|error| error.contains("lost")), "{lost:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_goes_on_and_reads_nothing_again() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let scene = Scene::new(2).await?;
    let mut poster = scene.poster(seed.value());
    poster.post(1_200, 6_000.0).await?;
    let mut first = scene.start().await?;
    scene.caught_up(&poster.log, &mut first).await?;
    first.drain().await?;
    let mut before = Vec::new();
    for kind in Kind::ALL {
        before.push((kind.name(), scene.table(kind.name()).await?.files));
    }

    let mut second = scene.start().await?;
    until("the second start has read every shard", async || Ok(second.has_read_to_the_heads().then_some(()))).await?;
    assert_eq!(second.records_read(), 0);
    poster.post(600, 6_000.0).await?;
    scene.caught_up(&poster.log, &mut second).await?;
    assert_eq!(second.records_read(), 600);
    second.drain().await?;

    scene.verify(&poster.log).await?;
    for (table, files) in before {
        let now = scene.table(table).await?.files;
        assert!(files.iter().all(|file| now.contains(file)), "{table}: a file of the first start has gone");
    }
    Ok(())
}
