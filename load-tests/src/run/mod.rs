//! A profile, run: servers, producer and Pintail in processes of their own, looked at from outside, and the book held
//! against the tables at the end.
//!
//! The load is open-loop: every record has a time at which it is to be sent, drawn before the run, and its latency
//! counts from then. Whoever makes a record wait, be it the producer, Kinesis or Pintail, makes it late; nobody makes
//! it disappear from the statistics. A fast run that loses a record is a failed run.

mod book;
mod clock;
mod command;
mod contracts;
mod html;
mod latency;
mod machine;
mod measure;
mod place;
mod produce;
mod profile;
mod report;
mod role;
mod schedule;
mod shape;
mod target;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use tokio::time::Instant;

use self::clock::Clock;
pub use self::command::{RunArgs, command};
pub use self::html::page;
pub use self::latency::{Latency, Percentiles};
pub use self::machine::{Build, Machine};
use self::measure::{Live, measured};
use self::place::Place;
use self::produce::{Order, Word};
pub use self::profile::{Profile, SHIPPED};
pub use self::report::{Backlog, Commit, CpuSeconds, FORMAT, QuotaShare, Report, Sample};
pub use self::role::Role;
use self::role::{Player, book_file};
pub use self::target::{Target, ask};
use self::watch::{Processes, Watch};
use crate::child::Child;
use crate::http::Asker;
use crate::reshard::keep_resharding;
use crate::scene::Instance;
use crate::seed::Seed;
use crate::verify::look;
use crate::wait::until_within;

/// What has gathered may take so long to be committed, and as long as it took to gather.
const RECOVERY: Duration = Duration::from_secs(60);

/// What is to happen.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How much of what.
    pub profile: Profile,
    /// Draws times and records.
    pub seed: Seed,
    /// Somebody else's Kinesis; `None`: one of our own.
    pub target: Option<Target>,
    /// What the streams' names begin with.
    pub prefix: String,
    /// Whether what is created was agreed to beforehand.
    pub yes: bool,
    /// A line a second on standard error.
    pub progress: bool,
}

/// Runs a plan; `program` is this package's binary. Ends early, without a verdict, when `stop` does. `Err` only if the
/// run itself could not be done; whatever was created at somebody else's is deleted either way.
pub async fn run(
    program: &str,
    plan: &Plan,
    stop: impl Future<Output = anyhow::Result<anyhow::Error>>,
) -> anyhow::Result<Report> {
    let place = Place::open(program, plan.target.clone(), &plan.prefix, plan.profile.quotas).await?;
    if place.target.is_foreign() {
        let names: Vec<String> =
            plan.profile.kinds().into_iter().map(|kind| place.names[kind as usize].clone()).collect();
        ask(&place.target, &names, &plan.profile, plan.yes)?;
    }
    let run = Run { program, plan, place: &place };
    let worked = tokio::select! {
        worked = run.work() => worked,
        told = stop => Err(told?),
    };
    let cleaned = place.clean_up().await;
    match (worked, cleaned) {
        (Ok(report), Ok(())) => Ok(report),
        (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
        (Err(error), Err(left)) => Err(error.context(left)),
    }
}

struct Run<'a> {
    program: &'a str,
    plan: &'a Plan,
    place: &'a Place,
}

