//! The producer's process: everything about it is in one order, so that it needs nobody while it posts.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use pintail::demo::pinterest::Posting;
use pintail::demo::producer::{Counters, Scheduled, Timetable, client, produce_on_time};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::book;
use super::clock::Clock;
use super::profile::Profile;
use super::role::say;
use super::schedule::Schedule;
use super::shape::Records;
use super::target::Target;
use crate::seed::Seed;

/// Between two words about how it goes.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// What is to be posted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// How much of what.
    pub profile: Profile,
    /// Draws the times and the records.
    pub seed: u64,
    /// So many records as fast as Kinesis takes them, instead of the profile's at their times.
    pub at_once: Option<u64>,
    /// Where to.
    pub target: Target,
    /// The streams of pin, geo and user.
    pub streams: [String; 3],
    /// Where the book goes.
    pub book: PathBuf,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// When the posting began, on the clock of all processes.
    pub started_us: u64,
    /// When this was said.
    pub at_us: u64,
    /// Records acknowledged.
    pub records: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Records that had to be sent again.
    pub sent_again: u64,
    /// By how much a record was sent after it was due, at most, since the last word.
    pub late_max_us: u64,
    /// User and system time of this process.
    pub cpu_seconds: f64,
}

/// Reads the order from standard input and follows it. SIGTERM ends it early; the book is complete either way.
pub async fn produce() -> anyhow::Result<()> {
    let mut order = Vec::new();
    std::io::stdin().read_to_end(&mut order).context("the order")?;
    let order: Order = serde_json::from_slice(&order).context("the order")?;
    let clock = Clock::read()?;
    let (log, counters) = (Arc::new(AcceptedLog::default()), Arc::new(Counters::default()));
    let client = client(&order.target.sdk_config().await);
    let mut seed = Seed::from(order.seed);
    let times = Schedule::new(&order.profile, Seed::from(seed.below(u64::MAX)));
    let records = Records::new(&order.profile, Seed::from(seed.below(1 << 31)))?;
    let mut failed = None;
    let records = records.map_while(|record| record.map_err(|error| failed = Some(error)).ok());
    let scheduled = scheduled(times, records, order.at_once);
    let start = Instant::now();
    let timetable =
        Timetable { streams: order.streams.clone(), start, linger: Duration::from_millis(order.profile.linger_ms) };
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        terminate.recv().await;
    };
    let posting = produce_on_time(&client, scheduled, &timetable, &counters, &log, stop);
    let word = || word(&counters, clock.us(start), clock.us(Instant::now()));
    tokio::select! {
        posted = posting => posted?,
        error = keep_saying(word) => return Err(error),
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let unanswered = counters.unanswered();
    ensure!(unanswered == 0, "{unanswered} records were put without an answer: the book is not exact any more");
    book::write(&order.book, &log, &order.streams, &clock)?;
    say(&word()?)
}

fn scheduled<'a>(
    times: Schedule,
    records: impl Iterator<Item = Posting> + 'a,
    at_once: Option<u64>,
) -> Box<dyn Iterator<Item = Scheduled> + 'a> {
    let with = |(due, posting)| Scheduled { due, posting };
    match at_once {
        Some(count) => {
            let now = std::iter::repeat_n(Duration::ZERO, usize::try_from(count).unwrap_or(usize::MAX));
            Box::new(now.zip(records).map(with))
        }
        None => Box::new(times.zip(records).map(with)),
    }
}

async fn keep_saying(word: impl Fn() -> anyhow::Result<Word>) -> anyhow::Error {
    loop {
        tokio::time::sleep(SAY_EVERY).await;
        if let Err(error) = word().and_then(|word| say(&word)) {
            return error;
        }
    }
}

fn word(counters: &Counters, started_us: u64, at_us: u64) -> anyhow::Result<Word> {
    Ok(Word {
        started_us,
        at_us,
        records: Kind::ALL.iter().map(|kind| counters.acknowledged(*kind)).sum(),
        bytes: counters.bytes(),
        sent_again: counters.sent_again(),
        late_max_us: u64::try_from(counters.take_late_max().as_micros()).unwrap_or(u64::MAX),
        cpu_seconds: pintail::demo::report::Usage::of_this_process()?.cpu_seconds,
    })
}
