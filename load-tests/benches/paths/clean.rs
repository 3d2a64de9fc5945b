//! Paths 2 to 4: JSON to cleaned Arrow by the shipped contracts, on to the files of a commit, and with windows on top.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::array::RecordBatch;
use pintail::budget::Permit;
use pintail::checkpoint::{Position, PositionRange, ShardId};
use pintail::clean::Cleaner;
use pintail::contract::{self, Contract};
use pintail::demo::Kind;
use pintail::demo::contracts::shipped;
use pintail::lake::encoded_files;
use pintail::metrics::Registry;
use pintail::record::{CleanBatch, RawBatch, RawRecord, ShardGrant, WindowSink};
use pintail::toml_doc::Problems;
use pintail::window::StreamWindows;

use crate::data;
use crate::sides::{Rounds, Side, compare};

/// Of one turn: a commit's worth.
const RECORDS: usize = 40_000;
/// A megabyte of pins.
const RECORDS_PER_READ: usize = 1_400;

pub fn to_arrow(rounds: Rounds) {
    for kind in Kind::ALL {
        let house = RefCell::new(House::new(kind, windows_of(kind, 0)));
        let bytes = house.borrow().record_bytes();
        let title = format!("path 2: {} JSON ({bytes:.0} bytes) to cleaned Arrow", kind.name());
        let side = Side::new("pintail", RECORDS, || drop(black_box(house.borrow_mut().clean())));
        compare(&title, rounds, vec![side.after(|| house.borrow_mut().read())]);
    }
}

pub fn to_parquet(rounds: Rounds) {
    for kind in Kind::ALL {
        let house = RefCell::new(House::new(kind, windows_of(kind, 0)));
        house.borrow_mut().read();
        let rows: Vec<RecordBatch> = house.borrow_mut().clean().into_iter().map(|batch| batch.rows).collect();
        let title = format!("path 3: {} JSON to the Parquet files of a commit, zstd-1", kind.name());
        let sides = vec![
            flushes("JSON to Parquet", &house),
            Side::new("only Arrow to Parquet", RECORDS, || drop(black_box(files(&rows)))),
        ];
        compare(&title, rounds, sides);
        println!("{:<34} {:.0} bytes a record", "", size(&files(&rows)) as f64 / RECORDS as f64);
    }
}

pub fn with_windows(rounds: Rounds) {
    let house = |windows| RefCell::new(House::new(Kind::Pin, windows));
    let mut houses: Vec<(String, RefCell<House>)> =
        [0, 5, 20].into_iter().map(|count| (format!("{count} windows"), house(windows_of(Kind::Pin, count)))).collect();
    houses.push(("the two shipped ones (sketches)".to_owned(), house(None)));
    let title = "path 4: path 3 of pins with windows, their partials and their files";
    compare(title, rounds, houses.iter().map(|(name, house)| flushes(name, house)).collect());
}

/// A window of a day that slides: by its hop.
pub fn with_sliding_windows(rounds: Rounds) {
    let sliding = |hop: &str| {
        let keys = "by = [\"category\"]\nmeasure = { pins = \"count\", followers = \"sum(follower_count)\" }";
        format!("[[window]]\nname = \"day\"\nevery = \"1d\"\nhop = \"{hop}\"\n{keys}\n")
    };
    let house = |hop| RefCell::new(House::new(Kind::Pin, Some(sliding(hop))));
    let houses: Vec<(String, RefCell<House>)> =
        ["1d", "1h", "10m", "1m"].into_iter().map(|hop| (format!("every {hop}"), house(hop))).collect();
    let title = "path 4: path 3 of pins with a window of a day that slides";
    compare(title, rounds, houses.iter().map(|(name, house)| flushes(name, house)).collect());
}

fn flushes<'a>(name: &'a str, house: &'a RefCell<House>) -> Side<'a> {
    Side::new(name, RECORDS, || drop(black_box(house.borrow_mut().flush()))).after(|| house.borrow_mut().read())
}

/// What a record meets between the source and the store.
struct House {
    cleaner: Cleaner,
    windows: StreamWindows,
    records: Vec<RawRecord>,
    /// What the next turn gets: the cleaner keeps what it is given.
    reads: Vec<Vec<RawRecord>>,
    shard: ShardId,
    version: u64,
}

