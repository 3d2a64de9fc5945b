//! The whole service against the consumer that people write: from GetRecords to commits on an S3.
//!
//! Both read the same streams of one Kinesis from their beginning and write to one S3, in turns, each with a lake of its
//! own and a process of its own. What Kinesis and S3 cost is nobody's; what is told is the CPU of the process alone.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use clap::ValueEnum;
use pintail::demo::Kind;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::data::Lines;
use super::engines;
use super::ours::Work;
use super::parts::Parts;
use super::process;
use super::profile::Profile;
use crate::child::Child;
use crate::http::get;
use crate::scene::{Instance, Scene};
use crate::tables::Snapshot;
use crate::usage::Usage;

/// Records and bytes that one call may put; the bytes are Kinesis's limit less some for keys.
const PUT_RECORDS: usize = 500;
const PUT_BYTES: usize = 4 << 20;

/// Between two looks at what Pintail has committed. What a look costs is counted as Pintail's, as is what it does from its
/// last commit to the next look: it goes on asking Kinesis.
const LOOK: Duration = Duration::from_millis(500);

/// Beyond it a turn is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Below the lake's root.
const THEIR_FOLDER: &str = "consumer";

/// Which streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mix {
    /// As many pins as geo and as user records.
    Even,
    /// Pins alone.
    Pins,
}

impl Mix {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Even, Self::Pins];

    /// Its streams.
    pub fn kinds(self) -> Vec<Kind> {
        match self {
            Self::Even => Kind::ALL.to_vec(),
            Self::Pins => vec![Kind::Pin],
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Even => "pin, geo and user records in equal numbers",
            Self::Pins => "pins alone",
        }
    }
}

/// Who read and wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reader {
    /// `pintail run`, with the shipped windows.
    Pintail,
    /// boto3, orjson, pyarrow and `write_deltalake`, without windows.
    Consumer,
    /// Spark as it was from files to Parquet; it has no turn here.
    Spark,
}

/// What the parts of Pintail's way cost by themselves, in a round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PartsTurn {
    /// From 0.
    pub round: usize,
    /// The streams.
    pub mix: Mix,
    /// Of a record of each stream, on average.
    pub parts: Parts,
}

/// What both readers and the parts have taken.
#[derive(Debug, Default)]
pub struct Sittings {
    /// Turns of the readers.
    pub served: Vec<Served>,
    /// Turns of the parts.
    pub parts: Vec<PartsTurn>,
}

/// One turn of one of them.
#[derive(Debug, Clone, Serialize)]
pub struct Served {
    /// From 0.
    pub round: usize,
    /// The streams.
    pub mix: Mix,
    /// Whose.
    pub who: Reader,
    /// Records that were read, over all streams.
    pub records: u64,
    /// What it took. Of Pintail it is the whole process, its start included; of the consumer what came after its imports.
    pub work: Work,
    /// How the consumer's tables differ from Pintail's.
    pub differences: Vec<String>,
}

/// All rounds of one mix; `lines` are the files whose first `count` lines are put into each stream. What was done before
/// something failed is in `served`.
pub async fn rounds(
    program: &str,
    python: &str,
    (mix, shards, rounds): (Mix, u32, usize),
    (lines, count): (&[(Kind, &Lines)], u64),
    sittings: &mut Sittings,
) -> anyhow::Result<()> {
    let mut scene = Scene::on_s3(shards).await?;
    scene.settings.streams = mix.kinds();
    scene.settings.flush_interval_ms = 5_000;
    let mut records = Vec::new();
    for (kind, lines) in lines.iter().filter(|(kind, _)| mix.kinds().contains(kind)) {
        records.push((*kind, put(&scene, *kind, &lines.whole, count).await?));
    }
    let files = lines.iter().filter(|(kind, _)| mix.kinds().contains(kind));
    let files = files.map(|(kind, lines)| (*kind, lines.whole.clone())).collect();
    let service = Service { files, program, python, scene, mix, count, records };
    for round in 0..rounds {
        // Both need the other's table to be compared with, and neither is always the first.
        let (ours, theirs) = if round % 2 == 0 {
            let ours = service.ours().await?;
            (ours, service.theirs().await?)
        } else {
            let theirs = service.theirs().await?;
            (service.ours().await?, theirs)
        };
        let differences = service.compare(&ours.1, &theirs.1);
        let records = count * mix.kinds().len() as u64;
        let turn = |who, work, differences| Served { round, mix, who, records, work, differences };
        let served = &mut sittings.served;
        served.push(turn(Reader::Pintail, ours.0, Vec::new()));
        served.push(turn(Reader::Consumer, theirs.0, differences));
        sittings.parts.push(PartsTurn { round, mix, parts: service.parts().await? });
        eprintln!("{}: round {} of {rounds} done", mix.name(), round + 1);
    }
    Ok(())
}

