//! What a shard gives its readers, all of them together: bytes and calls a second.
//!
//! Kinesis says how much: 2 MB and five calls a second, refusals for a second once a call finds no bytes left, and for
//! five after an answer of 10 MiB. It does not say how much may be saved up. Here that is a second of either, so that
//! nobody catches up on savings; an answer may go beyond what is there, and the next ones wait until that is paid back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// After a call that found no bytes left.
const SHORT_OF_BYTES: Duration = Duration::from_secs(1);

/// What may be saved up, in seconds of the rate.
const SAVED_S: f64 = 1.0;

/// Instants are whole nanoseconds, and a call that is due must not be refused for a part of one.
const ROUNDING: f64 = 1e-6;

/// What a shard gives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    /// Payload bytes a second.
    pub bytes_per_second: f64,
    /// `GetRecords` calls a second.
    pub calls_per_second: f64,
}

impl Quota {
    /// Kinesis's own.
    pub const KINESIS: Self = Self { bytes_per_second: 2e6, calls_per_second: 5.0 };
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// No bytes are left, or were less than a second ago.
    OfBytes,
    /// Too many calls.
    OfCalls,
}

/// What one shard has given so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// The stream.
    pub stream: String,
    /// The shard.
    pub shard: String,
    /// `GetRecords` calls that were answered.
    pub calls: u64,
    /// Those that were refused for their rate.
    pub refused: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// From the first answer to the last one behind which there was more, before the readers had caught up.
    pub behind_s: f64,
    /// Payload bytes that were earned and given in this time: without what had been saved up or overdrawn before, and
    /// without what is still to be paid back. So they are at most the rate's.
    pub behind_bytes: f64,
    /// Whether the readers have caught up.
    pub caught_up: bool,
}

/// One shard's accounts.
#[derive(Debug)]
pub struct Meter {
    bytes: Bucket,
    calls: Bucket,
    refused_until: Option<Instant>,
    /// The first answer: when, what had been given with it, and what was left after it.
    first: Option<(Instant, f64, f64)>,
    usage: Usage,
}

impl Meter {
    /// Of a shard that has saved up all that it may.
    pub fn new(quota: Quota, stream: &str, shard: &str, now: Instant) -> Self {
        let usage = Usage { stream: stream.to_owned(), shard: shard.to_owned(), ..Usage::default() };
        let bytes = Bucket::new(quota.bytes_per_second, quota.bytes_per_second * SAVED_S, now);
        let calls = Bucket::new(quota.calls_per_second, (quota.calls_per_second * SAVED_S).max(1.0), now);
        Self { bytes, calls, refused_until: None, first: None, usage }
    }

    /// A call comes in.
    pub fn ask(&mut self, now: Instant) -> Result<(), Short> {
        let admitted = self.admit(now);
        match admitted {
            Ok(()) => self.usage.calls += 1,
            Err(_) => self.usage.refused += 1,
        }
        admitted
    }

    fn admit(&mut self, now: Instant) -> Result<(), Short> {
        if self.refused_until.is_some_and(|until| now < until) {
            return Err(Short::OfBytes);
        }
        if self.bytes.level(now) < -ROUNDING {
            self.refused_until = Some(now + SHORT_OF_BYTES);
            return Err(Short::OfBytes);
        }
        if self.calls.level(now) < 1.0 - ROUNDING {
            return Err(Short::OfCalls);
        }
        self.calls.take(now, 1.0);
        Ok(())
    }

    /// It was answered with this much; `behind` if there is more.
    pub fn gave(&mut self, now: Instant, bytes: u64, behind: bool) {
        self.bytes.take(now, bytes as f64);
        self.usage.bytes += bytes;
        let left = self.bytes.level(now);
        let Some((since, given, left_before)) = self.first else {
            self.first = Some((now, bytes as f64, left));
            self.usage.caught_up = !behind;
            return;
        };
        self.usage.caught_up |= !behind;
        if !self.usage.caught_up {
            self.usage.behind_s = now.saturating_duration_since(since).as_secs_f64();
            self.usage.behind_bytes = self.usage.bytes as f64 - given - left_before + left.min(0.0);
        }
    }

    /// What it has given.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }
}