impl House {
    /// By the shipped contract, or one with these windows instead of its own.
    fn new(kind: Kind, windows: Option<String>) -> Self {
        let (file, text) = shipped(kind);
        let columns = text.split("[[window]]").next().unwrap_or_default();
        let text = windows.map_or(text.to_owned(), |windows| format!("{columns}{windows}"));
        let problems = Problems::default();
        let contract: Option<Contract> = contract::parse(file, text, &problems);
        problems.into_result().expect("a contract");
        let contract = Arc::new(contract.expect("a contract"));
        let registry = Registry::new().expect("metrics");
        Self {
            windows: StreamWindows::new(kind.name(), Arc::clone(&contract), registry.stream(kind.name())),
            cleaner: Cleaner::new(contract),
            records: data::records(data::payloads(kind, RECORDS)),
            reads: Vec::new(),
            shard: ShardId::new("shardId-000000000000"),
            version: 0,
        }
    }

    fn record_bytes(&self) -> f64 {
        self.records.iter().map(|record| record.data.len()).sum::<usize>() as f64 / self.records.len() as f64
    }

    /// Reads all records once more.
    fn read(&mut self) {
        self.reads = self.records.chunks(RECORDS_PER_READ).map(<[RawRecord]>::to_vec).collect();
    }

    /// What was read, read by read.
    fn clean(&mut self) -> Vec<CleanBatch> {
        let mut after = Position::Beginning;
        let mut batches = Vec::with_capacity(self.reads.len());
        for records in std::mem::take(&mut self.reads) {
            let through = records.last().map_or(after, |record| Position::After(record.sequence_number));
            let range = PositionRange { shard: self.shard.clone(), after, through };
            let (grant, permit) = (ShardGrant::new(), Permit::default());
            let raw = RawBatch { range, records, seen_ms: None, end: None, grant, permit };
            let (cleaned, _) = self.cleaner.clean(raw);
            assert!(cleaned.rejects.is_empty(), "the emulation's clean records are rows");
            batches.push(cleaned);
            after = through;
        }
        batches
    }

    /// What was read, to the files of one commit, windows included.
    fn flush(&mut self) -> Vec<Bytes> {
        let batches = self.clean();
        for batch in &batches {
            self.windows.observe(batch).expect("cleaned by the same contract");
        }
        let ranges: Vec<PositionRange> = batches.iter().map(|batch| batch.range.clone()).collect();
        let rows: Vec<RecordBatch> = batches.into_iter().map(|batch| batch.rows).collect();
        let mut written = files(&rows);
        for partials in self.windows.partials(&ranges) {
            written.extend(files(&[partials]));
        }
        self.version += 1;
        self.windows.committed(&ranges, self.version);
        written
    }
}

fn files(rows: &[RecordBatch]) -> Vec<Bytes> {
    encoded_files(rows).expect("cleaned rows are encoded")
}

fn size(files: &[Bytes]) -> usize {
    files.iter().map(Bytes::len).sum()
}

/// So many windows over pins, of sizes and keys that people use; counts, sums and extremes.
fn windows_of(kind: Kind, count: usize) -> Option<String> {
    const SIZES: [&str; 5] = ["1m", "5m", "15m", "1h", "1d"];
    const KEYS: [(&str, &str); 4] = [
        ("category", "[\"category\"]"),
        ("media", "[\"is_image_or_video\"]"),
        ("both", "[\"category\", \"is_image_or_video\"]"),
        ("all", "[]"),
    ];
    const MEASURES: [&str; 2] =
        ["pins = \"count\", followers = \"sum(follower_count)\"", "pins = \"count\", most = \"max(follower_count)\""];
    assert!(count == 0 || kind == Kind::Pin, "windows of pins");
    let every_and_by = KEYS.iter().flat_map(|by| SIZES.iter().map(move |every| (every, by)));
    let window = |(index, (every, (name, by))): (usize, (&&str, &(&str, &str)))| {
        let measure = MEASURES[index % 2];
        format!("[[window]]\nname = \"w{index}_{name}\"\nevery = \"{every}\"\nby = {by}\nmeasure = {{ {measure} }}\n")
    };
    Some(every_and_by.enumerate().take(count).map(window).collect())
}
