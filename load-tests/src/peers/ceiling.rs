//! The component ceiling: what the parts that nobody can leave out cost by themselves, measured in the same sitting.
//!
//! To clean is to parse and to write the values; to make Parquet of them is to write them once more and to compress
//! them. A program of these parts without anything between them would be this fast: simd-json's tape over records that
//! are joined by 64, the cleaned values at the speed of a copy through memory, and zstd 1 over blocks of a mebibyte.

use std::hint::black_box;
use std::path::Path;

use anyhow::{Context, ensure};
use deltalake::arrow::array::{Array, ArrayRef, AsArray};
use pintail::demo::Kind;
use serde::{Deserialize, Serialize};
use simd_json::{Buffers, INPUT_PADDING, Tape, fill_tape_padded};

use super::arithmetic::median;
use super::clock::timed;
use super::ours::Job;
use crate::rooms::Rooms;

/// Records that are looked at: enough to be out of every cache.
const RECORDS: usize = 100_000;
const JOINED: usize = 64;
const BLOCK_BYTES: usize = 512 << 10;
const COPIED_BYTES: usize = 256 << 20;
/// Each part is done so often; the median counts.
const REPEATS: usize = 3;

/// What the parts cost, nanoseconds of CPU a record.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// simd-json's tape.
    pub parse_ns: f64,
    /// The cleaned values, copied once.
    pub copy_ns: f64,
    /// zstd 1 over the cleaned values.
    pub codec_ns: f64,
    /// Bytes of the cleaned values.
    pub payload_bytes: f64,
}

impl Ceiling {
    /// Nanoseconds a record below which these parts cannot go. Only pins have one for Parquet: of the values of the other
    /// two so many repeat themselves that a dictionary spares the codec most of them.
    pub fn ns(&self, kind: Kind, path: Job) -> Option<f64> {
        let clean_ns = self.parse_ns + self.copy_ns;
        match (path, kind) {
            (Job::Clean, _) => Some(clean_ns),
            (Job::Parquet, Kind::Pin) => Some(clean_ns + self.copy_ns + self.codec_ns),
            (Job::Parquet, Kind::Geo | Kind::User) => None,
        }
    }

    /// Measures them over the first records of a file of valid lines.
    pub fn measure(kind: Kind, valid: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(valid).with_context(|| valid.display().to_string())?;
        let lines: Vec<&[u8]> =
            text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(RECORDS).collect();
        ensure!(!lines.is_empty(), "{} holds no record", valid.display());
        let columns = cleaned(kind, &lines)?;
        let payload_bytes = columns.iter().map(slice_bytes).sum::<anyhow::Result<usize>>()?;
        let records = lines.len() as f64;
        let payload_each = payload_bytes as f64 / records;
        Ok(Self {
            parse_ns: parse_s(&lines)? * 1e9 / records,
            copy_ns: copy_s()? * 1e9 / COPIED_BYTES as f64 * payload_each,
            codec_ns: codec_s(&columns)? * 1e9 / records,
            payload_bytes: payload_each,
        })
    }
}

/// The data columns of the records.
fn cleaned(kind: Kind, lines: &[&[u8]]) -> anyhow::Result<Vec<ArrayRef>> {
    let mut rooms = Rooms::of(kind)?;
    let raw = rooms.read(lines.iter().copied())?;
    let rows = rooms.clean(raw).rows;
    let names = rooms.data_columns();
    names.iter().map(|name| rows.column_by_name(name).cloned().with_context(|| name.clone())).collect()
}

fn slice_bytes(column: &ArrayRef) -> anyhow::Result<usize> {
    Ok(column.to_data().get_slice_memory_size()?)
}

/// The middle one of some repetitions, after one that does not count.
fn repeated(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    work()?;
    let times: Vec<f64> = (0..REPEATS).map(|_| Ok(timed(&mut work)?.1)).collect::<anyhow::Result<_>>()?;
    median(&times).context("it was done at least once")
}

fn parse_s(lines: &[&[u8]]) -> anyhow::Result<f64> {
    let (mut text, mut buffers) = (Vec::new(), Buffers::default());
    let mut tape: Tape<'static> = Tape(Vec::new());
    repeated(|| {
        for joined in lines.chunks(JOINED) {
            text.clear();
            for line in joined {
                text.push(if text.is_empty() { b'[' } else { b',' });
                text.extend_from_slice(line);
            }
            text.push(b']');
            let len = text.len();
            text.resize(len + INPUT_PADDING, b' ');
            let mut filled = std::mem::replace(&mut tape, Tape(Vec::new())).reset();
            fill_tape_padded(&mut text, len, &mut buffers, &mut filled).context("a valid line is no JSON")?;
            black_box(&filled.0);
            tape = filled.reset();
        }
        Ok(())
    })
}

fn copy_s() -> anyhow::Result<f64> {
    let (from, mut to) = (vec![1_u8; COPIED_BYTES], vec![2_u8; COPIED_BYTES]);
    repeated(|| {
        to.copy_from_slice(black_box(&from));
        black_box(&to);
        Ok(())
    })
}

/// Over the values alone, one column after the other: offsets and null bits are not what a file's bytes are made of.
fn codec_s(columns: &[ArrayRef]) -> anyhow::Result<f64> {
    let mut values = Vec::new();
    columns.iter().for_each(|column| push_values(&mut values, column));
    let mut codec = zstd::bulk::Compressor::new(1)?;
    let mut out = vec![0; zstd::zstd_safe::compress_bound(BLOCK_BYTES)];
    repeated(|| {
        for block in values.chunks(BLOCK_BYTES) {
            black_box(codec.compress_to_buffer(block, &mut out)?);
        }
        Ok(())
    })
}

fn push_values(values: &mut Vec<u8>, column: &ArrayRef) {
    if let Some(texts) = column.as_string_opt::<i32>() {
        values.extend_from_slice(texts.value_data());
    } else if let Some(lists) = column.as_list_opt::<i32>() {
        push_values(values, lists.values());
    } else if let Some(buffer) = column.to_data().buffers().first() {
        values.extend_from_slice(buffer.as_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::data::lines;

    #[test]
    fn the_parts_are_measured_and_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let lines = lines(folder.path(), Kind::Pin, 500, 1).unwrap();
        let ceiling = Ceiling::measure(Kind::Pin, &lines.valid).unwrap();
        assert!((400.0..700.0).contains(&ceiling.payload_bytes), "{ceiling:?}");
        assert!(ceiling.parse_ns > 0.0 && ceiling.copy_ns > 0.0 && ceiling.codec_ns > 0.0, "{ceiling:?}");
    }

    #[test]
    fn parquet_pays_for_the_values_twice_and_for_the_codec() {
        let ceiling = Ceiling { parse_ns: 600.0, copy_ns: 50.0, codec_ns: 2_000.0, payload_bytes: 550.0 };
        assert_eq!(ceiling.ns(Kind::Pin, Job::Clean), Some(650.0));
        assert_eq!(ceiling.ns(Kind::Pin, Job::Parquet), Some(2_700.0));
        assert_eq!(ceiling.ns(Kind::Geo, Job::Parquet), None);
    }
}
