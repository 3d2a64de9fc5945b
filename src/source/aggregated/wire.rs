//! The aggregated record of the Kinesis Producer Library, as bytes: magic, protobuf, MD5.
//!
//! ```text
//! F3 89 9A C2 | AggregatedRecord | MD5 of the AggregatedRecord
//!
//! AggregatedRecord { 1: repeated string partition key, 2: repeated string explicit hash key, 3: repeated Record }
//! Record           { 1: partition key's index, 2: explicit hash key's index (optional), 3: data, 4: tags (ignored) }
//! ```
//!
//! Read by hand, because the records must be counted before memory is spent on them: 10 MiB can say "one byte" more
//! than a million times. Whatever is broken is no aggregate; it is then a plain record, bytes and all.

use md5::{Digest, Md5};

const MAGIC: &[u8] = &[0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_BYTES: usize = 16;

/// A payload, looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened<'a> {
    /// No aggregate, or a broken one.
    Plain,
    /// The records in it, in order; at least one.
    Aggregate(Vec<SubRecord<'a>>),
    /// An aggregate of more records than were allowed.
    TooMany,
}

/// One record of an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubRecord<'a> {
    /// Where it belongs: its explicit hash key, or the MD5 of its partition key.
    pub hash_key: u128,
    /// Its payload, within the aggregate's.
    pub data: &'a [u8],
}

/// Whether it could be an aggregate: a cheap look at the first bytes.
pub(crate) fn is_candidate(payload: &[u8]) -> bool {
    payload.starts_with(MAGIC)
}

/// The records of an aggregate, at most `records_max`.
pub(crate) fn open(payload: &[u8], records_max: usize) -> Opened<'_> {
    match read(payload, records_max) {
        Ok(records) if records.is_empty() => Opened::Plain,
        Ok(records) => Opened::Aggregate(records),
        Err(Stop::Broken) => Opened::Plain,
        Err(Stop::TooMany) => Opened::TooMany,
    }
}

/// Why reading ended early.
enum Stop {
    Broken,
    TooMany,
}

fn read(payload: &[u8], records_max: usize) -> Result<Vec<SubRecord<'_>>, Stop> {
    let body = payload.strip_prefix(MAGIC).ok_or(Stop::Broken)?;
    let (body, digest) = body.split_last_chunk::<DIGEST_BYTES>().ok_or(Stop::Broken)?;
    if Md5::digest(body).as_slice() != digest {
        return Err(Stop::Broken);
    }
    // The tables may stand behind the records that refer to them.
    let (mut partition_keys, mut explicit_keys, mut records) = (Vec::new(), Vec::new(), Vec::new());
    let mut fields = Fields(body);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(key)) => push(&mut partition_keys, hash_of(key)?, records_max)?,
            (2, Value::Bytes(key)) => push(&mut explicit_keys, hash_key(key)?, records_max)?,
            (3, Value::Bytes(record)) => push(&mut records, Entry::read(record)?, records_max)?,
            (_, Value::Bytes(_) | Value::Number(_) | Value::Fixed) => {}
        }
    }
    records.into_iter().map(|entry| entry.resolve(&partition_keys, &explicit_keys)).collect()
}

/// A table of keys longer than its records may be is as much of a bomb as they are.
fn push<T>(list: &mut Vec<T>, item: T, len_max: usize) -> Result<(), Stop> {
    if list.len() == len_max {
        return Err(Stop::TooMany);
    }
    list.push(item);
    Ok(())
}

/// Where a partition key belongs: Kinesis's own rule.
fn hash_of(partition_key: &[u8]) -> Result<u128, Stop> {
    std::str::from_utf8(partition_key).map_err(|_| Stop::Broken)?;
    Ok(u128::from_be_bytes(Md5::digest(partition_key).into()))
}

fn hash_key(decimal: &[u8]) -> Result<u128, Stop> {
    let text = std::str::from_utf8(decimal).map_err(|_| Stop::Broken)?;
    text.parse().map_err(|_| Stop::Broken)
}

/// A `Record` whose keys are not looked up yet.
struct Entry<'a> {
    partition_key: u64,
    explicit_key: Option<u64>,
    data: &'a [u8],
}

impl<'a> Entry<'a> {
    fn read(record: &'a [u8]) -> Result<Self, Stop> {
        let (mut partition_key, mut explicit_key, mut data) = (None, None, None);
        let mut fields = Fields(record);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Number(index)) => partition_key = Some(index),
                (2, Value::Number(index)) => explicit_key = Some(index),
                (3, Value::Bytes(bytes)) => data = Some(bytes),
                (_, Value::Bytes(_) | Value::Number(_) | Value::Fixed) => {}
            }
        }
        let partition_key = partition_key.ok_or(Stop::Broken)?;
        Ok(Self { partition_key, explicit_key, data: data.ok_or(Stop::Broken)? })
    }

    fn resolve(self, partition_keys: &[u128], explicit_keys: &[u128]) -> Result<SubRecord<'a>, Stop> {
        let at = |table: &[u128], index: u64| {
            let key = usize::try_from(index).ok().and_then(|index| table.get(index).copied());
            key.ok_or(Stop::Broken)
        };
        // Both must be there, whichever counts: an index that leads nowhere means that the whole is not to be trusted.
        let partition_key = at(partition_keys, self.partition_key)?;
        let hash_key = self.explicit_key.map_or(Ok(partition_key), |index| at(explicit_keys, index))?;
        Ok(SubRecord { hash_key, data: self.data })
    }
}

// === Protobuf ===

/// The fields of one message, in order.
struct Fields<'a>(&'a [u8]);

/// A field's value, by its wire type.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes that no field of ours has.
    Fixed,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Stop> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups are long gone from protobuf, and 6 and 7 never were.
            _ => return Err(Stop::Broken),
        };
        match tag >> 3 {
            number @ 1..=0x1fff_ffff => Ok(Some((number, value))),
            _ => Err(Stop::Broken),
        }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Stop> {
        let len = usize::try_from(len).map_err(|_| Stop::Broken)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Stop::Broken)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Seven bits a byte, the lowest first, at most 64 in all.
    fn varint(&mut self) -> Result<u64, Stop> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Stop::Broken)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Stop::Broken);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Stop::Broken)
    }
}
