//! What people see: committed plus pending, merged at the moment of the question.
//!
//! A start may have as many keys as memory holds, so nobody copies it to show some. A look goes through the cells
//! twice: first it only weighs keys, then it merges the cells of those that are shown.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::Value;

use super::cell::{Cell, Measure};
use super::group::KeyValue;
use super::json::{measure_json, value_json};
use super::slide::{self, Additive, ByKey};
use super::{StreamWindows, merge_cell};
use crate::contract::WindowPlan;

/// Why a start is not shown although it was never old.
const CROWDED: &str = "its starts take more memory than live windows may have: older ones are in the lake only";
const AHEAD: &str = "records of some starts came so long before these began that memory had no room for them";

/// Which windows to show.
#[derive(Debug, Clone, Default)]
pub struct LiveFilter {
    /// Only the window of this name.
    pub window: Option<String>,
    /// Only the newest so many starts of each window: of those between, or if no time is asked for, of those that have
    /// begun. A record with a wrong time must not be what "newest" means.
    pub starts_max: Option<usize>,
    /// The clock by which starts have begun, epoch ms; `None` = whatever there is has begun.
    pub now_ms: Option<i64>,
    /// Only the largest so many keys of each start; how many there are is told anyway.
    pub rows_max: Option<usize>,
    /// Only so many rows of each window: with more, all its starts have fewer.
    pub rows_in_all_max: Option<usize>,
    /// Only starts at or after this, epoch ms.
    pub since_ms: Option<i64>,
    /// Only starts before this, epoch ms.
    pub until_ms: Option<i64>,
    /// Only rows of these keys, by name and text; empty text = no value. Windows without such a key are left out.
    pub keys: Vec<(String, String)>,
}

impl LiveFilter {
    pub(super) fn wants(&self, plan: &WindowPlan) -> bool {
        let has = |name: &str| plan.keys.iter().any(|key| key.name == name);
        self.window.as_ref().is_none_or(|name| *name == plan.name) && self.keys.iter().all(|(name, _)| has(name))
    }

    /// How many keys each of so many starts has at most, with so many cells in their panes.
    fn rows_a_start(&self, plan: &WindowPlan, starts: usize, cells: usize) -> usize {
        let rows_max = self.rows_max.unwrap_or(usize::MAX);
        let Some(in_all_max) = self.rows_in_all_max else { return rows_max };
        // A cell is in every start that has its pane.
        let in_all = cells.saturating_mul(plan.panes().unsigned_abs() as usize).min(starts.saturating_mul(rows_max));
        if in_all <= in_all_max { rows_max } else { rows_max.min(in_all_max / starts.max(1)) }
    }

    pub(super) fn wants_start(&self, start_us: i64) -> bool {
        let start_ms = start_us.div_euclid(1000);
        self.since_ms.is_none_or(|since_ms| start_ms >= since_ms)
            && self.until_ms.is_none_or(|until_ms| start_ms < until_ms)
    }

    /// The newest start that has begun, epoch us.
    fn running_us(&self, plan: &WindowPlan) -> i64 {
        self.now_ms.map_or(i64::MAX, |now_ms| slide::running_us(plan, now_ms.saturating_mul(1000)))
    }

    /// The newest start that `starts_max` counts from, epoch us.
    fn newest_us(&self, plan: &WindowPlan) -> i64 {
        let asks_for_times = self.since_ms.is_some() || self.until_ms.is_some();
        if self.starts_max.is_none() || asks_for_times { i64::MAX } else { self.running_us(plan) }
    }

    pub(super) fn wants_key(&self, plan: &WindowPlan, key: &[KeyValue]) -> bool {
        self.keys.iter().all(|(name, text)| {
            let mut values = plan.keys.iter().zip(key).filter(|(plan, _)| plan.name == *name);
            values.all(|(plan, value)| key_text(&value_json(Some(plan.output()), value)) == *text)
        })
    }
}

