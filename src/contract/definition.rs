//! The hash that says which partials may be merged: of everything in a window's declaration that changes its numbers.
//!
//! Partials in somebody's lake carry these digits. What is added to the language is hashed only where it is used, so
//! that the digits of every window from before stay what they are.

use super::Column;
use super::window::{Derive, Function, KeyPlan, MeasurePlan};

/// Sixteen hex digits that differ when partials must not be merged. Texts are written with their length, numbers
/// by their bits, so that no two declarations give the same bytes.
pub(super) fn definition(every_us: i64, keys: &[KeyPlan], measures: &[MeasurePlan], columns: &[Column]) -> String {
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
        let (function, index) = match measure.function {
            Function::Count => ("count", None),
            Function::SumInteger(index) | Function::SumDouble(index) => ("sum", Some(index)),
            Function::Min(index, _) => ("min", Some(index)),
            Function::Max(index, _) => ("max", Some(index)),
            Function::MeanInteger(index) | Function::MeanDouble(index) => ("mean", Some(index)),
            Function::First(index, _) => ("first", Some(index)),
            Function::Last(index, _) => ("last", Some(index)),
            Function::Distinct(index, _) => ("distinct", Some(index)),
            Function::Quantiles(index, _) => ("quantiles", Some(index)),
            Function::Top(index, ..) => ("top", Some(index)),
        };
        hash.text(function);
        index.into_iter().for_each(|index| column(&mut hash, index));
        if let Function::Top(_, _, shown) = measure.function {
            hash.number(shown as u64);
        }
    }
    format!("{:016x}", hash.0)
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
}
