//! The hash that says which partials may be merged: of everything in a window's declaration that changes its numbers.
//!
//! Partials in somebody's lake carry these digits. What is added to the language is hashed only where it is used, so
//! that the digits of every window from before stay what they are.

use super::window::{Comparison, Condition, Derive, Function, KeyPlan, MeasurePlan, Test};
use super::{Column, Constant, EventTime};

/// Sixteen hex digits that differ when partials must not be merged. Texts are written with their length, numbers
/// by their bits, so that no two declarations give the same bytes.
pub(super) fn definition(declared: &Declared<'_>, columns: &[Column]) -> String {
    let Declared { every_us, pane_us, time, conditions, keys, measures } = *declared;
    let mut hash = Fnv::default();
    let column = |hash: &mut Fnv, index: usize| {
        if let Some(column) = columns.get(index) {
            hash.text(&column.name);
            hash.text(column.column_type.as_str());
        }
    };
    hash.number(every_us.cast_unsigned());
    hash.number(keys.len() as u64);
    for key in keys {
        hash.text(&key.name);
        column(&mut hash, key.column);
        match &key.derive {
            Derive::Value => hash.text("value"),
            Derive::Year => hash.text("year"),
            Derive::Bucket { bounds, labels } => {
                hash.text("bucket");
                hash.number(bounds.len() as u64);
                bounds.iter().for_each(|bound| hash.number(bound.to_bits()));
                labels.iter().for_each(|label| hash.text(label));
            }
        }
    }
    for measure in measures {
        hash.text(&measure.name);
        hash.text(match measure.function {
            Function::Count => "count",
            Function::SumInteger(_) | Function::SumDouble(_) => "sum",
            Function::Min(..) => "min",
            Function::Max(..) => "max",
            Function::MeanInteger(_) | Function::MeanDouble(_) => "mean",
            Function::First(..) => "first",
            Function::Last(..) => "last",
            Function::Distinct(..) => "distinct",
            Function::Quantiles(..) => "quantiles",
            Function::Top(..) => "top",
        });
        measure.function.column().into_iter().for_each(|index| column(&mut hash, index));
        if let Function::Top(_, _, shown) = measure.function {
            hash.number(shown as u64);
        }
    }
    // The names of these begin as no measure's can.
    if pane_us != every_us {
        hash.text("_hop");
        hash.number(pane_us.cast_unsigned());
    }
    if let Some(time) = time {
        hash.text("_time");
        match time {
            EventTime::Arrival => hash.text("arrival"),
            EventTime::Column(index) => column(&mut hash, index),
        }
    }
    for condition in conditions {
        hash.text("_where");
        column(&mut hash, condition.column);
        hash.test(&condition.test);
    }
    format!("{:016x}", hash.0)
}

/// What the hash is of.
pub(super) struct Declared<'a> {
    pub every_us: i64,
    pub pane_us: i64,
    /// If the window itself says it: what the contract says was never a part of the hash.
    pub time: Option<EventTime>,
    pub conditions: &'a [Condition],
    pub keys: &'a [KeyPlan],
    pub measures: &'a [MeasurePlan],
}

/// FNV-1a, 64 bit: written out here because it must give the same digits for ever.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    fn test(&mut self, test: &Test) {
        match test {
            Test::Null => self.text("is null"),
            Test::NotNull => self.text("is not null"),
            Test::Compare(comparison, value) => {
                self.text(match comparison {
                    Comparison::Equal => "=",
                    Comparison::NotEqual => "!=",
                    Comparison::Less => "<",
                    Comparison::AtMost => "<=",
                    Comparison::Greater => ">",
                    Comparison::AtLeast => ">=",
                });
                self.constant(value);
            }
            Test::OneOf(values) => {
                self.text("in");
                self.number(values.len() as u64);
                values.iter().for_each(|value| self.constant(value));
            }
        }
    }

    fn constant(&mut self, value: &Constant) {
        match value {
            Constant::Text(text) => self.text(text),
            Constant::Whole(whole) => self.number(whole.cast_unsigned()),
            Constant::Double(double) => self.number(double.to_bits()),
            Constant::Boolean(flag) => self.number((*flag).into()),
        }
    }
}