/// A key's value as a question names it.
fn key_text(value: &Value) -> String {
    value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

/// One declared window, live.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveWindow {
    /// The stream.
    pub stream: String,
    /// The window's name.
    pub window: String,
    /// Its size.
    pub every_ms: i64,
    /// How far its starts are apart: its size, unless it slides.
    pub hop_ms: i64,
    /// Names of its keys.
    pub keys: Vec<String>,
    /// Names of its measures.
    pub measures: Vec<String>,
    /// The newest version of the rows table that is in the committed part.
    pub committed_version: u64,
    /// As of when other processes' records are in the numbers, epoch ms; `None` if there are none, or if this process
    /// commits every shard itself: as of now.
    pub as_of_ms: Option<i64>,
    /// Nothing is shown until what an earlier process may have shown was read again.
    pub catching_up: bool,
    /// Why starts that have begun are in the lake and not here, if some are: what was committed before this process began
    /// could not be read or was in too many files, or they were too far ahead of the clock when their records came.
    pub not_shown: Option<String>,
    /// What is later than the clock, whichever starts are asked for.
    pub ahead: Ahead,
    /// Newest first. Of one that slides the newest ends with the newest record's pane, or with the clock's if that is later:
    /// it is whole as soon as that pane is, where one that has just begun would say next to nothing.
    pub starts: Vec<LiveStart>,
}

/// Records whose event time is still to come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Ahead {
    /// Starts that have not begun and hold some; of windows that overlap, each record's last. Those for which memory has
    /// no room are in the lake and not here.
    pub starts: usize,
    /// How many there are, of the keys that are asked for.
    pub records: u64,
}

/// One start of a window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveStart {
    /// Start, epoch ms.
    pub start_ms: i64,
    /// End, exclusive, epoch ms.
    pub end_ms: i64,
    /// Records in all its rows.
    pub records: u64,
    /// How many of them no commit covers yet.
    pub pending: u64,
    /// How many keys it has.
    pub keys: usize,
    /// One row a key, most records first.
    pub rows: Vec<LiveRow>,
}

/// One key of a window start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveRow {
    /// Its keys, in the window's order. Timestamps and dates as ISO text; `__other__` = folded keys.
    pub key: Vec<Value>,
    /// Its measures, in the window's order. Sums beyond 64 bits as text; quantiles as `{"p50": .., "p90": .., "p99": ..}`;
    /// the most frequent values as `[{"value": .., "count": ..}, ..]`.
    pub measures: Vec<Value>,
    /// Records in it.
    pub records: u64,
    /// How many of them no commit covers yet.
    pub pending: u64,
}

/// Records of a key.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    records: u64,
    /// How many of them no commit covers yet.
    pending: u64,
}

impl Additive for Weight {
    fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.pending += other.pending;
    }
}

/// A start without its measures.
struct Weighed {
    start_us: i64,
    total: Weight,
    keys: usize,
    /// The largest, most records first.
    shown: Vec<(Vec<KeyValue>, Weight)>,
}

impl StreamWindows {
    /// The live windows, as one consistent picture of this stream.
    pub fn live(&self, filter: &LiveFilter) -> Vec<LiveWindow> {
        let windows = self.contract.windows.iter().enumerate().filter(|(_, plan)| filter.wants(plan));
        windows.map(|(index, plan)| self.live_window(index, plan, filter)).collect()
    }

    /// How many windows this asks for.
    pub fn asked_for(&self, filter: &LiveFilter) -> usize {
        self.contract.windows.iter().filter(|plan| filter.wants(plan)).count()
    }

