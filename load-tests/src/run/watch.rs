//! Looks at a run from outside while it lasts: how far the live windows are, what is committed, what each process
//! uses.
//!
//! "In the live window" is what `/api/shards` says of each shard: the last number that its windows count. "Readable in
//! Delta" is an entry of the rows table's log that a reader of the bucket has got. Both are seen a little after they
//! are true, by up to one interval between two looks; what is reported is what was seen.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nix::unistd::Pid;
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use pintail::checkpoint::{SequenceNumber, ShardId};
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use pintail::demo::latency::Timeline;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};

use super::report::{Commit, CpuSeconds, Sample};
use crate::http::{Asker, metric, samples};
use crate::log_entry::{Step, actions, entry_key, step};
use crate::usage::Usage;
use crate::wait::{PATIENCE, until_within};

/// Between two looks for the next entry of a log.
const LOG_INTERVAL: Duration = Duration::from_millis(20);

/// Between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// How far each shard is, and since when.
pub type Timelines = BTreeMap<(Kind, ShardId), Timeline>;

/// The processes of a run.
#[derive(Debug, Clone, Copy)]
pub struct Processes {
    /// Pintail.
    pub pintail: Pid,
    /// The Kinesis, if it is ours.
    pub kinesis: Option<Pid>,
    /// The S3.
    pub s3: Pid,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// What the live windows count.
    pub counted: Timelines,
    /// What is in the logs.
    pub committed: Timelines,
    /// Shards whose end is in a log.
    pub ended: Vec<(Kind, ShardId)>,
    /// Commits of the rows tables.
    pub commits: Vec<Commit>,
    /// One a second.
    pub samples: Vec<Sample>,
}

/// The observer of one run.
pub struct Watch {
    /// When the run began.
    pub started: Instant,
    kinds: Vec<(Kind, String)>,
    asker: Asker,
    bucket: AmazonS3,
    processes: Processes,
    look_interval: Duration,
    seen: Mutex<Seen>,
}

impl Watch {
    /// Of these streams, by their names at Kinesis.
    pub fn new(
        kinds: Vec<(Kind, String)>,
        asker: Asker,
        bucket: AmazonS3,
        processes: Processes,
        look_interval: Duration,
    ) -> Self {
        let (started, seen) = (Instant::now(), Mutex::default());
        Self { started, kinds, asker, bucket, processes, look_interval, seen }
    }

    /// Looks until it is dropped; ends only with what went wrong.
    pub async fn for_ever(&self) -> anyhow::Error {
        let ended = tokio::try_join!(self.windows(), self.logs(), self.processes());
        ended.err().unwrap_or_else(|| anyhow::anyhow!("the observer has ended"))
    }