struct Service<'a> {
    program: &'a str,
    python: &'a str,
    scene: Scene,
    mix: Mix,
    /// Of each stream, the lines that were put.
    files: Vec<(Kind, PathBuf)>,
    /// Lines of each stream.
    count: u64,
    /// Those of them that are JSON.
    records: Vec<(Kind, u64)>,
}

/// What a turn took, and what its tables say.
type Turned = (Work, Vec<(Kind, Profile)>);

impl Service<'_> {
    async fn ours(&self) -> anyhow::Result<Turned> {
        self.scene.s3()?.remove_prefix("");
        let started = Instant::now();
        let mut child = self.scene.spawn(self.program)?;
        let usage = committed(&mut child, &self.mix.kinds(), self.count).await.with_context(|| child.story())?;
        let wall_s = started.elapsed().as_secs_f64();
        let tables = self.tables("").await;
        let status = child.terminate().await?;
        ensure!(status.success(), "Pintail ended with {status}");
        let work = Work {
            rows: None,
            cpu_s: usage.cpu_seconds,
            wall_s,
            reading_s: None,
            rss_peak_bytes: usage.rss_peak_bytes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let tables = tables?;
        for ((kind, profile), (_, records)) in tables.iter().zip(&self.records) {
            let (found, name) = (profile.rows, kind.name());
            ensure!(found == *records, "Pintail made {found} rows of the {records} {name} records");
        }
        Ok((work, tables))
    }

    async fn theirs(&self) -> anyhow::Result<Turned> {
        let s3 = self.scene.s3()?;
        s3.remove_prefix("");
        let script = engines::script("consumer.py");
        let (kinesis, s3_endpoint) = (self.scene.kinesis.endpoint(), s3.endpoint());
        let (lake, count) = (format!("{}/{THEIR_FOLDER}", s3.lake_uri()), self.count.to_string());
        let mut words = vec![script.as_os_str(), kinesis.as_ref(), s3_endpoint.as_ref(), lake.as_ref(), count.as_ref()];
        let kinds = self.mix.kinds();
        words.extend(kinds.iter().map(|kind| std::ffi::OsStr::new(kind.name())));
        let work = process::work(process::command(self.python, words), None).await.context("the consumer")?;
        Ok((work, self.tables(&format!("{THEIR_FOLDER}/")).await?))
    }

    /// The parts of our way over the same records, to the same S3.
    async fn parts(&self) -> anyhow::Result<Parts> {
        let s3 = self.scene.s3()?;
        let address = s3.endpoint().trim_start_matches("http://").to_owned();
        let mut each = Vec::new();
        for (kind, file) in &self.files {
            s3.remove_prefix("");
            let words = ["peers-parts", "--kind", kind.name(), "--s3", &address, "--count", &self.count.to_string()];
            let words = words.map(str::to_owned).into_iter().chain([file.display().to_string()]);
            let said = process::said(process::command(self.program, words), None).await.context("the parts")?;
            each.push(serde_json::from_str(&said)?);
        }
        Ok(Parts::mean(&each))
    }

    async fn tables(&self, folder: &str) -> anyhow::Result<Vec<(Kind, Profile)>> {
        let mut tables = Vec::new();
        for kind in self.mix.kinds() {
            let snapshot = Snapshot::read(&self.scene.lake_url()?, &format!("{folder}{}", kind.name())).await?;
            let mut profile = Profile::default();
            snapshot.batches().iter().try_for_each(|batch| profile.add(batch))?;
            tables.push((kind, profile));
        }
        Ok(tables)
    }

    fn compare(&self, ours: &[(Kind, Profile)], theirs: &[(Kind, Profile)]) -> Vec<String> {
        let pairs = ours.iter().zip(theirs);
        pairs
            .flat_map(|((kind, ours), (_, theirs))| {
                ours.differences(theirs).into_iter().map(|how| format!("{} {how}", kind.name()))
            })
            .collect()
    }
}