    /// Names of the declared windows, in the contract's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.contract.windows.iter().map(|plan| plan.name.as_str())
    }

    /// Names of the keys of the windows that are asked for, each once.
    pub fn key_names(&self, window: Option<&str>) -> BTreeSet<&str> {
        let windows = self.contract.windows.iter().filter(|plan| window.is_none_or(|name| name == plan.name));
        windows.flat_map(|plan| &plan.keys).map(|key| key.name.as_str()).collect()
    }

    pub(super) fn live_window(&self, index: usize, plan: &WindowPlan, filter: &LiveFilter) -> LiveWindow {
        let catching_up = self.is_held_back();
        let (starts, weighed, panes, ahead, committed_version, as_of_ms) = {
            let _moving = self.moving.read().unwrap_or_else(PoisonError::into_inner);
            let starts = if catching_up { Vec::new() } else { self.shown_starts(index, plan, filter) };
            let weights = self.weigh(index, plan, &starts, filter);
            let rows_max = filter.rows_a_start(plan, starts.len(), weights.values().map(ByKey::len).sum());
            let weighed =
                slide::windows(weights, &starts, plan, |start_us, keys| Weighed::of(start_us, keys, rows_max));
            let shown: HashSet<&[KeyValue]> =
                weighed.iter().flat_map(|start| &start.shown).map(|(key, _)| key.as_slice()).collect();
            let panes = self.merge_layers(index, &span(&starts, plan), |key| shown.contains(key));
            let ahead = if catching_up { Ahead::default() } else { self.ahead(index, plan, filter) };
            (starts, weighed, panes, ahead, self.committed.version(), self.as_of_ms())
        };
        let mut cells: BTreeMap<i64, ByKey<Cell>> =
            slide::windows(panes, &starts, plan, |start_us, cells| (start_us, cells)).into_iter().collect();
        let shown = weighed.into_iter().rev();
        let starts = shown.map(|start| live_start(plan, &start, &cells.remove(&start.start_us).unwrap_or_default()));
        LiveWindow {
            stream: self.stream.clone(),
            window: plan.name.clone(),
            every_ms: plan.every_us / 1000,
            hop_ms: plan.pane_us / 1000,
            keys: plan.keys.iter().map(|key| key.name.clone()).collect(),
            measures: plan.measures.iter().map(|measure| measure.name.clone()).collect(),
            committed_version,
            as_of_ms,
            catching_up,
            not_shown: self.not_shown(index, plan, filter),
            ahead,
            starts: starts.collect(),
        }
    }

    fn not_shown(&self, window: usize, plan: &WindowPlan, filter: &LiveFilter) -> Option<String> {
        let now_us = filter.now_ms.unwrap_or_else(|| self.now_ms.load(Ordering::Relaxed)).saturating_mul(1000);
        let begun_us = self.committed.since_us(window)..slide::running_us(plan, now_us).saturating_add(1);
        let were_ahead = self.committed.dropped_any(window, begun_us).then(|| AHEAD.to_owned());
        let wanted_us = self.restored_since_us(window, now_us);
        let not_restored = self.not_restored[window].get().filter(|it| wanted_us < it.whole_from_us);
        let is_crowded = self.committed.is_crowded(window).then(|| CROWDED.to_owned());
        not_restored.map(|it| it.why.clone()).or(were_ahead).or(is_crowded)
    }

    /// The newest starts that are wanted, oldest first. Found first, so that a page which shows ten does not copy a
    /// hundred while a commit waits.
    fn shown_starts(&self, window: usize, plan: &WindowPlan, filter: &LiveFilter) -> Vec<i64> {
        let mut panes = BTreeSet::new();
        self.committed.each_start(window, |start_us, _| {
            panes.insert(start_us);
        });
        for shard in &self.pending {
            let cells = shard.value().shown().flat_map(|windows| windows[window].iter());
            panes.extend(cells.map(|(group, _)| group.start_us));
        }
        let since_us = self.committed.since_us(window);
        let running_us = filter.now_ms.map_or(i64::MIN, |ms| slide::running_us(plan, ms.saturating_mul(1000)));
        let not_too_old = slide::starts(&panes, plan, running_us).take_while(|start_us| *start_us >= since_us);
        let whole = not_too_old.filter(|start_us| self.committed.is_whole(window, plan.span_us(*start_us)));
        let newest_us = filter.newest_us(plan);
        let wanted = whole.filter(|start_us| *start_us <= newest_us && filter.wants_start(*start_us));
        let mut starts: Vec<i64> = wanted.take(filter.starts_max.unwrap_or(usize::MAX)).collect();
        starts.reverse();
        starts
    }

    fn ahead(&self, window: usize, plan: &WindowPlan, filter: &LiveFilter) -> Ahead {
        let begun_us = filter.running_us(plan).saturating_add(plan.every_us);
        let (mut panes, mut records) = (BTreeSet::new(), 0);
        self.each_cell(window, &(begun_us..i64::MAX), |pane_us, key, cell, _| {
            if filter.wants_key(plan, key) {
                panes.insert(pane_us);
                records += cell.records;
            }
        });
        Ahead { starts: panes.len(), records }
    }

    /// Every pane of these starts (oldest first) with the keys that are wanted.
    fn weigh(
        &self,
        window: usize,
        plan: &WindowPlan,
        starts: &[i64],
        filter: &LiveFilter,
    ) -> BTreeMap<i64, ByKey<Weight>> {
        let mut panes: BTreeMap<i64, ByKey<Weight>> = BTreeMap::new();
        self.each_cell(window, &span(starts, plan), |start_us, key, cell, is_pending| {
            if !filter.wants_key(plan, key) {
                return;
            }
            let weight = Weight { records: cell.records, pending: if is_pending { cell.records } else { 0 } };
            let keys = panes.entry(start_us).or_default();
            match keys.get_mut(key) {
                Some(mine) => mine.add(&weight),
                None => {
                    keys.insert(key.to_vec(), weight);
                }
            }
        });
        panes
    }

    /// The cells of these panes and of the keys that are wanted, both layers in one.
    fn merge_layers(
        &self,
        window: usize,
        panes_us: &Range<i64>,
        wants: impl Fn(&[KeyValue]) -> bool,
    ) -> BTreeMap<i64, ByKey<Cell>> {
        let mut panes: BTreeMap<i64, ByKey<Cell>> = BTreeMap::new();
        self.each_cell(window, panes_us, |start_us, key, cell, _| {
            if wants(key) {
                merge_cell(panes.entry(start_us).or_default(), key, cell);
            }
        });
        panes
    }

    /// Hands over every cell of these panes: the pane, the key, the cell, and whether no commit covers it yet. A key
    /// may come several times. Who calls keeps commits out for as long.
    pub(super) fn each_cell(
        &self,
        window: usize,
        panes_us: &Range<i64>,
        mut with: impl FnMut(i64, &[KeyValue], &Cell, bool),
    ) {
        self.committed.each_start(window, |start_us, cells| {
            if panes_us.contains(&start_us) {
                cells.iter().for_each(|(key, cell)| with(start_us, key, cell, false));
            }
        });
        for shard in &self.pending {
            let cells = shard.value().shown().flat_map(|windows| windows[window].iter());
            let cells = cells.filter(|(group, _)| panes_us.contains(&group.start_us));
            cells.for_each(|(group, cell)| with(group.start_us, &group.key, cell, true));
        }
    }
}