impl Run<'_> {
    async fn work(&self) -> anyhow::Result<Report> {
        let (profile, place) = (&self.plan.profile, self.place);
        place.furnish(profile).await?;
        let (log, live) = (Arc::new(AcceptedLog::default()), Arc::new(AcceptedLog::default()));
        let clock = Clock::read()?;
        let mut backlog = Word::default();
        if profile.behind_ms > 0 {
            let file = book_file(place.folder(), "backlog");
            let mut producer = self.producer("backlog", Some(profile.backlog())).await?;
            while let Some(word) = producer.next().await? {
                backlog = word;
                self.tell(|| format!("backlog: {} of {} records", word.records, profile.backlog()));
            }
            book::read(&file, &log, &clock)?;
        }
        let mut child = place.start_pintail(self.program, profile)?;
        let asker = Asker::new(child.address().await?);
        let kinds = profile.kinds().into_iter().map(|kind| (kind, place.names[kind as usize].clone())).collect();
        let processes = Processes { pintail: child.pid()?, kinesis: place.kinesis_pid(), s3: place.s3_pid()? };
        let look_interval = Duration::from_millis(profile.look_interval_ms);
        let watch = Watch::new(kinds, asker, place.s3.client()?, processes, look_interval);
        let done = tokio::select! {
            done = self.live(&watch, &mut child, &log, &live) => done,
            error = watch.for_ever() => Err(error),
        };
        let posted = done.with_context(|| child.story())?;
        let usage = place.usage().await?;
        let after = Sample { posted: posted.live.records, ..watch.sample().await? };
        child.ask_to_end().await?;
        let status = child.ended().await?;
        self.tell(|| "reading the tables".to_owned());
        let verdict = look(&place.s3.lake_url()?, &log, &profile.kinds(), &place.windows(profile)).await?;
        let alarms = child.lines(&["records were trimmed before they were read"])?.len();
        let seen = measure::Run { plan: self.plan, backlog, posted, after, usage, status, alarms, clock };
        measured(seen, watch, &live, &verdict, &place.target)
    }

    async fn producer(&self, phase: &str, at_once: Option<u64>) -> anyhow::Result<Player> {
        let order = Order {
            profile: self.plan.profile.clone(),
            // The backlog is not posted a second time.
            seed: self.plan.seed.value() + u64::from(at_once.is_some()),
            at_once,
            target: self.place.target.clone(),
            streams: self.place.names.clone(),
            book: book_file(self.place.folder(), phase),
        };
        Player::start(self.program, Role::Producer, &serde_json::to_vec(&order)?).await
    }

    /// Posts the load, and waits until it is committed.
    async fn live(
        &self,
        watch: &Watch,
        child: &mut Child,
        log: &AcceptedLog,
        live: &AcceptedLog,
    ) -> anyhow::Result<Live> {
        let profile = &self.plan.profile;
        if profile.behind_ms == 0 {
            child.ready().await?;
            watch.reading(profile.kinds().len() * profile.shards as usize).await?;
        }
        let before = watch.sample().await?;
        let backlog_heads = log.heads();
        let mut backlog_done = None;
        let clock = Clock::read()?;
        let mut producer = self.producer("live", None).await?;
        let names: Vec<&str> =
            profile.kinds().into_iter().map(|kind| self.place.names[kind as usize].as_str()).collect();
        let words = async {
            let mut words: Vec<Word> = Vec::new();
            while let Some(word) = producer.next::<Word>().await? {
                child.alive()?;
                self.tell_progress(watch, words.last(), &word);
                words.push(word);
            }
            anyhow::Ok(words)
        };
        let stop = tokio_util::sync::CancellationToken::new();
        let posting = async {
            let words = words.await;
            stop.cancel();
            words
        };
        let resharding = self.reshard(&names, &stop);
        let catching_up = async {
            if !backlog_heads.is_empty() {
                let patience = RECOVERY + 10 * Duration::from_millis(profile.duration_ms);
                until_within(patience, "the backlog is committed", async || {
                    Ok(watch.behind(log).is_empty().then_some(()))
                })
                .await?;
                backlog_done = Some(watch.started.elapsed());
            }
            anyhow::Ok(())
        };
        let (words, reshards, caught_up) = tokio::join!(posting, resharding, catching_up);
        let (words, reshards) = (words?, reshards?);
        caught_up?;
        let last = *words.last().context("the producer has said nothing")?;
        let posted_at = Instant::now();
        let file = book_file(self.place.folder(), "live");
        book::read(&file, live, &clock)?;
        book::read(&file, log, &clock)?;
        let acknowledged: u64 = Kind::ALL.iter().map(|kind| live.count(kind.name())).sum();
        ensure!(acknowledged == last.records, "the book has {acknowledged} records, the producer {}", last.records);
        let mut behind = Vec::new();
        let patience = RECOVERY + 2 * watch.started.elapsed();
        let covered = until_within(patience, "everything accepted is committed", async || {
            child.alive()?;
            behind = watch.behind(log);
            Ok(behind.is_empty().then_some(()))
        });
        if let Err(error) = covered.await {
            bail!("{error:#}; not committed: {behind:#?}");
        }
        let caught_up_s = posted_at.elapsed().as_secs_f64();
        Ok(Live { before, live: last, words, caught_up_s, backlog_done, reshards })
    }

    async fn reshard(&self, names: &[&str], stop: &tokio_util::sync::CancellationToken) -> anyhow::Result<u64> {
        match self.plan.profile.reshard_every_ms {
            Some(every_ms) => {
                let every = Duration::from_millis(every_ms);
                keep_resharding(self.place.streams(), names, every, self.plan.seed.clone(), stop).await
            }
            None => Ok(0),
        }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.plan.progress {
            eprintln!("{}", what());
        }
    }

    fn tell_progress(&self, watch: &Watch, last: Option<&Word>, word: &Word) {
        let profile = &self.plan.profile;
        let seconds = word.at_us.saturating_sub(word.started_us) as f64 / 1e6;
        let since = last.map_or(word.started_us, |last| last.at_us);
        let taken_s = word.at_us.saturating_sub(since) as f64 / 1e6;
        let rate = (word.records - last.map_or(0, |last| last.records)) as f64 / taken_s.max(1e-6);
        let seen = watch.seen();
        let of = |at: usize| seen.samples.len().checked_sub(at).and_then(|at| seen.samples.get(at));
        let (Some(now), before) = (of(1), of(2)) else { return };
        let cpu = before.map_or(0.0, |before| {
            100.0 * (now.cpu.pintail - before.cpu.pintail) / (now.seconds - before.seconds).max(1e-6)
        });
        let behind_s = now.behind_s.values().copied().fold(0.0, f64::max);
        self.tell(|| {
            format!(
                "{seconds:>5.0} of {:.0} s  {} records, {rate:.0}/s, sent {:.0} ms late at most   Pintail: {} read, \
                 {behind_s:.1} s behind, {} commits, {} MiB, {cpu:.0} % of a core",
                profile.duration_ms as f64 / 1e3,
                word.records,
                word.late_max_us as f64 / 1e3,
                now.read,
                seen.commits.len(),
                now.rss_bytes >> 20,
            )
        });
    }
}
