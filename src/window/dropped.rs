//! Starts ahead of the clock that memory had no room for.
//!
//! Some senders' clocks are wrong by years. What they send is in the lake; in memory it must not take the place of what
//! happens now, nor come back with a part of its records when its time comes.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::DAY_US;
use crate::limits::{LIVE_DROPPED_DAYS_MAX, LIVE_DROPPED_MAX};

/// Of one window.
#[derive(Debug)]
pub struct DroppedStarts {
    known: Mutex<Known>,
    /// No start before it is one, so that what is of today asks for no lock.
    first_us: AtomicI64,
}

/// Where too many are remembered one by one, the farthest are remembered by their days, and where those are too many, the
/// farthest by the first of them.
#[derive(Debug)]
struct Known {
    starts: BTreeSet<i64>,
    /// Days (UTC, since 1970) of which any start may be one.
    days: BTreeSet<i64>,
    /// From here on any start may be one.
    all_from_us: i64,
}

impl Default for DroppedStarts {
    fn default() -> Self {
        let known = Known { starts: BTreeSet::new(), days: BTreeSet::new(), all_from_us: i64::MAX };
        Self { known: Mutex::new(known), first_us: AtomicI64::new(i64::MAX) }
    }
}

impl DroppedStarts {
    /// These starts are not wholly in memory from now on. What is before `since_us` is remembered elsewhere. Says whether
    /// there were none before.
    pub fn add(&self, dropped: &[i64], since_us: i64) -> bool {
        let were_none = self.first_us.load(Ordering::Relaxed) == i64::MAX;
        let mut known = self.known();
        known.starts = known.starts.split_off(&since_us);
        known.days = known.days.split_off(&since_us.div_euclid(DAY_US));
        known.starts.extend(dropped);
        known.sum_up();
        self.first_us.store(known.first_us(), Ordering::Relaxed);
        were_none
    }

    /// Whether one of them is in this range of starts, or may be.
    pub fn are_in(&self, range_us: Range<i64>) -> bool {
        if range_us.is_empty() || range_us.end <= self.first_us.load(Ordering::Relaxed) {
            return false;
        }
        let known = self.known();
        let days = range_us.start.div_euclid(DAY_US)..=(range_us.end - 1).div_euclid(DAY_US);
        range_us.end > known.all_from_us
            || known.days.range(days).next().is_some()
            || known.starts.range(range_us).next().is_some()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn sum_up(&mut self) {
        while self.starts.len() > LIVE_DROPPED_MAX {
            self.days.extend(self.starts.pop_last().map(|farthest_us| farthest_us.div_euclid(DAY_US)));
        }
        while self.days.len() > LIVE_DROPPED_DAYS_MAX {
            let farthest_us = self.days.pop_last().map(|day| day.saturating_mul(DAY_US));
            self.all_from_us = self.all_from_us.min(farthest_us.unwrap_or(i64::MAX));
        }
    }

    fn first_us(&self) -> i64 {
        let first_of_days_us = self.days.first().map(|day| day.saturating_mul(DAY_US));
        let first_us = self.starts.first().copied();
        first_us.into_iter().chain(first_of_days_us).fold(self.all_from_us, i64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: i64 = DAY_US / 24;

    #[test]
    fn the_farthest_are_remembered_by_their_days_and_those_of_the_past_not_at_all() {
        let dropped = DroppedStarts::default();
        assert!(!dropped.are_in(0..i64::MAX));
        let many: Vec<i64> = (0..LIVE_DROPPED_MAX as i64 + 50).map(|start| start * HOUR_US).collect();
        let (first_far, far) = (many[LIVE_DROPPED_MAX], *many.last().unwrap());
        assert!(dropped.add(&many, 0));
        assert!(dropped.are_in(0..1) && dropped.are_in(5..HOUR_US + 1) && !dropped.are_in(1..HOUR_US));
        assert!(dropped.are_in(first_far..first_far + 1) && dropped.are_in(far + 1..far + 2), "any of the day");
        let day_before = (first_far / DAY_US - 1) * DAY_US;
        assert!(!dropped.are_in(day_before + 1..day_before + HOUR_US), "of that day every one is known");
        let day_after = (far / DAY_US + 1) * DAY_US;
        assert!(!dropped.are_in(day_after..i64::MAX), "a clock that went right again is believed again");

        assert!(!dropped.add(&[], 2 * HOUR_US));
        assert!(!dropped.are_in(0..2 * HOUR_US) && dropped.are_in(2 * HOUR_US..2 * HOUR_US + 1));
        assert!(!dropped.add(&[], day_after));
        assert!(!dropped.are_in(0..i64::MAX), "all of them are past");
    }

    #[test]
    fn days_that_are_too_many_are_all_from_the_farthest_on() {
        let dropped = DroppedStarts::default();
        let many: Vec<i64> =
            (0..(LIVE_DROPPED_MAX + LIVE_DROPPED_DAYS_MAX + 5) as i64).map(|day| day * DAY_US).collect();
        dropped.add(&many, 0);
        let all_from_us = many[LIVE_DROPPED_MAX + LIVE_DROPPED_DAYS_MAX];
        assert!(dropped.are_in(i64::MAX - 1..i64::MAX) && dropped.are_in(all_from_us..all_from_us + 1));
        assert!(dropped.are_in(many[LIVE_DROPPED_MAX] + 7..many[LIVE_DROPPED_MAX] + 8));
        assert!(!dropped.are_in(many[LIVE_DROPPED_MAX - 1] + 7..many[LIVE_DROPPED_MAX - 1] + 8));
    }
}
