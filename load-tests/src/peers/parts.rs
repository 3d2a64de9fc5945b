//! What the parts of the service cost by themselves, in one thread and without a network but for the PUTs: bodies of
//! GetRecords to records, records to the files of a commit with the shipped windows, and these files to S3.
//!
//! What the service takes beyond their sum is what joins them: requests and their answers on the wire, tasks, locks, the
//! ledger's commits, rejects and metrics. Those have no figure of their own.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use aws_sdk_kinesis::config::ConfigBag;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_smithy_runtime_api::http::{Response, StatusCode};
use aws_smithy_schema::protocol::SharedClientProtocol;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use clap::Args;
use object_store::aws::AmazonS3;
use object_store::{ObjectStoreExt, PutPayload};
use pintail::checkpoint::PositionRange;
use pintail::demo::Kind;
use pintail::lake::encoded_files;
use pintail::metrics::Registry;
use pintail::record::{RawRecord, WindowSink};
use pintail::source::{QuickJson, RecordShelf};
use pintail::window::StreamWindows;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::args::kind;
use super::clock::{cpu_s, timed};
use crate::rooms::Rooms;
use crate::s3::S3Place;

/// Payload bytes of a body: what a shard gives in a second, and no more records than an answer holds.
const BODY_BYTES: usize = 2_000_000;
const BODY_RECORDS: usize = 10_000;

/// CPU of the parts, nanoseconds a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// A body of GetRecords to records.
    pub read_ns: f64,
    /// Records to cleaned columns, windows, and the files of a commit.
    pub work_ns: f64,
    /// These files to S3, by the client's side.
    pub put_ns: f64,
}

impl Parts {
    /// All of them.
    pub fn sum_ns(&self) -> f64 {
        self.read_ns + self.work_ns + self.put_ns
    }

    /// Of a record of each of these kinds, on average.
    pub fn mean(each: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| each.iter().map(of).sum::<f64>() / each.len().max(1) as f64;
        Self { read_ns: mean(|it| it.read_ns), work_ns: mean(|it| it.work_ns), put_ns: mean(|it| it.put_ns) }
    }

    /// Measures them over the first lines of a file.
    pub fn measure(kind: Kind, file: &Path, count: usize, s3: &AmazonS3) -> anyhow::Result<Self> {
        let text = std::fs::read(file).with_context(|| file.display().to_string())?;
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(count).collect();
        ensure!(lines.len() == count, "{} has {} lines, and {count} are wanted", file.display(), lines.len());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut house, mut took) = (House::new(kind)?, [0.0; 3]);
        let protocol = SharedClientProtocol::new(QuickJson::default());
        let (mut at, mut files) = (0, 0_u64);
        while at < lines.len() {
            let taken = body_lines(&lines[at..]);
            let body = body(&lines[at..at + taken], at)?;
            at += taken;
            let (records, read_s) = timed(|| parse(&protocol, body))?;
            ensure!(records.len() == taken, "a body of {taken} records was read as {}", records.len());
            let is_last = at == lines.len();
            let (written, work_s) = timed(|| house.work(records, is_last))?;
            let (put, put_s) = timed(|| put(&runtime, s3, files, written))?;
            files += put;
            took = [took[0] + read_s, took[1] + work_s, took[2] + put_s];
        }
        let [read_ns, work_ns, put_ns] = took.map(|seconds| seconds * 1e9 / count as f64);
        Ok(Self { read_ns, work_ns, put_ns })
    }
}

/// How many of the lines the next body has.
fn body_lines(lines: &[&[u8]]) -> usize {
    let mut bytes = 0;
    let fitting = lines.iter().take(BODY_RECORDS).take_while(|line| {
        bytes += line.len();
        bytes <= BODY_BYTES
    });
    fitting.count().max(1)
}

