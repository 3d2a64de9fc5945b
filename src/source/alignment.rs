//! Shards that are read side by side stay within sight of each other.
//!
//! A window is open until the slowest shard has passed it, so a shard that runs a day ahead of another while both
//! catch up keeps a day of windows open. Whoever is too far ahead of the slowest waits before its next read. How far
//! a shard is, is told by arrival times: reading always moves those, while the event times in a shard may stand still
//! for ever.
//!
//! No shard waits in vain: the slowest never waits, a shard that is not being read does not count, and neither does
//! one that has not been heard of for a while. What is idle has come as far as its last answer says. And this is for
//! catching up: a shard that is near its head goes on at the speed of its producers, also if another one stays behind
//! for good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::checkpoint::ShardId;

/// A shard that is neither read nor waiting for this long is held up by something else, and holds up nobody.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often whoever waits looks again.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The shards of one stream that this process reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Alignment {
    lead_max_ms: i64,
    field: Arc<Mutex<Field>>,
}

#[derive(Debug, Default)]
struct Field {
    places: BTreeMap<ShardId, Place>,
    /// The same by how far they are, the slowest first. Of one that has not been read nothing is known: it is slowest.
    order: BTreeSet<(Option<i64>, ShardId)>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    reached_ms: Option<i64>,
    heard_at: Instant,
}

impl Alignment {
    /// Nobody may be farther ahead of the slowest than this.
    pub fn within(lead_max: Duration) -> Self {
        let lead_max_ms = i64::try_from(lead_max.as_millis()).unwrap_or(i64::MAX);
        Self { lead_max_ms, field: Arc::default() }
    }

    /// A shard that is read from now on, until the answer is dropped. `reached_ms`: arrival time (epoch ms) up to
    /// which it is known to be complete.
    pub fn join(&self, shard: ShardId, reached_ms: Option<i64>) -> Lane {
        self.lock().place(&shard, reached_ms, Instant::now());
        Lane { alignment: self.clone(), shard, reached_ms, behind_ms: None }
    }

    fn lock(&self) -> MutexGuard<'_, Field> {
        self.field.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Field {
    fn place(&mut self, shard: &ShardId, reached_ms: Option<i64>, heard_at: Instant) {
        self.leave(shard);
        self.order.insert((reached_ms, shard.clone()));
        self.places.insert(shard.clone(), Place { reached_ms, heard_at });
    }

    fn leave(&mut self, shard: &ShardId) {
        if let Some(place) = self.places.remove(shard) {
            self.order.remove(&(place.reached_ms, shard.clone()));
        }
    }

    /// How far the slowest is that counts. The outer `None`: nobody does.
    fn slowest_ms(&mut self, now: Instant) -> Option<Option<i64>> {
        loop {
            let (reached_ms, shard) = self.order.first().cloned()?;
            let heard_at = self.places.get(&shard).map(|place| place.heard_at);
            if heard_at.is_some_and(|at| now.saturating_duration_since(at) <= SILENCE_MAX) {
                return Some(reached_ms);
            }
            self.leave(&shard);
        }
    }
}

/// One shard's place among the others.
#[derive(Debug)]
pub struct Lane {
    alignment: Alignment,
    shard: ShardId,
    reached_ms: Option<i64>,
    /// MillisBehindLatest of the last answer, if there was one.
    behind_ms: Option<i64>,
}

impl Lane {
    /// An answer came, so far behind the shard's head, and everything that arrived before `ms` has been read. Times go
    /// backwards within a shard; what was reached stays so.
    pub fn reached(&mut self, ms: i64, behind_ms: i64) {
        self.behind_ms = Some(behind_ms);
        self.reached_ms = self.reached_ms.max(Some(ms));
        self.alignment.lock().place(&self.shard, self.reached_ms, Instant::now());
    }