/// What the process had used when so many records of each of these streams were committed.
pub(super) async fn committed(child: &mut Child, kinds: &[Kind], count: u64) -> anyhow::Result<Usage> {
    let address = child.address().await?;
    let deadline = Instant::now() + PATIENCE;
    let mut unanswered = String::new();
    loop {
        child.alive()?;
        // A server that is told to be patient with nobody may close on us while the machine is busy: we look again.
        // Its tables are less to look up and to write than its metrics with the windows.
        let rows = match get(address, "/api/tables").await.and_then(|answer| answer.json()) {
            Ok(tables) => rows_and_rejects(&tables),
            Err(error) => {
                unanswered = format!("; once it did not answer: {error:#}");
                0
            }
        };
        let usage = Usage::of(child.pid()?)?;
        if rows >= count * kinds.len() as u64 {
            return Ok(usage);
        }
        ensure!(Instant::now() < deadline, "not everything was committed in {PATIENCE:?}{unanswered}");
        sleep(LOOK).await;
    }
}

/// What the process has added to the tables that records go to.
fn rows_and_rejects(tables: &Value) -> u64 {
    let streams = tables["streams"].as_array().into_iter().flatten();
    let tables = streams.flat_map(|stream| stream["tables"].as_array().into_iter().flatten());
    let taken = tables.filter(|table| table["kind"] == "rows" || table["kind"] == "rejects");
    taken.filter_map(|table| table["rows"].as_u64()).sum()
}

/// Puts the first lines of a file into a stream; how many of them are JSON.
pub(super) async fn put(scene: &Scene, kind: Kind, file: &Path, count: u64) -> anyhow::Result<u64> {
    let lines = BufReader::new(std::fs::File::open(file).with_context(|| file.display().to_string())?);
    let (mut records, mut entries, mut bytes, mut put) = (0, Vec::new(), 0, 0);
    for line in lines.split(b'\n').take(usize::try_from(count)?) {
        let line = line?;
        records += u64::from(serde_json::from_slice::<IgnoredAny>(&line).is_ok());
        put += 1;
        bytes += line.len();
        let entry = PutRecordsRequestEntry::builder().data(Blob::new(line)).partition_key(put.to_string()).build()?;
        entries.push(entry);
        if entries.len() == PUT_RECORDS || bytes > PUT_BYTES {
            send(scene, kind, std::mem::take(&mut entries)).await?;
            bytes = 0;
        }
    }
    ensure!(put == count, "{} has {put} lines, and {count} are wanted", file.display());
    if !entries.is_empty() {
        send(scene, kind, entries).await?;
    }
    Ok(records)
}

async fn send(scene: &Scene, kind: Kind, entries: Vec<PutRecordsRequestEntry>) -> anyhow::Result<()> {
    let call = scene.kinesis.client().put_records().stream_name(kind.name()).set_records(Some(entries));
    let answer = call.send().await.context("PutRecords")?;
    ensure!(answer.failed_record_count().unwrap_or_default() == 0, "the local Kinesis refused records");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn committed_is_what_went_to_rows_and_to_rejects_of_all_streams() {
        let table = |kind: &str, rows: u64| json!({ "table": "any", "kind": kind, "rows": rows });
        let tables = json!({ "streams": [
            { "stream": "pin", "tables": [table("rows", 5), table("rejects", 2), table("partials", 90), table("sealed", 9)] },
            { "stream": "geo", "tables": [table("rows", 1)] },
            { "stream": "user", "tables": [] },
        ] });
        assert_eq!(rows_and_rejects(&tables), 8);
        assert_eq!(rows_and_rejects(&Value::Null), 0);
    }
}
