//! The live windows as a bounded number of gauges: two starts of each, the largest keys, and the rest as one.
//!
//! Every series costs a Prometheus memory for hours, so what may become a label is chosen here. The starts are named
//! by what they are (`running`, `complete`) and not by their time, keys are cut, and a key that was shown keeps its
//! place until another is clearly larger: among equals the ranks would change with every scrape.
//!
//! Which start is complete is decided by the clock and the window's grace. A shard that is behind is not waited for;
//! that it is behind is a metric of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;

use super::StreamWindows;
use super::cell::{Cell, Measure, Scalar};
use super::group::KeyValue;
use super::json::integer_json;
use super::partials::mean;
use super::slide;
use crate::contract::window::{KeyPlan, MeasurePlan, QUANTILES};
use crate::contract::{ColumnType, WindowPlan};
use crate::limits::{OTHER, WINDOW_LABEL_BYTES_MAX};
use crate::metrics::{StartGauges, StartState, WindowGauges, WindowValue};

/// A key that is shown gives way to one with more than this many times its records.
const STAYING_POWER: u64 = 2;

/// By window, the keys of the last scrape.
pub type ShownKeys = HashMap<usize, BTreeSet<String>>;

impl StreamWindows {
    /// Both starts of every window as of `now_us` (epoch us), with up to `keys_max` keys. Counts and sums of a start add
    /// up to those of the live view; what cannot be added is there for the keys that are shown. Of a start that is not
    /// wholly in memory nothing is said, nor of any while an earlier process may have shown more than is known here.
    pub fn gauges(&self, now_us: i64, keys_max: usize) -> Vec<WindowGauges> {
        let windows = self.contract.windows.iter().enumerate();
        windows.map(|(index, plan)| self.window_gauges(index, plan, now_us, keys_max)).collect()
    }

    fn window_gauges(&self, index: usize, plan: &WindowPlan, now_us: i64, keys_max: usize) -> WindowGauges {
        let [complete_us, running_us] = starts_at(plan, now_us);
        let _moving = self.moving.read().unwrap_or_else(PoisonError::into_inner);
        let starts = [(StartState::Complete, complete_us), (StartState::Running, running_us)];
        let is_known = |start_us| !self.is_held_back() && self.committed.is_whole(index, plan.span_us(start_us));
        let starts = starts.into_iter().filter(|(_, start_us)| is_known(*start_us));
        let weighed: Vec<_> =
            starts.map(|(state, start_us)| (state, start_us, self.weigh_labels(index, plan, start_us))).collect();
        let shown = self.choose(index, weighed.iter().map(|(.., weighed)| &weighed.labels), keys_max);
        let starts = weighed.into_iter().map(|(state, start_us, weighed)| StartGauges {
            state,
            start_us,
            records: weighed.labels.values().sum(),
            keys: weighed.keys,
            values: self.values(index, plan, start_us, &shown),
        });
        WindowGauges {
            stream: self.stream.clone(),
            window: plan.name.clone(),
            closes_after_us: plan.pane_us.saturating_add(plan.grace_us),
            starts: starts.collect(),
        }
    }

    fn weigh_labels(&self, window: usize, plan: &WindowPlan, start_us: i64) -> Weighed {
        let (mut labels, mut keys): (HashMap<String, u64>, HashSet<u64>) = (HashMap::new(), HashSet::new());
        let hasher = RandomState::new();
        self.each_cell(window, &(start_us..start_us.saturating_add(plan.every_us)), |_, key, cell, _| {
            keys.insert(hasher.hash_one(key));
            *labels.entry(label(plan, key)).or_default() += cell.records;
        });
        Weighed { labels, keys: keys.len() }
    }

    /// The measures of the keys that are shown, and what can be added up of the others.
    fn values(&self, window: usize, plan: &WindowPlan, start_us: i64, shown: &BTreeSet<String>) -> Vec<WindowValue> {
        let mut cells: BTreeMap<&str, Cell> = BTreeMap::new();
        let mut rest: Option<Vec<Measure>> = None;
        self.each_cell(window, &(start_us..start_us.saturating_add(plan.every_us)), |_, key, cell, _| {
            match shown.get(&label(plan, key)) {
                Some(label) => {
                    cells.entry(label).or_insert_with(|| Cell::empty(&plan.measures)).merge(cell);
                }
                None => {
                    let rest = rest.get_or_insert_with(|| Cell::empty(&plan.measures).measures);
                    let additive = rest.iter_mut().zip(&cell.measures).filter(|(_, measure)| is_additive(measure));
                    additive.for_each(|(rest, more)| rest.merge(more));
                }
            }
        });
        let rest = rest.into_iter().flat_map(|rest| rest.into_iter().zip(&plan.measures));
        let rest = rest.filter(|(state, _)| is_additive(state)).map(|(state, measure)| (OTHER, state, measure));
        let shown = cells.into_iter().flat_map(|(label, cell)| {
            cell.measures.into_iter().zip(&plan.measures).map(move |(state, measure)| (label, state, measure))
        });
        let values = shown.chain(rest).flat_map(|(label, state, measure)| {
            let numbers = numbers(measure, &state).into_iter();
            numbers.map(move |(measure, value)| WindowValue { measure, key: label.to_owned(), value })
        });
        values.collect()
    }

