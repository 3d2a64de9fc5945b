//! A lake on S3, through the client and the credentials that run in production.

use load_tests::{Fault, Scene, Seed, Verb};
use pintail::demo::Kind;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_on_s3_commits_everything_and_a_second_start_reads_nothing_again() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let scene = Scene::on_s3(2).await?;
    let mut poster = scene.poster(seed.value());
    poster.post(1_200, 6_000.0).await?;
    let mut child = scene.spawn(PINTAIL)?;
    child.ready().await?;
    scene.caught_up(&poster.log, &mut child).await?;
    assert_eq!(child.terminate().await?.code(), Some(0));
    scene.verify(&poster.log).await?;

    let s3 = scene.s3()?;
    let rows = s3.keys("tables/pin/_date=");
    let uploads = s3.faults().add(|r| r.verb == Verb::Put && r.key.contains("/_date="), Fault::Count, None);
    let mut again = scene.spawn(PINTAIL)?;
    again.ready().await?;
    scene.caught_up(&poster.log, &mut again).await?;
    assert_eq!(again.terminate().await?.code(), Some(0));
    assert_eq!(s3.faults().hits(uploads), 0);
    assert_eq!(s3.keys("tables/pin/_date="), rows);
    assert!(scene.table(Kind::Pin.name()).await?.rows() > 0);
    Ok(())
}
