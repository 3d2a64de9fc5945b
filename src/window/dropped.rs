//! Starts ahead of the clock that memory had no room for.
//!
//! Some senders' clocks are wrong by years. What they send is in the lake; in memory it must not take the place of what
//! happens now, nor come back with a part of its records when its time comes.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::limits::LIVE_DROPPED_MAX;

/// Of one window.
#[derive(Debug)]
pub struct DroppedStarts {
    starts: Mutex<BTreeSet<i64>>,
    /// From here on any start may be one.
    all_from_us: AtomicI64,
    /// No start before it is one, so that what is of today asks for no lock.
    first_us: AtomicI64,
}

impl Default for DroppedStarts {
    fn default() -> Self {
        let never = || AtomicI64::new(i64::MAX);
        Self { starts: Mutex::default(), all_from_us: never(), first_us: never() }
    }
}

impl DroppedStarts {
    /// These starts are not wholly in memory from now on. The farthest are remembered together where they are too many.
    /// What is before `since_us` is remembered elsewhere. Says whether there were none before.
    pub fn add(&self, dropped: &[i64], since_us: i64) -> bool {
        let were_none = self.first_us.load(Ordering::Relaxed) == i64::MAX;
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        *starts = starts.split_off(&since_us);
        starts.extend(dropped);
        while starts.len() > LIVE_DROPPED_MAX {
            if let Some(farthest_us) = starts.pop_last() {
                self.all_from_us.fetch_min(farthest_us, Ordering::Relaxed);
            }
        }
        let all_from_us = self.all_from_us.load(Ordering::Relaxed);
        self.first_us.store(starts.first().map_or(all_from_us, |first| all_from_us.min(*first)), Ordering::Relaxed);
        were_none
    }

    /// Whether one of them is in this range of starts, or may be.
    pub fn are_in(&self, range_us: Range<i64>) -> bool {
        if range_us.is_empty() || range_us.end <= self.first_us.load(Ordering::Relaxed) {
            return false;
        }
        range_us.end > self.all_from_us.load(Ordering::Relaxed)
            || self.starts.lock().unwrap_or_else(PoisonError::into_inner).range(range_us).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farthest_are_remembered_together_and_those_of_the_past_not_at_all() {
        let dropped = DroppedStarts::default();
        assert!(!dropped.are_in(0..i64::MAX));
        let many: Vec<i64> = (0..LIVE_DROPPED_MAX as i64 + 5).map(|start| start * 10).collect();
        let (first_far, far) = (many[LIVE_DROPPED_MAX], *many.last().unwrap());
        assert!(dropped.add(&many, 0));
        assert!(dropped.are_in(0..1) && dropped.are_in(5..11) && !dropped.are_in(1..10));
        assert!(dropped.are_in(first_far..first_far + 1) && dropped.are_in(far + 1..far + 2));
        assert!(!dropped.are_in(first_far - 9..first_far));

        assert!(!dropped.add(&[], 20));
        assert!(!dropped.are_in(0..20) && dropped.are_in(20..21));
    }
}
