//! Windows that overlap, as sums of panes.
//!
//! Neighbours share all panes but two. They are made in groups: what a group has in common is added up once, and the
//! few panes at its two ends for each of its windows. With groups of the square root of the number of panes, a window
//! costs about twice that many additions, and memory holds one window at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter;
use std::ops::Range;

use super::cell::Cell;
use super::group::KeyValue;
use crate::contract::WindowPlan;

/// What a key has in a pane, or in a window.
pub type ByKey<V> = HashMap<Vec<KeyValue>, V>;

impl WindowPlan {
    /// The starts of the panes of the window that begins there.
    pub(super) fn span_us(&self, start_us: i64) -> Range<i64> {
        start_us..start_us.saturating_add(self.every_us)
    }
}

/// What can be added up over panes.
pub trait Additive: Clone {
    /// Adds another pane's.
    fn add(&mut self, other: &Self);
}

impl Additive for Cell {
    fn add(&mut self, other: &Self) {
        self.merge(other);
    }
}

/// The starts of all windows that hold a pane, newest first. The newest ends with the newest pane, or runs by the clock
/// (`running_us`) if that is later: where nothing comes any more, windows go on as long as they hold something.
pub fn starts<'a>(panes: &'a BTreeSet<i64>, plan: &'a WindowPlan, running_us: i64) -> impl Iterator<Item = i64> + 'a {
    let ends_with = |pane_us: i64| pane_us.saturating_add(plan.pane_us - plan.every_us);
    let newest = panes.last().map(|newest| ends_with(*newest).max(running_us).min(*newest));
    let held = |start_us: i64| panes.range(start_us..start_us.saturating_add(plan.every_us)).next().is_some();
    // Where a window holds none, the next one that does begins with the next pane below it.
    let at_or_below = move |start_us: i64| {
        if held(start_us) { Some(start_us) } else { panes.range(..start_us).next_back().copied() }
    };
    iter::successors(newest.and_then(at_or_below), move |start_us| at_or_below(start_us.checked_sub(plan.pane_us)?))
}

/// The start that runs at `now_us`, epoch us, and of windows that overlap, the one that ends with the pane of now: one
/// that has just begun would say next to nothing. What starts later is ahead of the clock.
pub fn running_us(plan: &WindowPlan, now_us: i64) -> i64 {
    let pane_us = now_us.div_euclid(plan.pane_us).saturating_mul(plan.pane_us);
    pane_us.saturating_add(plan.pane_us).saturating_sub(plan.every_us)
}

/// Makes each of the windows that begin at `starts` (oldest first) and have something, and hands it over.
pub fn windows<V: Additive, T>(
    panes: BTreeMap<i64, ByKey<V>>,
    starts: &[i64],
    plan: &WindowPlan,
    mut made: impl FnMut(i64, ByKey<V>) -> T,
) -> Vec<T> {
    if plan.panes() == 1 {
        let wanted = panes.into_iter().filter(|(start_us, _)| starts.binary_search(start_us).is_ok());
        return wanted.map(|(start_us, window)| made(start_us, window)).collect();
    }
    let every_us = plan.every_us;
    let mut windows = Vec::with_capacity(starts.len());
    let mut rest = starts;
    while let Some(&first) = rest.first() {
        // As long as it overlaps the first, and no longer than what the first has is wide.
        let first_end = first.saturating_add(every_us);
        let group_max = panes.range(first..first_end).count().isqrt().max(1);
        let length = rest.iter().take(group_max).take_while(|start_us| **start_us < first_end).count();
        let (group, after) = rest.split_at(length);
        let last = group.last().copied().unwrap_or(first);
        let mut common = ByKey::new();
        add(&mut common, &panes, last..first_end);
        for &start_us in group {
            let mut window = common.clone();
            add(&mut window, &panes, start_us..last);
            add(&mut window, &panes, first_end..start_us.saturating_add(every_us));
            windows.push(made(start_us, window));
        }
        rest = after;
    }
    windows
}

fn add<V: Additive>(into: &mut ByKey<V>, panes: &BTreeMap<i64, ByKey<V>>, range_us: Range<i64>) {
    for (key, more) in panes.range(range_us).flat_map(|(_, window)| window) {
        match into.get_mut(key) {
            Some(mine) => mine.add(more),
            None => {
                into.insert(key.clone(), more.clone());
            }
        }
    }
}
