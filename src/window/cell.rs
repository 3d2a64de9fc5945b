//! A cell: one window start and key, and its mergeable measures.
//!
//! Merging is commutative and associative in value for everything that is promised exact (counts, integer sums,
//! extremes), so cells of any shards, workers and restarts may be added up in any order. Sums of doubles carry
//! their rounding error along and agree within 1e-12 of the sum of magnitudes. Sketches: see [`super::sketch`].

use super::chosen::{Chosen, End};
use super::group::{Group, KeyValue};
use super::sketch::{Distinct, Quantiles, Top};
use crate::contract::WindowPlan;
use crate::contract::window::{Function, MeasurePlan};

/// A sketch of a handful of values, about.
const SKETCH_BYTES: usize = 512;

/// Measures over some records.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// How many records.
    pub records: u64,
    /// One state a declared measure, in declared order.
    pub measures: Vec<Measure>,
}

/// The state of one measure.
#[derive(Debug, Clone, PartialEq)]
pub enum Measure {
    /// Records.
    Count(u64),
    /// Exact sum of integers; `None` until a value was seen.
    SumInteger(Option<i128>),
    /// Compensated sum of doubles; `None` until a value was seen.
    SumDouble(Option<Compensated>),
    /// Smallest value.
    Min(Option<Scalar>),
    /// Largest value.
    Max(Option<Scalar>),
    /// Sum and count of integers.
    MeanInteger(i128, u64),
    /// Sum and count of doubles.
    MeanDouble(Compensated, u64),
    /// The value of the first or last record that has one.
    Chosen(End, Option<Box<Chosen>>),
    /// How many different values, estimated.
    Distinct(Distinct),
    /// The distribution of numbers, estimated.
    Quantiles(Quantiles),
    /// The most frequent values, estimated.
    Top(Top),
}

/// A value that has an order: integers, timestamps (us) and dates (days) as `Integer`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// Exact.
    Integer(i64),
    /// Finite.
    Double(f64),
}

/// A sum of doubles as an unevaluated pair: `hi` is the rounded sum, `lo` what rounding lost (Knuth's two-sum).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Compensated {
    /// The sum, rounded.
    pub hi: f64,
    /// What is to be added to it.
    pub lo: f64,
}

impl Compensated {
    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        self.merge(Self { hi: value, lo: 0.0 });
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: Self) {
        let (sum, error) = two_sum(self.hi, other.hi);
        // Beyond the range of a double there is nothing left to compensate, and infinity minus itself is no number.
        let lo = if sum.is_finite() { error + self.lo + other.lo } else { 0.0 };
        (self.hi, self.lo) = two_sum(sum, lo);
        if !self.hi.is_finite() {
            self.lo = 0.0;
        }
    }

    /// The sum as one number.
    pub fn value(self) -> f64 {
        self.hi + self.lo
    }
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    let a_part = sum - b_part;
    (sum, (a - a_part) + (b - b_part))
}

impl Scalar {
    fn less_than(self, other: Self) -> bool {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a < b,
            (Self::Double(a), Self::Double(b)) => a < b,
            (Self::Integer(a), Self::Double(b)) => (a as f64) < b,
            (Self::Double(a), Self::Integer(b)) => a < b as f64,
        }
    }
}

impl Cell {
    /// A cell without records.
    pub fn empty(measures: &[MeasurePlan]) -> Self {
        Self { records: 0, measures: measures.iter().map(|plan| Measure::empty(plan.function)).collect() }
    }

    /// Adds another cell of the same window.
    pub fn merge(&mut self, other: &Self) {
        self.records += other.records;
        for (mine, theirs) in self.measures.iter_mut().zip(&other.measures) {
            mine.merge(theirs);
        }
    }

    /// Estimated bytes of heap and stack. They grow with what is added.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.measures.iter().map(|measure| size_of::<Measure>() + measure.heap_bytes()).sum::<usize>()
    }
}

