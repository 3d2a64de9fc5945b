//! How fast one shard may be read: calls and bytes, as pure arithmetic over instants.
//!
//! Kinesis gives a shard five reads and 2 MB a second, shared by all its consumers, and answers with at most 10
//! MiB, after which the shard is locked for five seconds. A reader that asks only when it may, and for about as
//! many records as the bytes allow, is never throttled and reaches the shard's full rate when it catches up. An
//! idle shard is asked at the same pace: never faster, and no slower either, since an empty answer does not mean
//! that nothing is behind it. A shard that is far behind is asked less often and for more: what it gives in a second is
//! the same, and each call costs something that is not its records'.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{GET_RECORDS_LIMIT_MAX, READ_BYTES_MAX, SHARD_READ_BYTES_PER_SECOND, SHARD_READS_PER_SECOND};

/// Before the first record is seen.
const RECORD_BYTES_ASSUMED: f64 = 1024.0;
/// Weight of the newest reply in the average record size.
const AVERAGE_WEIGHT: f64 = 0.3;
/// What may be saved up: one second's worth, so that an idle shard's first burst is read in one go.
const BURST_BYTES: f64 = SHARD_READ_BYTES_PER_SECOND as f64;
/// A shard further behind than this is read in bites: records so old do not become much older by waiting for one.
const FAR_BEHIND: Duration = Duration::from_secs(3);
/// So much at a time. What is missing to [`BURST_BYTES`] is saved up meanwhile if a call comes late, and not lost.
const BITE_BYTES: f64 = BURST_BYTES * 0.75;
/// A reply of (nearly) the most that Kinesis sends locks the shard.
const LOCKING_REPLY_BYTES: u64 = READ_BYTES_MAX / 10 * 9;
const LOCK: Duration = Duration::from_secs(5);
/// After a throttle: no throughput is left in this second, and other consumers want some of the next.
const THROTTLE_WAIT: Duration = Duration::from_secs(1);
const THROTTLE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Waits in a row, of two to five seconds mostly.
const THROTTLES_BORNE: u32 = 12;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const MENDED_MIN: Duration = Duration::from_secs(1);

/// One shard's pace.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    next_call: Instant,
    /// Bytes that may be read; negative after a reply that brought more than that.
    credit: f64,
    /// What there is to be before the next read, as far as bytes decide.
    credit_wanted: f64,
    credited_at: Instant,
    record_bytes: f64,
    /// Fewer, while the records are aggregates that hold more than one read may have.
    records_max: usize,
    throttles: u32,
}

impl Pace {
    /// A pace of `reads_per_second` (kept within what a shard gives), free to start at `now`.
    pub fn new(reads_per_second: f64, now: Instant) -> Self {
        let reads_per_second = reads_per_second.clamp(0.01, SHARD_READS_PER_SECOND);
        Self::unbounded(Duration::from_secs_f64(1.0 / reads_per_second), now)
    }