    /// The largest keys of both starts together, so that none comes and goes at the turn of a window.
    fn choose<'a>(
        &self,
        window: usize,
        starts: impl Iterator<Item = &'a HashMap<String, u64>>,
        keys_max: usize,
    ) -> BTreeSet<String> {
        let mut records: HashMap<&str, u64> = HashMap::new();
        for (label, more) in starts.flatten().filter(|(label, _)| *label != OTHER) {
            *records.entry(label).or_default() += more;
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shown.entry(window).or_default();
        let weight = |label: &str, records: u64| records * if before.contains(label) { STAYING_POWER } else { 1 };
        let mut ranked: Vec<_> = records.into_iter().map(|(label, records)| (weight(label, records), label)).collect();
        ranked.sort_by(|a, b| (b.0, a.1).cmp(&(a.0, b.1)));
        *before = ranked.into_iter().take(keys_max).map(|(_, label)| label.to_owned()).collect();
        before.clone()
    }
}

/// A start without its measures.
struct Weighed {
    /// Records by readable key. Two keys may read alike once they are cut or joined; then they are one, since a series
    /// that is there twice makes the whole scrape invalid.
    labels: HashMap<String, u64>,
    /// How many keys there are.
    keys: usize,
}

/// The newest start that is complete, and the running one, epoch us.
fn starts_at(plan: &WindowPlan, now_us: i64) -> [i64; 2] {
    let pane = |at_us: i64| at_us.div_euclid(plan.pane_us).saturating_mul(plan.pane_us);
    let complete_us = pane(now_us.saturating_sub(plan.grace_us)).saturating_sub(plan.every_us);
    [complete_us, slide::running_us(plan, now_us)]
}

fn label(plan: &WindowPlan, key: &[KeyValue]) -> String {
    if key.is_empty() {
        return "(all)".to_owned();
    }
    if key.contains(&KeyValue::Other) {
        return OTHER.to_owned();
    }
    let parts: Vec<String> = plan.keys.iter().zip(key).map(|(plan, value)| readable(plan, value)).collect();
    cut(parts.join(" / "))
}

fn readable(plan: &KeyPlan, value: &KeyValue) -> String {
    match value {
        KeyValue::Null => "(null)".to_owned(),
        // An empty label is no label.
        KeyValue::Text(text) if text.is_empty() => "(empty)".to_owned(),
        // Not all of a mebibyte, and still too long if it was.
        KeyValue::Text(text) => text[..text.floor_char_boundary(2 * WINDOW_LABEL_BYTES_MAX)].to_owned(),
        KeyValue::Integer(value) => {
            let json = integer_json(Some(plan.output()), *value);
            json.as_str().map_or_else(|| json.to_string(), str::to_owned)
        }
        KeyValue::Double(bits) => f64::from_bits(*bits).to_string(),
        KeyValue::Boolean(flag) => flag.to_string(),
        KeyValue::Other => OTHER.to_owned(),
    }
}

fn cut(mut label: String) -> String {
    if label.len() > WINDOW_LABEL_BYTES_MAX {
        label.truncate(label.floor_char_boundary(WINDOW_LABEL_BYTES_MAX - '…'.len_utf8()));
        label.push('…');
    }
    label
}

/// Whether the numbers of two keys may be added up.
fn is_additive(measure: &Measure) -> bool {
    match measure {
        Measure::Count(_) | Measure::SumInteger(_) | Measure::SumDouble(_) => true,
        Measure::Min(_)
        | Measure::Max(_)
        | Measure::MeanInteger(..)
        | Measure::MeanDouble(..)
        | Measure::Chosen(..)
        | Measure::Distinct(_)
        | Measure::Quantiles(_)
        | Measure::Top(_) => false,
    }
}

/// What a measure says in numbers: none without a value, or of values that are no numbers. Times and dates are epoch
/// seconds.
fn numbers(plan: &MeasurePlan, state: &Measure) -> Vec<(String, f64)> {
    let unit = unit_of(plan.value_type());
    let value = match state {
        Measure::Count(count) => Some(*count as f64),
        Measure::SumInteger(sum) => sum.map(|sum| sum as f64),
        Measure::SumDouble(sum) => sum.map(|sum| sum.value()),
        Measure::MeanInteger(..) | Measure::MeanDouble(..) => mean(state),
        Measure::Min(value) | Measure::Max(value) => value.map(|value| match value {
            Scalar::Double(value) => value,
            Scalar::Integer(value) => value as f64 * unit,
        }),
        Measure::Chosen(_, chosen) => chosen.as_ref().and_then(|chosen| number(&chosen.value, unit)),
        Measure::Distinct(sketch) => Some(sketch.count() as f64),
        Measure::Quantiles(sketch) => return quantiles(plan, sketch.values()),
        Measure::Top(_) => None,
    };
    value.map(|value| (plan.name.clone(), value)).into_iter().collect()
}

/// Under the names of the tables' columns.
fn quantiles(plan: &MeasurePlan, values: Option<[f64; QUANTILES.len()]>) -> Vec<(String, f64)> {
    let named = QUANTILES.iter().zip(values.into_iter().flatten());
    named.map(|((_, suffix), value)| (format!("{}{suffix}", plan.name), value)).collect()
}

fn number(value: &KeyValue, unit: f64) -> Option<f64> {
    match value {
        KeyValue::Integer(value) => Some(*value as f64 * unit),
        KeyValue::Double(bits) => Some(f64::from_bits(*bits)),
        KeyValue::Boolean(flag) => Some(f64::from(*flag)),
        KeyValue::Null | KeyValue::Text(_) | KeyValue::Other => None,
    }
}

/// How many seconds the one of a timestamp or date is; 1 for what is no time.
fn unit_of(column: Option<ColumnType>) -> f64 {
    if column == Some(ColumnType::Timestamp) {
        1e-6
    } else if column == Some(ColumnType::Date) {
        86_400.0
    } else {
        1.0
    }
}