/// About the bytes that one row of a window's partials takes once it is a group and a cell, without what its sketches
/// hold beyond their first values. A file says nothing of that: equal rows are nearly nothing in it.
pub fn decoded_row_bytes(plan: &WindowPlan) -> usize {
    let of_measure = |measure: &MeasurePlan| {
        let heap = match measure.function {
            Function::Distinct(..) | Function::Quantiles(..) | Function::Top(..) => SKETCH_BYTES,
            Function::First(..) | Function::Last(..) => size_of::<Chosen>(),
            Function::Count
            | Function::SumInteger(_)
            | Function::SumDouble(_)
            | Function::Min(..)
            | Function::Max(..)
            | Function::MeanInteger(_)
            | Function::MeanDouble(_) => 0,
        };
        size_of::<Measure>() + heap
    };
    size_of::<Group>()
        + size_of::<Cell>()
        + plan.keys.len() * size_of::<KeyValue>()
        + plan.measures.iter().map(of_measure).sum::<usize>()
}

impl Measure {
    /// The measure over no records.
    pub fn empty(function: Function) -> Self {
        match function {
            Function::Count => Self::Count(0),
            Function::SumInteger(_) => Self::SumInteger(None),
            Function::SumDouble(_) => Self::SumDouble(None),
            Function::Min(..) => Self::Min(None),
            Function::Max(..) => Self::Max(None),
            Function::MeanInteger(_) => Self::MeanInteger(0, 0),
            Function::MeanDouble(_) => Self::MeanDouble(Compensated::default(), 0),
            Function::First(..) => Self::Chosen(End::First, None),
            Function::Last(..) => Self::Chosen(End::Last, None),
            Function::Distinct(..) => Self::Distinct(Distinct::default()),
            Function::Quantiles(..) => Self::Quantiles(Quantiles::default()),
            Function::Top(_, _, shown) => Self::Top(Top::new(shown)),
        }
    }

