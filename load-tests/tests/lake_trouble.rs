//! A lake that refuses: people are told once and in words that help, nothing is written where it must not be, and
//! when the cause goes the work goes on without a restart.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};
use load_tests::{Child, Fault, Instance, Poster, Request, Scene, Seed, get, until};
use pintail::demo::Kind;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
/// The one line that says that a person may be needed.
const TOLD: &str = "lake table cannot be written";

struct Play {
    scene: Scene,
    poster: Poster,
    child: Child,
    address: SocketAddr,
}

impl Play {
    /// One stream, and a process that has committed something.
    async fn of(mut scene: Scene) -> anyhow::Result<Self> {
        let seed = Seed::announced();
        scene.settings.streams = vec![Kind::Geo];
        let mut poster = scene.poster(seed.value());
        poster.post(300, 6_000.0).await?;
        let mut child = scene.spawn(PINTAIL)?;
        let address = child.address().await?;
        scene.caught_up(&poster.log, &mut child).await?;
        Ok(Self { scene, poster, child, address })
    }

    /// Waits until `/readyz` is 503 and says why in these words.
    async fn until_unready(&mut self, words: &[&str]) -> anyhow::Result<()> {
        let (mut said, child, address) = (String::new(), &mut self.child, self.address);
        let told = until("readiness is lost and the reason told", async || {
            child.alive()?;
            let answer = get(address, "/readyz").await?;
            said = answer.json()?["streams"][0]["trouble"]["lake"].to_string();
            Ok((answer.status == 503 && words.iter().all(|word| said.contains(word))).then_some(()))
        });
        told.await.with_context(|| format!("it says {said}; {}", self.child.story()))
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let (child, address) = (&mut self.child, self.address);
        until("it is ready again", async || {
            child.alive()?;
            Ok((get(address, "/readyz").await?.status == 200).then_some(()))
        })
        .await
    }

    /// Everything is committed, the trouble was told once, and the tables are right.
    async fn end(mut self) -> anyhow::Result<()> {
        self.scene.caught_up(&self.poster.log, &mut self.child).await?;
        self.until_ready().await?;
        let told = self.child.lines(&[TOLD])?;
        ensure!(told.len() == 1, "told {} times: {told:#?}", told.len());
        let attempts = self.child.lines(&["lake attempt failed"])?;
        ensure!(attempts.len() <= 2, "a line for each attempt: {attempts:#?}");
        assert_eq!(self.child.terminate().await?.code(), Some(0));
        self.scene.verify(&self.poster.log).await?;
        Ok(())
    }
}

/// S3 answers every request so for a while, in flight.
async fn is_told_and_recovered_from(fault: Fault, words: &[&str]) -> anyhow::Result<()> {
    let mut play = Play::of(Scene::on_s3(1).await?).await?;
    let rule = play.scene.s3()?.faults().add(|_| true, fault, None);
    play.poster.post(300, 6_000.0).await?;
    play.until_unready(words).await?;
    play.poster.post(300, 6_000.0).await?;
    play.scene.s3()?.faults().remove(rule);
    play.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_expire_are_named_and_their_renewal_is_enough() -> anyhow::Result<()> {
    is_told_and_recovered_from(Fault::Status { code: 403, s3_code: "ExpiredToken" }, &["403", "ExpiredToken"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_s3_does_not_know_is_named() -> anyhow::Result<()> {
    is_told_and_recovered_from(Fault::Status { code: 403, s3_code: "InvalidAccessKeyId" }, &["InvalidAccessKeyId"])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_another_region_is_named() -> anyhow::Result<()> {
    let malformed = Fault::Status { code: 400, s3_code: "AuthorizationHeaderMalformed" };
    is_told_and_recovered_from(malformed, &["400", "AuthorizationHeaderMalformed"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirection_to_another_region_is_named() -> anyhow::Result<()> {
    is_told_and_recovered_from(Fault::Status { code: 301, s3_code: "PermanentRedirect" }, &["region"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_vanishes_is_named_and_its_return_is_enough() -> anyhow::Result<()> {
    is_told_and_recovered_from(Fault::Status { code: 404, s3_code: "NoSuchBucket" }, &["NoSuchBucket"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_were_wiped_and_made_again_are_refused_and_nothing_is_written_into_them() -> anyhow::Result<()> {
    let mut play = Play::of(Scene::on_s3(1).await?).await?;
    ensure!(play.scene.s3()?.remove_prefix("tables/") > 0);
    let mut maker = play.scene.spawn(PINTAIL)?;
    play.scene.caught_up(&play.poster.log, &mut maker).await?;
    assert_eq!(maker.terminate().await?.code(), Some(0));
    let made = play.scene.s3()?.keys("tables/");

    play.poster.post(300, 6_000.0).await?;
    play.until_unready(&["table geo is refused", "restart Pintail"]).await?;
    let log = |key: &&String| key.contains("/_delta_log/");
    let now = play.scene.s3()?.keys("tables/");
    assert_eq!(now.iter().filter(log).collect::<Vec<_>>(), made.iter().filter(log).collect::<Vec<_>>());
    ensure!(play.child.lines(&[TOLD, "geo"])?.len() == 1, "{}", play.child.story());
    play.child.kill_9().await?;

    let mut next = play.scene.spawn(PINTAIL)?;
    play.scene.caught_up(&play.poster.log, &mut next).await?;
    assert_eq!(next.terminate().await?.code(), Some(0));
    play.scene.verify(&play.poster.log).await?;
    Ok(())
}

/// Sets the largest file that a process may write, in bytes.
fn limit_file_size(child: &Child, limit: &str) -> anyhow::Result<()> {
    let status =
        Command::new("prlimit").args(["--pid", &child.pid()?.to_string(), &format!("--fsize={limit}")]).status();
    ensure!(status.context("prlimit")?.success(), "prlimit --fsize={limit} failed");
    Ok(())
}