    /// Returns when the shard may be read again, and whether it had to wait.
    pub async fn turn(&self) -> bool {
        let mut waited = false;
        while self.is_ahead(Instant::now()) {
            waited = true;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        waited
    }

    fn is_ahead(&self, now: Instant) -> bool {
        let Some(reached_ms) = self.reached_ms else { return false };
        if self.behind_ms.is_some_and(|behind_ms| behind_ms <= self.alignment.lead_max_ms) {
            return false;
        }
        let mut field = self.alignment.lock();
        let is_ahead = match field.slowest_ms(now) {
            None => false,
            Some(None) => true,
            Some(Some(slowest_ms)) => reached_ms.saturating_sub(slowest_ms) > self.alignment.lead_max_ms,
        };
        if is_ahead {
            // Whoever waits is not silent. Whoever only asks, again and again, and gets no answer, is.
            field.place(&self.shard, self.reached_ms, now);
        }
        is_ahead
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.alignment.lock().leave(&self.shard);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEAD: Duration = Duration::from_secs(60);
    /// Still catching up.
    const FAR: i64 = 3_600_000;

    fn shard(n: usize) -> ShardId {
        ShardId::new(format!("s{n}"))
    }

    #[test]
    fn whoever_is_too_far_ahead_of_the_slowest_waits_and_the_slowest_does_not() {
        let (alignment, now) = (Alignment::within(LEAD), Instant::now());
        let mut fast = alignment.join(shard(0), Some(0));
        assert!(!fast.is_ahead(now), "alone");
        fast.reached(60_000, FAR);
        let mut slow = alignment.join(shard(1), Some(0));
        assert!(!fast.is_ahead(now) && !slow.is_ahead(now));
        fast.reached(60_001, FAR);
        fast.reached(7, FAR);
        assert!(fast.is_ahead(now) && !slow.is_ahead(now), "a time that goes back takes nothing back");
        slow.reached(1, FAR);
        assert!(!fast.is_ahead(now));
        let unread = alignment.join(shard(2), None);
        assert!(fast.is_ahead(now) && slow.is_ahead(now) && !unread.is_ahead(now), "of it nothing is known yet");
        drop(unread);
        assert!(!fast.is_ahead(now));
    }

    #[test]
    fn a_shard_near_its_head_is_read_on_however_far_behind_another_one_stays() {
        let (alignment, now) = (Alignment::within(LEAD), Instant::now());
        let (mut live, _slow) = (alignment.join(shard(0), Some(FAR)), alignment.join(shard(1), Some(0)));
        assert!(live.is_ahead(now), "where its head is nobody has said yet");
        live.reached(FAR, 60_001);
        assert!(live.is_ahead(now));
        live.reached(FAR, 60_000);
        assert!(!live.is_ahead(now));
    }

    #[test]
    fn a_shard_that_ended_or_is_not_heard_of_holds_up_nobody() {
        let (alignment, now) = (Alignment::within(LEAD), Instant::now());
        let (fast, mut slow) = (alignment.join(shard(0), Some(100_000)), alignment.join(shard(1), Some(0)));
        assert!(fast.is_ahead(now));
        let later = now + SILENCE_MAX + Duration::from_secs(1);
        assert!(!fast.is_ahead(later), "it is refused, throttled, or waits for the lake");
        assert!(!slow.is_ahead(later) && !fast.is_ahead(later), "it asks again, and is refused again");
        slow.reached(1, FAR);
        assert!(fast.is_ahead(Instant::now()), "it is heard of again");
        drop(slow);
        assert!(!fast.is_ahead(later));
    }

    proptest! {
        /// Shards that are read in any order, at any speed, some of them refused for ever: whoever is not refused gets
        /// to its end, and nobody that is read is ever farther ahead than the bound and one answer.
        #[test]
        fn every_shard_that_can_be_read_gets_to_its_end(
            speeds in prop::collection::vec(0i64..40, 1..6),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        ) {
            const END_MS: i64 = 300_000;
            let (alignment, mut now) = (Alignment::within(LEAD), Instant::now());
            let mut lanes: Vec<Lane> = (0..speeds.len()).map(|n| alignment.join(shard(n), None)).collect();
            // Speed 0 is a shard that never answers.
            let goal = |n: usize, lane: &Lane| speeds[n] == 0 || lane.reached_ms >= Some(END_MS);
            let turns = order.iter().map(|index| index.index(speeds.len())).chain((0..speeds.len()).cycle());
            for n in turns.take(200_000) {
                now += Duration::from_millis(250);
                let answer_ms = speeds[n] * 1000;
                if !lanes[n].is_ahead(now) && speeds[n] > 0 {
                    let next = lanes[n].reached_ms.unwrap_or(0) + answer_ms;
                    lanes[n].reached_ms = Some(next);
                    alignment.lock().place(&lanes[n].shard, Some(next), now);
                    let read = (0..speeds.len()).filter(|other| speeds[*other] > 0);
                    let slowest = read.filter_map(|other| lanes[other].reached_ms).min().unwrap_or(0);
                    prop_assert!(next - slowest <= 60_000 + answer_ms);
                }
                if lanes.iter().enumerate().all(|(n, lane)| goal(n, lane)) {
                    return Ok(());
                }
            }
            prop_assert!(false, "nobody gets on: {:?}", lanes);
        }
    }
}