/// The panes of these starts (oldest first).
fn span(starts: &[i64], plan: &WindowPlan) -> Range<i64> {
    match (starts.first(), starts.last()) {
        (Some(oldest_us), Some(newest_us)) => *oldest_us..newest_us.saturating_add(plan.every_us),
        _ => 0..0,
    }
}

impl Weighed {
    fn of(start_us: i64, keys: ByKey<Weight>, rows_max: usize) -> Self {
        let mut total = Weight::default();
        keys.values().for_each(|weight| total.add(weight));
        let count = keys.len();
        let mut shown: Vec<(Vec<KeyValue>, Weight)> = keys.into_iter().collect();
        let larger =
            |a: &(Vec<KeyValue>, Weight), b: &(Vec<KeyValue>, Weight)| (b.1.records, &a.0).cmp(&(a.1.records, &b.0));
        if let Some(last) = rows_max.checked_sub(1).filter(|last| *last < shown.len()) {
            shown.select_nth_unstable_by(last, larger);
        }
        shown.truncate(rows_max);
        shown.shrink_to_fit();
        shown.sort_by(larger);
        Self { start_us, total, keys: count, shown }
    }
}

fn live_start(plan: &WindowPlan, weighed: &Weighed, cells: &ByKey<Cell>) -> LiveStart {
    let row = |(key, weight): &(Vec<KeyValue>, Weight)| {
        let states = cells.get(key).map_or(&[] as &[Measure], |cell| &cell.measures);
        LiveRow {
            key: plan.keys.iter().zip(key).map(|(plan, value)| value_json(Some(plan.output()), value)).collect(),
            measures: plan.measures.iter().zip(states).map(|(plan, state)| measure_json(plan, state)).collect(),
            records: weight.records,
            pending: weight.pending,
        }
    };
    LiveStart {
        start_ms: weighed.start_us.div_euclid(1000),
        end_ms: weighed.start_us.saturating_add(plan.every_us).div_euclid(1000),
        records: weighed.total.records,
        pending: weighed.total.pending,
        keys: weighed.keys,
        rows: weighed.shown.iter().map(row).collect(),
    }
}
