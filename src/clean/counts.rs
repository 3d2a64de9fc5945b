//! What cleaning notices, counted per batch without allocating per record.

use std::collections::BTreeMap;

use crate::limits::{OTHER, UNKNOWN_FIELD_NAME_BYTES_MAX, UNKNOWN_FIELDS_MAX};

/// Why a column got a null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NullReason {
    Absent,
    Null,
    Sentinel,
    Empty,
    WrongType,
    Unparsable,
    OutOfRange,
    NotOneOf,
    Incomplete,
}

impl NullReason {
    pub const ALL: [Self; 9] = [
        Self::Absent,
        Self::Null,
        Self::Sentinel,
        Self::Empty,
        Self::WrongType,
        Self::Unparsable,
        Self::OutOfRange,
        Self::NotOneOf,
        Self::Incomplete,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Null => "null",
            Self::Sentinel => "sentinel",
            Self::Empty => "empty",
            Self::WrongType => "wrong_type",
            Self::Unparsable => "unparsable",
            Self::OutOfRange => "out_of_range",
            Self::NotOneOf => "not_one_of",
            Self::Incomplete => "incomplete",
        }
    }

    /// The record says nothing, as opposed to something that cannot be used.
    pub fn says_nothing(self) -> bool {
        match self {
            Self::Absent | Self::Null | Self::Sentinel | Self::Empty => true,
            Self::WrongType | Self::Unparsable | Self::OutOfRange | Self::NotOneOf | Self::Incomplete => false,
        }
    }
}

/// One column's nulls by reason.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NullCounts([u64; NullReason::ALL.len()]);

impl NullCounts {
    pub fn add(&mut self, null: NullReason) {
        self.0[null as usize] += 1;
    }

    /// The reasons that occurred.
    pub fn counted(self) -> impl Iterator<Item = (NullReason, u64)> {
        NullReason::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

/// Names that the contract does not know, with the number of records that have them.
#[derive(Debug, Default)]
pub(super) struct UnknownFields {
    seen: BTreeMap<String, Seen>,
    record: u64,
}

#[derive(Debug)]
struct Seen {
    records: u64,
    last: u64,
}

impl UnknownFields {
    /// Counts the names of one record: each once, however often it stands there.
    pub fn count<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.record += 1;
        for name in names {
            let name = &name[..name.floor_char_boundary(UNKNOWN_FIELD_NAME_BYTES_MAX)];
            if let Some(seen) = self.seen.get_mut(name) {
                seen.records += u64::from(seen.last != self.record);
                seen.last = self.record;
                continue;
            }
            let name = if self.seen.len() < UNKNOWN_FIELDS_MAX { name } else { OTHER };
            let seen = self.seen.entry(name.to_owned()).or_insert(Seen { records: 0, last: 0 });
            seen.records += 1;
            seen.last = self.record;
        }
    }

    /// The batch's counts; the next batch starts from none.
    pub fn take(&mut self) -> BTreeMap<String, u64> {
        self.record = 0;
        std::mem::take(&mut self.seen).into_iter().map(|(name, seen)| (name, seen.records)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_explains_every_reason() {
        let guide = include_str!("../../schemas/README.md");
        for reason in NullReason::ALL {
            assert!(guide.contains(&format!("| `{}` |", reason.as_str())), "{reason:?}");
        }
        assert!(NullReason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
    }
}