    /// What was seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was seen.
    pub fn into_seen(self) -> Seen {
        self.seen.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shards whose book goes further than what was seen in the logs.
    pub fn behind(&self, log: &AcceptedLog) -> Vec<String> {
        let seen = self.seen();
        let is_there = |kind: Kind, shard: &ShardId, head: SequenceNumber| {
            let place = (kind, shard.clone());
            let through = seen.committed.get(&place).and_then(Timeline::through);
            through >= Some(head) || seen.ended.contains(&place)
        };
        let heads = log.heads().into_iter();
        let behind = heads.filter_map(|((stream, shard), head)| {
            let kind = self.kinds.iter().map(|(kind, _)| *kind).find(|kind| kind.name() == stream)?;
            (!is_there(kind, &shard, head)).then(|| format!("{stream} {shard}: accepted up to {head}"))
        });
        behind.collect()
    }

    /// Waits until every one of so many shards has been read up to its head.
    pub async fn reading(&self, shards: usize) -> anyhow::Result<()> {
        let patience = PATIENCE + Duration::from_millis(100) * u32::try_from(shards).unwrap_or(u32::MAX);
        until_within(patience, "every shard is read", async || {
            let board: Board = serde_json::from_str(&self.asker.get("/api/shards").await?.body)?;
            let read = board.streams.iter().flat_map(|stream| &stream.shards);
            let read = read.filter(|shard| shard.state == "reading" && shard.behind_ms == Some(0)).count();
            Ok((read >= shards).then_some(()))
        })
        .await
    }

    async fn windows(&self) -> anyhow::Result<()> {
        let mut looks = tokio::time::interval(self.look_interval.max(Duration::from_millis(1)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let answer = self.asker.get("/api/shards").await?;
            let board: Board = serde_json::from_str(&answer.body).context("/api/shards")?;
            let now = Instant::now();
            let mut seen = self.seen();
            for stream in board.streams {
                let Some((kind, _)) = self.kinds.iter().find(|(_, name)| *name == stream.stream) else { continue };
                for shard in stream.shards {
                    if let Some(counted) = &shard.counted {
                        let number = SequenceNumber::parse(counted)?;
                        let timeline = seen.counted.entry((*kind, ShardId::new(shard.shard))).or_default();
                        timeline.reached(number, now);
                    }
                }
            }
        }
    }

    async fn logs(&self) -> anyhow::Result<()> {
        let mut next: BTreeMap<Kind, u64> = BTreeMap::new();
        let mut limbs: BTreeMap<(Kind, ShardId), [i64; 4]> = BTreeMap::new();
        loop {
            let round = Instant::now();
            for (kind, _) in &self.kinds {
                let version = next.entry(*kind).or_default();
                let key = Path::from(entry_key(kind.name(), *version));
                let entry = match self.bucket.get(&key).await {
                    Ok(found) => found.bytes().await?,
                    Err(object_store::Error::NotFound { .. }) => continue,
                    Err(error) => return Err(error.into()),
                };
                self.note_commit(*kind, *version, &entry, &mut limbs)
                    .with_context(|| format!("{}, version {version}", kind.name()))?;
                *version += 1;
            }
            tokio::time::sleep_until(round + LOG_INTERVAL).await;
        }
    }

    fn note_commit(
        &self,
        kind: Kind,
        version: u64,
        entry: &[u8],
        limbs: &mut BTreeMap<(Kind, ShardId), [i64; 4]>,
    ) -> anyhow::Result<()> {
        let now = Instant::now();
        let actions = actions(entry)?;
        let mut seen = self.seen();
        let mut moved = Vec::new();
        for txn in actions.iter().filter_map(|action| action.get("txn")) {
            let Some((shard, step)) = step(txn)? else { continue };
            let place = (kind, shard);
            match step {
                Step::Limb(limb, value) => {
                    limbs.entry(place.clone()).or_default()[limb] = value;
                    moved.push(place);
                }
                Step::Ended => seen.ended.push(place),
                Step::Other => {}
            }
        }
        moved.dedup();
        for place in moved {
            let number = SequenceNumber::from_limbs(limbs.get(&place).copied().unwrap_or_default())?;
            seen.committed.entry(place).or_default().reached(number, now);
        }
        let adds = || actions.iter().filter_map(|action| action.get("add"));
        let removes = actions.iter().filter(|action| action.get("remove").is_some()).count();
        seen.commits.push(Commit {
            stream: kind.name().to_owned(),
            version,
            seconds: (now - self.started).as_secs_f64(),
            rows: adds().filter(|add| add["dataChange"] == true).filter_map(records).sum(),
            files_added: adds().count() as u64,
            files_removed: removes as u64,
            log_bytes: entry.len() as u64,
        });
        Ok(())
    }

    async fn processes(&self) -> anyhow::Result<()> {
        let mut looks = tokio::time::interval(SAMPLE_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let sample = self.sample().await?;
            self.seen().samples.push(sample);
        }
    }

    /// What is used now.
    pub async fn sample(&self) -> anyhow::Result<Sample> {
        let seconds = self.started.elapsed().as_secs_f64();
        let text = self.asker.get("/metrics").await?.body;
        let total = |name: &str| metric(&text, name, "").unwrap_or_default();
        let usage = Usage::of(self.processes.pintail)?;
        let of = |pid: Option<Pid>| pid.map(Usage::of).transpose();
        let lag = samples(&text, "pintail_behind_seconds").filter_map(|(labels, behind_s)| {
            let label = |name: &str| labels.split_once(&format!("{name}=\""))?.1.split('"').next();
            let shard = label("shard")?.trim_start_matches("shardId-").trim_start_matches('0');
            let shard = if shard.is_empty() { "0" } else { shard };
            let kind = self.kinds.iter().find(|(_, stream)| Some(stream.as_str()) == label("stream"))?.0;
            Some((format!("{} {shard}", kind.name()), behind_s))
        });
        Ok(Sample {
            seconds,
            read: total("pintail_records_read_total") as u64,
            rejects: total("pintail_rejects_total") as u64,
            commits: total("pintail_commits_total") as u64,
            commit_seconds: total("pintail_commit_seconds_sum"),
            flush_seconds: total("pintail_flush_seconds_sum"),
            files_committed: total("pintail_files_committed_total") as u64,
            budget_in_use_bytes: total("pintail_budget_in_use_bytes") as u64,
            rss_bytes: usage.rss_bytes,
            rss_peak_bytes: usage.rss_peak_bytes,
            cpu: CpuSeconds {
                pintail: usage.cpu_seconds,
                kinesis: of(self.processes.kinesis)?.map(|usage| usage.cpu_seconds),
                s3: Usage::of(self.processes.s3)?.cpu_seconds,
                producer: 0.0,
                harness: Usage::of(Pid::this())?.cpu_seconds,
            },
            posted: 0,
            late_max_ms: 0.0,
            behind_s: lag.collect(),
        })
    }
}

/// `numRecords` of an added file.
fn records(add: &Value) -> Option<u64> {
    let stats: Value = serde_json::from_str(add.get("stats")?.as_str()?).ok()?;
    stats.get("numRecords")?.as_u64()
}

/// What of `/api/shards` is read.
#[derive(Deserialize)]
struct Board {
    streams: Vec<BoardStream>,
}

#[derive(Deserialize)]
struct BoardStream {
    stream: String,
    shards: Vec<BoardShard>,
}

#[derive(Deserialize)]
struct BoardShard {
    shard: String,
    state: String,
    behind_ms: Option<i64>,
    counted: Option<String>,
}
