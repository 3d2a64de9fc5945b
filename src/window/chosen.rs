//! First and last values: which record's counts is decided by its place in the stream, and the place is kept.
//!
//! Records are ordered by event time, and those of one time by shard, sequence number and sub-sequence number, which
//! no two records share. So the choice is the same for any order of merging, and a partial can be merged because it
//! says where its value stood.

use deltalake::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use deltalake::arrow::datatypes::{Float64Type, Int64Type};

use super::group::{KeyValue, value_at};
use super::rows::Rows;
use crate::checkpoint::{SequenceNumber, ShardId};
use crate::contract::{ColumnType, SEQUENCE_NUMBER, SHARD_ID, SUB_SEQUENCE_NUMBER};

/// Where a record stands: what orders the records of a window.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPlace {
    /// Event time, epoch us.
    pub at_us: i64,
    /// Its shard; as text, byte by byte.
    pub shard: ShardId,
    /// Its number there.
    pub sequence: SequenceNumber,
    /// Its index in an aggregated record.
    pub sub: i64,
}

/// A value and the record that has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// Where the record stands.
    pub place: RecordPlace,
    /// Its value; never null.
    pub value: KeyValue,
}

impl Chosen {
    /// Estimated bytes of heap, this struct's included.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.place.shard.as_str().len() + self.value.bytes() - size_of::<KeyValue>()
    }
}

/// Which end is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The smallest place.
    First,
    /// The largest.
    Last,
}

impl End {
    /// Whether `theirs` takes the place of `mine`.
    pub fn prefers<P: Ord>(self, theirs: &P, mine: &P) -> bool {
        match self {
            Self::First => theirs < mine,
            Self::Last => theirs > mine,
        }
    }
}

/// The places of a batch's rows, looked at without copying them.
struct Places<'a> {
    times_us: &'a [i64],
    shards: &'a StringArray,
    sequences: &'a StringArray,
    subs: &'a [i64],
}

impl<'a> Places<'a> {
    fn new(rows: &'a Rows<'_>) -> Option<Self> {
        let subs = rows.numbers::<Int64Type>(SUB_SEQUENCE_NUMBER)?.values();
        let (shards, sequences) = (rows.texts(SHARD_ID)?, rows.texts(SEQUENCE_NUMBER)?);
        Some(Self { times_us: &rows.times_us, shards, sequences, subs })
    }

    /// Ordered as [`RecordPlace`]: a number without leading zeros is larger if it is longer.
    fn key(&self, row: usize) -> (i64, &str, usize, &str, i64) {
        let sequence = self.sequences.value(row);
        (self.times_us[row], self.shards.value(row), sequence.len(), sequence, self.subs[row])
    }

    fn place(&self, row: usize) -> Option<RecordPlace> {
        let sequence = SequenceNumber::parse(self.sequences.value(row)).ok()?;
        let shard = ShardId::new(self.shards.value(row));
        Some(RecordPlace { at_us: self.times_us[row], shard, sequence, sub: self.subs[row] })
    }
}

/// The chosen value of each of `groups` groups; `None` for one without values. The whole is `None` if a column is not
/// what the contract says.
pub fn choose(
    end: End,
    source: ColumnType,
    column: &ArrayRef,
    rows: &Rows<'_>,
    by_row: &[u32],
    groups: usize,
) -> Option<Vec<Option<Box<Chosen>>>> {
    let places = Places::new(rows)?;
    let mut best: Vec<Option<usize>> = vec![None; groups];
    for (row, group) in by_row.iter().enumerate() {
        let best = &mut best[*group as usize];
        let better = |mine: usize| end.prefers(&places.key(row), &places.key(mine));
        if is_value(column, row) && best.is_none_or(better) {
            *best = Some(row);
        }
    }
    let chosen = |row: usize| -> Option<Box<Chosen>> {
        Some(Box::new(Chosen { place: places.place(row)?, value: value_at(source, column, row)? }))
    };
    best.into_iter().map(|row| row.map_or(Some(None), |row| chosen(row).map(Some))).collect()
}

/// Whether a row has a value: not null, and no NaN or infinity.
fn is_value(column: &ArrayRef, row: usize) -> bool {
    let finite = || column.as_primitive_opt::<Float64Type>().is_none_or(|doubles| doubles.value(row).is_finite());
    column.is_valid(row) && finite()
}