    /// A pace with any interval between reads; tests that wait for an embedded server need not wait for real shards.
    pub(super) fn unbounded(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            next_call: now,
            credit: BURST_BYTES,
            credit_wanted: 0.0,
            credited_at: now,
            record_bytes: RECORD_BYTES_ASSUMED,
            records_max: GET_RECORDS_LIMIT_MAX as usize,
            throttles: 0,
        }
    }

    /// When the next read may start.
    pub fn next_read(&self) -> Instant {
        let missing = (self.credit_wanted - self.credit).max(0.0);
        let wait = Duration::from_secs_f64(missing / SHARD_READ_BYTES_PER_SECOND as f64);
        self.next_call.max(self.credited_at + wait)
    }

    /// How many records to ask for, so that the reply is about what the bytes allow.
    pub fn limit(&self, now: Instant) -> i32 {
        let share = SHARD_READ_BYTES_PER_SECOND as f64 * self.interval.as_secs_f64();
        let bytes = self.credit_at(now).max(share.min(BURST_BYTES));
        let records = (bytes / self.record_bytes).clamp(1.0, self.records_max as f64);
        records as i32
    }

    /// A read starts.
    pub fn started(&mut self, now: Instant) {
        self.credit = self.credit_at(now);
        self.credited_at = now;
        self.next_call = now + self.interval;
    }

    /// It brought this much, and so much of the shard's time is still to be read.
    pub fn replied(&mut self, now: Instant, records: usize, bytes: u64, behind: Duration) {
        self.throttles = 0;
        self.credit_wanted = if records > 0 && behind > FAR_BEHIND { BITE_BYTES } else { 0.0 };
        self.credit = self.credit_at(now) - bytes as f64;
        self.credited_at = now;
        if records > 0 {
            let average = (bytes as f64 / records as f64).max(1.0);
            self.record_bytes += (average - self.record_bytes) * AVERAGE_WEIGHT;
        }
        if bytes >= LOCKING_REPLY_BYTES {
            self.next_call = self.next_call.max(now + LOCK);
        }
    }

    /// Of the records that it brought so many were taken and the rest must be read again: the next read asks for no
    /// more than that, and later ones for a quarter more each, until all are taken again.
    pub fn took(&mut self, taken: usize, left: usize) {
        let next = if left > 0 { taken } else { self.records_max + self.records_max / 4 + 1 };
        self.records_max = next.clamp(1, GET_RECORDS_LIMIT_MAX as usize);
    }

    /// Kinesis refused it for its rate: somebody else reads the shard too.
    pub fn throttled(&mut self, now: Instant) {
        self.throttles = self.throttles.saturating_add(1);
        let wait = THROTTLE_WAIT.saturating_mul(self.throttles).min(THROTTLE_WAIT_MAX);
        self.next_call = self.next_call.max(now + THROTTLE_WAIT.max(jittered(wait)));
    }

    /// Nothing was read for half a minute or more, since others have read all that the shard gives.
    pub fn is_starved(&self) -> bool {
        self.throttles > THROTTLES_BORNE
    }

    fn credit_at(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.credited_at).as_secs_f64();
        (self.credit + elapsed * SHARD_READ_BYTES_PER_SECOND as f64).min(BURST_BYTES)
    }
}

/// Waits that double while a call keeps failing.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    min: Duration,
    max: Duration,
}

impl Default for Backoff {
    /// From 100 ms to 5 s: what passes by itself.
    fn default() -> Self {
        Self { failures: 0, min: BACKOFF_MIN, max: BACKOFF_MAX }
    }
}

impl Backoff {
    /// From 1 s to `max`: what somebody has to mend. Not `max` at once, since credentials that were just renewed and
    /// policies that were just changed are refused for some seconds too.
    pub fn until_mended(max: Duration) -> Self {
        Self { failures: 0, min: MENDED_MIN.min(max), max }
    }

    /// How long to wait now, jittered; the next one is longer.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.min.saturating_mul(2u32.saturating_pow(self.failures)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        jittered(wait)
    }

    /// Whether it has failed for more than a second or so.
    pub fn is_persistent(&self) -> bool {
        self.failures > 4
    }

    /// It worked: start over.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Between half of `wait` and all of it, so that shards that failed together do not come back together.