/// As Kinesis writes it.
fn body(lines: &[&[u8]], first: usize) -> anyhow::Result<Vec<u8>> {
    let mut body = "{\"Records\":[".to_owned();
    for (at, line) in (first..).zip(lines) {
        let (between, data) = (if at == first { "" } else { "," }, base64_simd::STANDARD.encode_to_string(line));
        write!(
            body,
            "{between}{{\"ApproximateArrivalTimestamp\":1.7052480{:05}E9,\"Data\":\"{data}\",\"EncryptionType\":\"NONE\",\
             \"PartitionKey\":\"{}\",\"SequenceNumber\":\"49590338271490256608559692538361571095921{:015}\"}}",
            at % 100_000,
            at % 10_000,
            575_989_136_588_898 + at * 7,
        )?;
    }
    write!(body, "],\"NextShardIterator\":\"{}\",\"MillisBehindLatest\":2100}}", "A".repeat(260))?;
    Ok(body.into_bytes())
}

fn parse(protocol: &SharedClientProtocol, body: Vec<u8>) -> anyhow::Result<Vec<RawRecord>> {
    let response = Response::new(StatusCode::try_from(200)?, SdkBody::from(body));
    let (mut config, shelf) = (ConfigBag::base(), RecordShelf::default());
    config.interceptor_state().store_put(shelf.clone());
    let mut answer = protocol.deserialize_response(&response, GetRecordsOutput::SCHEMA, &config)?;
    GetRecordsOutput::deserialize(&mut *answer)?;
    shelf.take().context("the quick reader left the body to the SDK's")
}

/// Puts files; how many.
fn put(runtime: &Runtime, s3: &AmazonS3, first: u64, files: Vec<Bytes>) -> anyhow::Result<u64> {
    let count = files.len() as u64;
    for (number, file) in (first..).zip(files) {
        let path = object_store::path::Path::from(format!("parts/{number}.parquet"));
        runtime.block_on(s3.put(&path, PutPayload::from_bytes(file)))?;
    }
    Ok(count)
}

/// The rooms between the source and the store.
struct House {
    rooms: Rooms,
    windows: StreamWindows,
    ranges: Vec<PositionRange>,
    version: u64,
}

impl House {
    fn new(kind: Kind) -> anyhow::Result<Self> {
        let rooms = Rooms::of(kind)?;
        let metrics = Registry::new()?.stream(kind.name());
        let windows = StreamWindows::new(kind.name(), rooms.contract(), metrics);
        Ok(Self { rooms, windows, ranges: Vec::new(), version: 0 })
    }

    /// Takes a read; the files of a commit if there are enough, or if it is the last.
    fn work(&mut self, records: Vec<RawRecord>, is_last: bool) -> anyhow::Result<Vec<Bytes>> {
        let raw = self.rooms.batch(records);
        let cleaned = self.rooms.clean(raw);
        self.windows.observe(&cleaned)?;
        self.ranges.push(cleaned.range);
        let mut files = self.rooms.hold(cleaned.rows)?;
        if is_last {
            files.extend(self.rooms.flush()?);
        }
        if !files.is_empty() {
            let ranges = std::mem::take(&mut self.ranges);
            for partials in self.windows.partials(&ranges) {
                files.extend(encoded_files(&[partials])?);
            }
            self.version += 1;
            self.windows.committed(&ranges, self.version);
        }
        Ok(files)
    }
}

/// Paths 2 to 4 on some threads at once, each with records of its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OnThreads {
    /// Records of all threads in a second by the clock on the wall.
    pub records_per_s: f64,
    /// CPU nanoseconds a record.
    pub cpu_ns: f64,
}

