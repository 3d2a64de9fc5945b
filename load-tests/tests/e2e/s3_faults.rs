//! What S3 and the network do to requests, under load: the tables do not show it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use load_tests::{Child, Fault, Instance, Poster, Request, RuleId, Scene, Seed, until};
use pintail::demo::Kind;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const RECORDS: u64 = 600;
const RATE: f64 = 600.0;

type Matches = fn(&Request<'_>) -> bool;

struct Play {
    scene: Scene,
    poster: Poster,
    child: Child,
}

/// A process that has committed something before anything goes wrong.
async fn play() -> anyhow::Result<Play> {
    let seed = Seed::announced();
    let scene = Scene::on_s3(1).await?;
    let mut poster = scene.poster(seed.value());
    poster.post(300, 6_000.0).await?;
    let mut child = scene.spawn(PINTAIL)?;
    scene.caught_up(&poster.log, &mut child).await?;
    Ok(Play { scene, poster, child })
}

impl Play {
    /// The rule counts for every so-maniest request that matches, the first included.
    fn every(&self, nth: u64, matches: Matches, fault: Fault) -> anyhow::Result<RuleId> {
        let seen = AtomicU64::new(0);
        let is_due = move |r: &Request<'_>| matches(r) && seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(nth);
        Ok(self.scene.s3()?.faults().add(is_due, fault, None))
    }

    /// Posts on under the rules, each of which must have been met, and reckons.
    async fn end(mut self, rules: &[RuleId]) -> anyhow::Result<()> {
        self.poster.post(RECORDS, RATE).await?;
        let faults = self.scene.s3()?.faults();
        let story = self.child.story();
        until("every fault was met", async || {
            self.child.alive()?;
            Ok(rules.iter().all(|rule| faults.hits(*rule) > 0).then_some(()))
        })
        .await
        .context(story)?;
        faults.clear();
        self.scene.caught_up(&self.poster.log, &mut self.child).await?;
        assert_eq!(self.child.terminate().await?.code(), Some(0));
        self.scene.verify(&self.poster.log).await?;
        Ok(())
    }
}

fn commits(r: &Request<'_>) -> bool {
    TABLES.iter().any(|table| r.commits_to(table))
}

fn commits_of_followers(r: &Request<'_>) -> bool {
    FOLLOWERS.iter().any(|table| r.commits_to(table))
}

fn uploads(r: &Request<'_>) -> bool {
    TABLES.iter().chain(&FOLLOWERS).any(|table| r.uploads_to(table))
}

const TABLES: [&str; 3] = ["pin", "geo", "user"];
const FOLLOWERS: [&str; 3] = ["pin_rejects", "posts_by_country_partials", "users_by_age_group_partials"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost_and_requests_that_never_arrive_cost_nothing() -> anyhow::Result<()> {
    let play = play().await?;
    let rules = [
        play.every(3, commits, Fault::StoreThenDrop)?,
        play.every(4, commits, Fault::Drop)?,
        play.every(2, commits_of_followers, Fault::StoreThenDrop)?,
        play.every(5, uploads, Fault::StoreThenDrop)?,
        play.every(6, uploads, Fault::Drop)?,
    ];
    play.end(&rules).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_wrong_are_looked_into() -> anyhow::Result<()> {
    let play = play().await?;
    let conflict = Fault::Status { code: 409, s3_code: "ConditionalRequestConflict" };
    let failed = Fault::StoreThenStatus { code: 500, s3_code: "InternalError" };
    let precondition = Fault::StoreThenStatus { code: 412, s3_code: "PreconditionFailed" };
    let rules = [
        play.every(2, commits, conflict)?,
        play.every(3, commits, failed)?,
        play.every(3, commits, precondition)?,
        play.every(2, commits_of_followers, precondition)?,
        play.every(9, |r| r.looks_beyond_the_head_of("pin"), Fault::HalfThenDrop)?,
    ];
    play.end(&rules).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_take_effect_late_are_waited_for() -> anyhow::Result<()> {
    let play = play().await?;
    let late = |ms| Fault::Delay(Duration::from_millis(ms));
    let rules = [
        play.every(2, commits, late(700))?,
        play.every(2, commits_of_followers, late(900))?,
        play.every(3, uploads, late(400))?,
        play.every(4, |r| r.looks_beyond_the_head_of("pin"), late(300))?,
    ];
    play.end(&rules).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_503_is_waited_out() -> anyhow::Result<()> {
    let play = play().await?;
    let busy = Fault::Status { code: 503, s3_code: "SlowDown" };
    // More in a row than the client's own patience, so that ours is asked for as well.
    let storm = play.scene.s3()?.faults().add(|_| true, busy, Some(60));
    let rest = play.every(5, |_| true, busy)?;
    play.end(&[storm, rest]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_that_does_not_answer_for_a_while_holds_everything_up_and_loses_nothing() -> anyhow::Result<()> {
    let mut play = play().await?;
    let stall = play.scene.s3()?.faults().add(|_| true, Fault::Stall, None);
    play.poster.post(RECORDS, 3_000.0).await?;
    let (faults, child) = (play.scene.s3()?.faults(), &mut play.child);
    until("a request of each stream is stalled", async || {
        child.alive()?;
        Ok((faults.hits(stall) >= Kind::ALL.len() as u64).then_some(()))
    })
    .await?;
    let kept = play.scene.s3()?.keys("");
    play.poster.post(RECORDS, 3_000.0).await?;
    ensure!(play.scene.s3()?.keys("") == kept, "something took effect in a stall");
    play.end(&[stall]).await
}