    /// Estimated bytes beside the measure's own.
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Count(_)
            | Self::SumInteger(_)
            | Self::SumDouble(_)
            | Self::Min(_)
            | Self::Max(_)
            | Self::MeanInteger(..)
            | Self::MeanDouble(..) => 0,
            Self::Chosen(_, chosen) => chosen.as_ref().map_or(0, |chosen| chosen.heap_bytes()),
            Self::Distinct(sketch) => sketch.heap_bytes(),
            Self::Quantiles(sketch) => sketch.heap_bytes(),
            Self::Top(sketch) => sketch.heap_bytes(),
        }
    }

    /// Adds another state of the same measure.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Count(mine), Self::Count(theirs)) => *mine += theirs,
            (Self::SumInteger(mine), Self::SumInteger(Some(theirs))) => *mine = Some(mine.unwrap_or(0) + theirs),
            (Self::SumDouble(mine), Self::SumDouble(Some(theirs))) => {
                mine.get_or_insert_default().merge(*theirs);
            }
            (Self::Min(mine), Self::Min(Some(theirs))) if mine.is_none_or(|mine| theirs.less_than(mine)) => {
                *mine = Some(*theirs);
            }
            (Self::Max(mine), Self::Max(Some(theirs))) if mine.is_none_or(|mine| mine.less_than(*theirs)) => {
                *mine = Some(*theirs);
            }
            (Self::MeanInteger(sum, count), Self::MeanInteger(more, others)) => {
                *sum += more;
                *count += others;
            }
            (Self::MeanDouble(sum, count), Self::MeanDouble(more, others)) => {
                sum.merge(*more);
                *count += others;
            }
            (Self::Chosen(end, mine), Self::Chosen(_, Some(theirs)))
                if mine.as_ref().is_none_or(|mine| end.prefers(&theirs.place, &mine.place)) =>
            {
                *mine = Some(theirs.clone());
            }
            (Self::Distinct(mine), Self::Distinct(theirs)) => mine.merge(theirs),
            (Self::Quantiles(mine), Self::Quantiles(theirs)) => mine.merge(theirs),
            (Self::Top(mine), Self::Top(theirs)) => mine.merge(theirs),
            // What is left: the other side has seen no value, or is no better than ours. Two different measures
            // never meet, since cells are merged only within one window of one definition.
            (
                Self::Count(_)
                | Self::SumInteger(_)
                | Self::SumDouble(_)
                | Self::Min(_)
                | Self::Max(_)
                | Self::MeanInteger(..)
                | Self::MeanDouble(..)
                | Self::Chosen(..)
                | Self::Distinct(_)
                | Self::Quantiles(_)
                | Self::Top(_),
                _,
            ) => {}
        }
    }

    /// Counts one record's integer, timestamp or date.
    pub fn observe_integer(&mut self, value: i64) {
        match self {
            Self::Count(count) => *count += 1,
            Self::SumInteger(sum) => *sum = Some(sum.unwrap_or(0) + i128::from(value)),
            Self::MeanInteger(sum, count) => {
                *sum += i128::from(value);
                *count += 1;
            }
            Self::Min(Some(Scalar::Integer(least))) => *least = value.min(*least),
            Self::Max(Some(Scalar::Integer(most))) => *most = value.max(*most),
            Self::Min(_) => self.merge(&Self::Min(Some(Scalar::Integer(value)))),
            Self::Max(_) => self.merge(&Self::Max(Some(Scalar::Integer(value)))),
            Self::SumDouble(_) | Self::MeanDouble(..) => self.observe_double(value as f64),
            Self::Distinct(sketch) => sketch.observe_integer(value),
            Self::Quantiles(sketch) => sketch.observe(value as f64),
            Self::Top(sketch) => sketch.observe_integer(value),
            // Chosen by its place, which the value alone does not say.
            Self::Chosen(..) => {}
        }
    }

    /// Counts one record's text.
    pub fn observe_text(&mut self, text: &str) {
        match self {
            Self::Distinct(sketch) => sketch.observe_text(text),
            Self::Top(sketch) => sketch.observe_text(text),
            Self::Count(count) => *count += 1,
            Self::SumInteger(_)
            | Self::SumDouble(_)
            | Self::Min(_)
            | Self::Max(_)
            | Self::MeanInteger(..)
            | Self::MeanDouble(..)
            | Self::Chosen(..)
            | Self::Quantiles(_) => {}
        }
    }

    /// Counts one record's double. NaN and infinities are no measurements and are left out.
    pub fn observe_double(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        match self {
            Self::Count(count) => *count += 1,
            Self::SumDouble(sum) => sum.get_or_insert_default().add(value),
            Self::MeanDouble(sum, count) => {
                sum.add(value);
                *count += 1;
            }
            Self::Min(_) => self.merge(&Self::Min(Some(Scalar::Double(value)))),
            Self::Max(_) => self.merge(&Self::Max(Some(Scalar::Double(value)))),
            Self::Distinct(sketch) => sketch.observe_double(value),
            Self::Quantiles(sketch) => sketch.observe(value),
            Self::SumInteger(_) | Self::MeanInteger(..) | Self::Chosen(..) | Self::Top(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_compensated_sum_does_not_depend_on_how_it_was_split(
            values in prop::collection::vec(-1e15f64..1e15, 1..200),
            cut in 0usize..200,
        ) {
            let sum = |part: &[f64]| {
                let mut total = Compensated::default();
                part.iter().for_each(|value| total.add(*value));
                total
            };
            let cut = cut.min(values.len());
            let mut parts = sum(&values[cut..]);
            parts.merge(sum(&values[..cut]));
            let magnitude: f64 = values.iter().map(|value| value.abs()).sum();
            prop_assert!((parts.value() - sum(&values).value()).abs() <= 1e-12 * magnitude);
        }
    }

    #[test]
    fn what_plain_addition_loses_is_kept() {
        let mut sum = Compensated::default();
        for value in [1e16, 1.0, -1e16] {
            sum.add(value);
        }
        assert_eq!(sum.value(), 1.0);
    }

    #[test]
    fn an_overflowing_sum_is_infinite_and_never_nan() {
        let mut sum = Compensated::default();
        for value in [f64::MAX, f64::MAX, -1.0] {
            sum.add(value);
        }
        assert_eq!(sum.value(), f64::INFINITY);
    }

    #[test]
    fn an_empty_cell_is_the_neutral_element() {
        let plan =
            [MeasurePlan { name: "low".to_owned(), function: Function::Min(0, crate::contract::ColumnType::Long) }];
        let mut cell = Cell::empty(&plan);
        cell.records = 2;
        cell.measures[0].observe_integer(-4);
        let before = cell.clone();
        cell.merge(&Cell::empty(&plan));
        assert_eq!(cell, before);
    }
}