/// What may be taken: it fills at its rate, up to what may be saved up, and may be in debt.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    most: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// Full, which is this much at most.
    fn new(rate: f64, most: f64, now: Instant) -> Self {
        Self { rate, most, level: most, at: now }
    }

    fn level(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.level + elapsed * self.rate).min(self.most)
    }

    fn take(&mut self, now: Instant, much: f64) {
        (self.level, self.at) = (self.level(now) - much, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { bytes_per_second: 1_000.0, calls_per_second: 5.0 };

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn meter() -> (Meter, Instant) {
        let start = Instant::now();
        (Meter::new(QUOTA, "pins", "shardId-0", start), start)
    }

    #[test]
    fn five_calls_a_second_are_answered_and_a_sixth_is_not() {
        let (mut meter, start) = meter();
        for call in 0..50 {
            assert_eq!(meter.ask(after(start, call * 200)), Ok(()), "call {call} at the rate");
        }
        let (mut meter, start) = self::meter();
        for _ in 0..5 {
            assert_eq!(meter.ask(start), Ok(()), "a second's calls at once");
        }
        assert_eq!(meter.ask(after(start, 199)), Err(Short::OfCalls));
        assert_eq!(meter.ask(after(start, 200)), Ok(()), "a refused call costs nothing");
        assert_eq!(meter.ask(after(start, 200)), Err(Short::OfCalls));
        assert_eq!((meter.usage().calls, meter.usage().refused), (6, 2));
    }

    #[test]
    fn an_answer_beyond_the_rate_is_paid_back_before_the_next() {
        let (mut meter, start) = meter();
        meter.ask(start).unwrap();
        meter.gave(start, 3_000, true);
        assert_eq!(meter.ask(after(start, 2_000)), Ok(()), "1,000 were saved up, 2,000 were paid back");
        meter.gave(after(start, 2_000), 500, true);
        assert_eq!(meter.ask(after(start, 2_400)), Err(Short::OfBytes));
    }

    #[test]
    fn a_call_that_finds_no_bytes_is_followed_by_a_second_of_refusals_that_asking_does_not_prolong() {
        let (mut meter, start) = meter();
        meter.gave(start, 1_100, true);
        assert_eq!(meter.ask(after(start, 50)), Err(Short::OfBytes));
        assert_eq!(meter.ask(after(start, 1_040)), Err(Short::OfBytes), "though there are bytes by now");
        assert_eq!(meter.ask(after(start, 1_050)), Ok(()));
    }

    #[test]
    fn no_more_than_a_second_is_saved_up() {
        let (mut meter, start) = meter();
        let later = after(start, 60_000);
        meter.gave(later, 1_000, true);
        assert_eq!(meter.ask(later), Ok(()));
        meter.gave(later, 1, true);
        assert_eq!(meter.ask(later), Err(Short::OfBytes));
    }

    #[test]
    fn what_was_sustained_is_without_savings_and_debts_and_ends_where_the_readers_have_caught_up() {
        let (mut meter, start) = meter();
        meter.gave(start, 400, true);
        meter.gave(after(start, 1_000), 1_400, true);
        meter.gave(after(start, 2_000), 1_000, true);
        // Of 2,400 that were given then, 600 had been saved up before, and 400 are owed.
        assert_eq!((meter.usage().behind_s, meter.usage().behind_bytes), (2.0, 1_400.0));
        meter.gave(after(start, 9_000), 50, false);
        meter.gave(after(start, 9_500), 50, true);
        let usage = meter.usage();
        assert_eq!((usage.behind_s, usage.bytes, usage.caught_up), (2.0, 2_900, true));
    }

    #[test]
    fn a_reader_that_asks_whenever_it_may_has_sustained_the_whole_rate_and_no_more() {
        for (interval_ms, answer) in [(200, 200), (200, 333), (500, 500), (4_000, 3_999)] {
            let (mut meter, start) = meter();
            for ms in (0..60_000).step_by(interval_ms).map(|ms| after(start, ms as u64)) {
                if meter.bytes.level(ms) >= 0.0 {
                    meter.ask(ms).unwrap();
                    meter.gave(ms, answer, true);
                }
            }
            let share = meter.usage().behind_bytes / meter.usage().behind_s / QUOTA.bytes_per_second;
            assert!((0.95..=1.0 + ROUNDING).contains(&share), "{answer} bytes at a time: {share}");
        }
    }
}