impl OnThreads {
    /// Measures it over the first lines of a file.
    pub fn measure(kind: Kind, file: &Path, count: usize, threads: usize) -> anyhow::Result<Self> {
        let text = std::fs::read(file).with_context(|| file.display().to_string())?;
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(count).collect();
        let (mut bodies, protocol) = (Vec::new(), SharedClientProtocol::new(QuickJson::default()));
        let mut at = 0;
        while at < lines.len() {
            let taken = body_lines(&lines[at..]);
            bodies.push(parse(&protocol, body(&lines[at..at + taken], at)?)?);
            at += taken;
        }
        let reads: Vec<Vec<Vec<RawRecord>>> = vec![bodies; threads];
        let (before_s, started) = (cpu_s()?, tokio::time::Instant::now());
        std::thread::scope(|scope| {
            let working: Vec<_> = reads
                .into_iter()
                .map(|reads| {
                    scope.spawn(move || {
                        let (mut house, last) = (House::new(kind)?, reads.len());
                        for (at, records) in (1..).zip(reads) {
                            std::hint::black_box(house.work(records, at == last)?);
                        }
                        anyhow::Ok(())
                    })
                })
                .collect();
            working.into_iter().try_for_each(|thread| {
                thread.join().map_err(|_panic| anyhow::anyhow!("a thread did not come to its end"))?
            })
        })?;
        let (wall_s, records) = (started.elapsed().as_secs_f64(), (lines.len() * threads) as f64);
        Ok(Self { records_per_s: records / wall_s, cpu_ns: (cpu_s()? - before_s) * 1e9 / records })
    }
}

/// `peers-parts`
#[derive(Debug, Args)]
pub struct PeersPartsArgs {
    #[arg(long, value_parser = kind)]
    kind: Kind,
    #[arg(long)]
    count: usize,
    /// Measures the parts one by one, and puts to this S3
    #[arg(long, conflicts_with = "threads", required_unless_present = "threads")]
    s3: Option<SocketAddr>,
    /// Measures paths 2 to 4 on so many threads
    #[arg(long)]
    threads: Option<usize>,
    input: PathBuf,
}

impl PeersPartsArgs {
    /// Measures, and prints what was found.
    pub fn run(&self) -> anyhow::Result<()> {
        let said = match (self.s3, self.threads) {
            (Some(s3), _) => {
                let parts = Parts::measure(self.kind, &self.input, self.count, &S3Place(s3).client()?)?;
                serde_json::to_string(&parts)?
            }
            (None, threads) => {
                serde_json::to_string(&OnThreads::measure(self.kind, &self.input, self.count, threads.unwrap_or(1))?)?
            }
        };
        println!("{said}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::data::lines;
    use crate::s3::S3Server;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_part_is_measured_and_what_is_put_are_the_rows_and_the_windows() {
        let (folder, s3) = (tempfile::tempdir().unwrap(), S3Server::start().await.unwrap());
        for kind in Kind::ALL {
            let lines = lines(folder.path(), kind, 3_000, 3).unwrap();
            let client = s3.client().unwrap();
            let measured =
                tokio::task::spawn_blocking(move || Parts::measure(kind, &lines.whole, 3_000, &client)).await.unwrap();
            let parts = measured.unwrap();
            assert!(parts.read_ns > 0.0 && parts.work_ns > 0.0 && parts.put_ns > 0.0, "{parts:?}");
            assert!(s3.keys("").len() >= 2, "rows and partials: {:?}", s3.keys(""));
            s3.remove_prefix("");
        }
    }

    #[test]
    fn threads_work_on_records_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let lines = lines(folder.path(), Kind::Geo, 2_000, 3).unwrap();
        let two = OnThreads::measure(Kind::Geo, &lines.whole, 2_000, 2).unwrap();
        assert!(two.records_per_s > 0.0 && two.cpu_ns > 0.0, "{two:?}");
    }

    #[test]
    fn the_parts_of_several_kinds_are_those_of_a_record_of_each() {
        let one = Parts { read_ns: 1.0, work_ns: 2.0, put_ns: 3.0 };
        let other = Parts { read_ns: 3.0, work_ns: 4.0, put_ns: 5.0 };
        assert_eq!(Parts::mean(&[one, other]), Parts { read_ns: 2.0, work_ns: 3.0, put_ns: 4.0 });
        assert_eq!(Parts::mean(&[one, other]).sum_ns(), 9.0);
        assert_eq!(Parts::mean(&[]).sum_ns(), 0.0);
    }
}