pub fn jittered(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(0u8);
    wait.mul_f64(0.5 + 0.5 * (random as f64 / u64::MAX as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Reads a shard that always has more records of `record_bytes`, for `seconds`, and always is as far `behind`; returns
    /// (calls, bytes).
    fn catch_up(pace: &mut Pace, start: Instant, seconds: u64, record_bytes: u64, behind: Duration) -> (u64, u64) {
        let (mut calls, mut bytes) = (0, 0);
        let mut now = start;
        while now < start + Duration::from_secs(seconds) {
            now = now.max(pace.next_read());
            let records = u64::try_from(pace.limit(now)).unwrap().min(READ_BYTES_MAX / record_bytes);
            pace.started(now);
            now += Duration::from_millis(30);
            pace.replied(now, usize::try_from(records).unwrap(), records * record_bytes, behind);
            (calls, bytes) = (calls + 1, bytes + records * record_bytes);
        }
        (calls, bytes)
    }

    #[test]
    fn catching_up_takes_what_a_shard_gives_and_no_more() {
        for (behind, calls_max) in [(HOUR, 200), (Duration::from_secs(1), 401)] {
            for record_bytes in [700, 5_000, 100_000, 1 << 20, 10 << 20] {
                let start = Instant::now();
                let mut pace = Pace::new(4.0, start);
                let (calls, bytes) = catch_up(&mut pace, start, 100, record_bytes, behind);
                let ratio = bytes as f64 / (100.0 * SHARD_READ_BYTES_PER_SECOND as f64);
                assert!((0.95..=1.12).contains(&ratio), "{record_bytes} B records: {ratio} of the shard's rate");
                assert!(calls <= calls_max, "{record_bytes} B records: {calls} calls");
            }
        }
    }

    #[test]
    fn a_shard_far_behind_is_read_in_bites_until_it_is_not() {
        let start = Instant::now();
        let mut pace = Pace::new(4.0, start);
        pace.started(start);
        pace.replied(start, 2_000, BURST_BYTES as u64, HOUR);
        assert_eq!(pace.next_read(), start + Duration::from_millis(750));
        assert_eq!(pace.limit(pace.next_read()), (BITE_BYTES / pace.record_bytes) as i32);
        pace.replied(start, 0, 0, HOUR);
        assert_eq!(pace.next_read(), start + pace.interval, "a stretch without records is walked over");
        pace.replied(start, 1, 1, FAR_BEHIND);
        assert_eq!(pace.next_read(), start + pace.interval);
    }

    #[test]
    fn an_idle_shard_is_asked_at_the_call_pace_and_not_faster() {
        let start = Instant::now();
        let mut pace = Pace::new(4.0, start);
        for call in 1..=40 {
            let now = pace.next_read();
            pace.started(now);
            pace.replied(now + Duration::from_millis(5), 0, 0, Duration::ZERO);
            assert_eq!(pace.next_read(), start + Duration::from_millis(250) * call);
        }
    }

    #[test]
    fn more_than_a_shard_gives_is_never_asked() {
        let now = Instant::now();
        let mut pace = Pace::new(1000.0, now);
        pace.started(now);
        assert_eq!(pace.next_read(), now + Duration::from_millis(200));
        assert_eq!(Pace::new(0.0, now).interval, Duration::from_secs(100));
    }

    #[test]
    fn a_full_reply_locks_the_shard_for_five_seconds() {
        let now = Instant::now();
        let mut pace = Pace::new(4.0, now);
        pace.started(now);
        pace.replied(now, 1, READ_BYTES_MAX, Duration::ZERO);
        assert!(pace.next_read() >= now + LOCK);
        assert!(pace.next_read() <= now + LOCK + Duration::from_millis(500));
    }

    #[test]
    fn a_throttled_shard_rests_for_a_second_and_longer_if_it_goes_on() {
        let now = Instant::now();
        let mut pace = Pace::new(4.0, now);
        pace.started(now);
        pace.throttled(now);
        assert_eq!(pace.next_read(), now + THROTTLE_WAIT);
        assert!(!pace.is_starved());
        for _ in 0..20 {
            pace.throttled(now);
        }
        let rest = pace.next_read() - now;
        assert!((Duration::from_millis(2500)..=THROTTLE_WAIT_MAX).contains(&rest), "{rest:?}");
        assert!(pace.is_starved());
        pace.replied(now, 0, 0, Duration::ZERO);
        assert_eq!(pace.throttles, 0);
    }

    #[test]
    fn the_limit_follows_the_size_of_the_records() {
        let mut now = Instant::now();
        let mut pace = Pace::new(4.0, now);
        let first = pace.limit(now);
        for _ in 0..30 {
            now = pace.next_read();
            pace.started(now);
            pace.replied(now, 100, 100 * 50_000, Duration::ZERO);
        }
        now = pace.next_read();
        assert!(pace.limit(now) < first / 20, "{} after {first}", pace.limit(now));
        for _ in 0..60 {
            now = pace.next_read();
            pace.started(now);
            pace.replied(now, 100, 1000, Duration::ZERO);
        }
        assert_eq!(pace.limit(now), GET_RECORDS_LIMIT_MAX);
    }

    #[test]
    fn backoff_grows_from_100_ms_to_5_s_and_for_people_to_a_minute() {
        let mut backoff = Backoff::default();
        assert!((BACKOFF_MIN / 2..=BACKOFF_MIN).contains(&backoff.next_wait()));
        for _ in 0..40 {
            assert!(backoff.next_wait() <= BACKOFF_MAX);
        }
        assert!(backoff.next_wait() >= BACKOFF_MAX / 2);
        backoff.reset();
        assert!(backoff.next_wait() <= BACKOFF_MIN);
        let mut slow = Backoff::until_mended(Duration::from_secs(60));
        let waits: Vec<f64> = (0..20).map(|_| slow.next_wait().as_secs_f64()).collect();
        assert!((0.5..=1.0).contains(&waits[0]) && (1.0..=2.0).contains(&waits[1]), "{waits:?}");
        assert!(waits[7..].iter().all(|wait| (30.0..=60.0).contains(wait)), "{waits:?}");
        let waits: std::collections::BTreeSet<_> = (0..50).map(|_| jittered(BACKOFF_MAX)).collect();
        assert!(waits.len() > 10, "no jitter: {waits:?}");
    }
}
