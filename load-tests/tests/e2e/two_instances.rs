//! Two Pintails on the same streams and the same lake by mistake.

use std::net::SocketAddr;

use anyhow::Context;
use load_tests::{Child, Instance, Scene, Seed, get, metric, until};
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use tokio_util::sync::CancellationToken;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const RATE: f64 = 500.0;

/// A running Pintail, and where it says what it does.
struct Twin {
    child: Child,
    address: SocketAddr,
}

impl Twin {
    async fn start(scene: &Scene) -> anyhow::Result<Self> {
        let mut child = scene.spawn(PINTAIL)?;
        let address = child.address().await?;
        Ok(Self { child, address })
    }

    async fn metric(&mut self, name: &str, stream: &str) -> anyhow::Result<f64> {
        self.child.alive()?;
        let answer = get(self.address, "/metrics").await.with_context(|| self.child.story())?;
        Ok(metric(&answer.body, name, stream).unwrap_or_default())
    }
}

/// Waits until the two have been in each other's way on every stream, and have both seen it through.
async fn until_they_meet(twins: &mut [Twin; 2]) -> anyhow::Result<()> {
    let met = until("on each stream one of the two was fenced", async || {
        for kind in Kind::ALL {
            let (stream, mut fenced) = (format!("stream=\"{}\"", kind.name()), 0.0);
            for twin in twins.iter_mut() {
                fenced += twin.metric("pintail_fenced_total", &stream).await?;
            }
            if fenced == 0.0 {
                return Ok(None);
            }
        }
        Ok(Some(()))
    });
    let met = met.await;
    met.with_context(|| twins.iter().map(|twin| twin.child.story()).collect::<Vec<_>>().join("\n"))
}

/// Once they have met, the one that has committed more is killed, and the other must take its shards over.
async fn meet_and_part(scene: &Scene, log: &AcceptedLog) -> anyhow::Result<Child> {
    let (first, second) = tokio::try_join!(Twin::start(scene), Twin::start(scene))?;
    let mut twins = [first, second];
    until_they_meet(&mut twins).await?;
    let [mut first, mut second] = twins;
    let rows = "pintail_rows_committed_total";
    let first_leads = first.metric(rows, "").await? >= second.metric(rows, "").await?;
    let (leader, mut other) = if first_leads { (first, second) } else { (second, first) };
    leader.child.kill_9().await?;
    scene.caught_up(log, &mut other.child).await.context("the other one does not take over")?;
    Ok(other.child)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_write_nothing_twice_and_the_one_that_is_left_goes_on() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let scene = Scene::new(2).await?;
    let mut poster = scene.poster(seed.value());
    let (stop, log) = (CancellationToken::new(), poster.log.clone());
    let twins = async {
        let result = meet_and_part(&scene, &log).await;
        stop.cancel();
        result
    };
    let (posted, left) = tokio::join!(poster.post_until(RATE, &stop), twins);
    let mut left = left?;
    posted?;
    scene.caught_up(&poster.log, &mut left).await?;
    assert_eq!(left.terminate().await?.code(), Some(0));
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_both_drain_in_the_end_agree() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let scene = Scene::new(2).await?;
    let mut poster = scene.poster(seed.value());
    let (mut first, mut second) = tokio::try_join!(scene.start(), scene.start())?;
    poster.post(2_000, 1_000.0).await?;
    scene.caught_up(&poster.log, &mut first).await?;
    second.alive()?;
    let (first, second) = tokio::join!(first.drain(), second.drain());
    first.and(second)?;
    scene.verify(&poster.log).await?;
    Ok(())
}
