//! The shapes of the JSON API: the status board at one moment, with ages and totals worked out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Sources;
use crate::checkpoint::ShardId;
use crate::status::{CleanTotals, RejectSample, ShardStatus, StatusBoard, StreamSnapshot, TableStatus};

type Trouble = BTreeMap<&'static str, String>;

/// `/readyz`.
#[derive(Debug, Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub streams: Vec<StreamReadiness>,
}

/// Why a stream is not ready, by who says so; and what it has lost, ready or not.
#[derive(Debug, Serialize)]
pub struct StreamReadiness {
    pub stream: String,
    pub ready: bool,
    pub trouble: Trouble,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<ShardId, String>,
}

impl Readiness {
    /// A process that has no stream yet is still starting.
    pub fn of(board: &BTreeMap<String, StreamSnapshot>) -> Self {
        let streams = board.iter().map(|(stream, at)| StreamReadiness {
            stream: stream.clone(),
            ready: at.trouble.is_empty(),
            trouble: at.trouble.clone(),
            lost: at.lost.clone(),
        });
        Self { ready: is_ready(board), streams: streams.collect() }
    }
}

fn is_ready(board: &BTreeMap<String, StreamSnapshot>) -> bool {
    !board.is_empty() && board.values().all(|stream| stream.trouble.is_empty())
}

/// `/api/summary`: everything but the windows. All totals are of this process.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub now_ms: i64,
    pub pipeline: String,
    pub version: &'static str,
    pub started_ms: i64,
    pub ready: bool,
    pub streams: Vec<StreamSummary>,
}

/// One stream's part of it.
#[derive(Debug, Serialize)]
pub struct StreamSummary {
    pub stream: String,
    pub ready: bool,
    pub trouble: Trouble,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<ShardId, String>,
    /// Records read.
    pub records: u64,
    /// Payload bytes read.
    pub bytes: u64,
    /// Records that became rows, rejects by reason, nulls by column and reason, repairs.
    #[serde(flatten)]
    pub cleaned: CleanTotals,
    pub shards: Vec<ShardView>,
    pub tables: Vec<TableView>,
}

impl Summary {
    /// The sources at `now_ms`.
    pub fn of(sources: &Sources, now_ms: i64) -> Self {
        let board = sources.status.snapshot();
        Self {
            now_ms,
            pipeline: sources.pipeline.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started_ms: sources.started_ms,
            ready: is_ready(&board),
            streams: board.into_iter().map(|(stream, at)| StreamSummary::of(stream, at, now_ms)).collect(),
        }
    }
}

impl StreamSummary {
    fn of(stream: String, at: StreamSnapshot, now_ms: i64) -> Self {
        Self {
            stream,
            ready: at.trouble.is_empty(),
            records: at.records(),
            bytes: at.bytes(),
            trouble: at.trouble,
            lost: at.lost,
            cleaned: at.cleaned,
            shards: shard_views(at.shards, now_ms),
            tables: table_views(at.tables, now_ms),
        }
    }
}

/// `/api/shards`.
#[derive(Debug, Serialize)]
pub struct Shards {
    pub now_ms: i64,
    pub streams: Vec<StreamShards>,
}

/// One stream's part of it.
#[derive(Debug, Serialize)]
pub struct StreamShards {
    pub stream: String,
    pub shards: Vec<ShardView>,
}

impl Shards {
    /// The board at `now_ms`.
    pub fn of(board: BTreeMap<String, StreamSnapshot>, now_ms: i64) -> Self {
        let streams = board.into_iter();
        let streams = streams.map(|(stream, at)| StreamShards { stream, shards: shard_views(at.shards, now_ms) });
        Self { now_ms, streams: streams.collect() }
    }
}

/// `/api/tables`.
#[derive(Debug, Serialize)]
pub struct Tables {
    pub now_ms: i64,
    pub streams: Vec<StreamTables>,
}

/// One stream's part of it.
#[derive(Debug, Serialize)]
pub struct StreamTables {
    pub stream: String,
    pub tables: Vec<TableView>,
}

impl Tables {
    /// The board at `now_ms`.
    pub fn of(board: BTreeMap<String, StreamSnapshot>, now_ms: i64) -> Self {
        let streams = board.into_iter();
        let streams = streams.map(|(stream, at)| StreamTables { stream, tables: table_views(at.tables, now_ms) });
        Self { now_ms, streams: streams.collect() }
    }
}

/// One shard, as the board knows it.
#[derive(Debug, Serialize)]
pub struct ShardView {
    pub shard: ShardId,
    #[serde(flatten)]
    pub status: ShardStatus,
    /// Now minus the arrival of the last record read.
    pub record_age_ms: Option<i64>,
    /// Listed shards that name it as a parent.
    pub children: Vec<ShardId>,
    /// How many listed generations are before it.
    pub generation: usize,
    /// Who reads it: `self`, `another` process, or nobody.
    pub owner: Option<&'static str>,
}

fn shard_views(shards: BTreeMap<ShardId, ShardStatus>, now_ms: i64) -> Vec<ShardView> {
    let mut children: BTreeMap<ShardId, Vec<ShardId>> = BTreeMap::new();
    for (shard, status) in &shards {
        for parent in status.parents.iter().filter(|parent| shards.contains_key(*parent)) {
            children.entry(parent.clone()).or_default().push(shard.clone());
        }
    }
    let generations = generations(&shards);
    let views = shards.into_iter().map(|(shard, status)| ShardView {
        record_age_ms: status.last_arrival_ms.map(|arrival_ms| age_ms(now_ms, arrival_ms)),
        children: children.remove(&shard).unwrap_or_default(),
        generation: generations.get(&shard).copied().unwrap_or_default(),
        owner: owner(&status),
        shard,
        status,
    });
    views.collect()
}

/// One more than the youngest listed parent's.
fn generations(shards: &BTreeMap<ShardId, ShardStatus>) -> BTreeMap<ShardId, usize> {
    let mut generations: BTreeMap<ShardId, usize> = BTreeMap::new();
    // A parent's number is usually smaller than its children's, so that one round does. Never more than it takes for
    // the longest line, whatever the parents say.
    for _ in 0..shards.len() {
        let mut changed = false;
        for (shard, status) in shards {
            let parents = status.parents.iter().filter(|parent| shards.contains_key(*parent));
            let of_parent = |parent| generations.get(parent).copied().unwrap_or_default();
            let generation = parents.map(|parent| of_parent(parent) + 1).max().unwrap_or_default();
            changed |= generations.insert(shard.clone(), generation) != Some(generation);
        }
        if !changed {
            break;
        }
    }
    generations
}

fn owner(status: &ShardStatus) -> Option<&'static str> {
    match status.state {
        "reading" => Some("self"),
        "fenced" => Some("another"),
        _nobody => None,
    }
}

/// `/api/rejects`: counts of this process, with the last few of each reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rejects {
    pub now_ms: i64,
    pub streams: Vec<StreamRejects>,
}

/// One stream's part of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamRejects {
    pub stream: String,
    pub rejects: u64,
    pub reasons: Vec<ReasonRejects>,
}

/// One reason's part of that.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReasonRejects {
    pub reason: &'static str,
    pub count: u64,
    /// Newest first.
    pub samples: Vec<RejectSample>,
}

impl Rejects {
    /// The board at `now_ms`, of one stream and one reason, or of all.
    pub fn of(status: &StatusBoard, stream: Option<&str>, reason: Option<&str>, now_ms: i64) -> Self {
        let mut samples = status.reject_samples();
        let wanted = status.snapshot().into_iter().filter(|(name, _)| stream.is_none_or(|wanted| wanted == name));
        let streams = wanted.map(|(stream, at)| {
            let mut samples = samples.remove(&stream).unwrap_or_default();
            let counts = at.cleaned.rejects.into_iter().filter(|(name, _)| reason.is_none_or(|wanted| wanted == *name));
            let reasons = counts.map(|(reason, count)| ReasonRejects {
                reason,
                count,
                samples: samples.remove(reason).unwrap_or_default().into(),
            });
            let reasons: Vec<ReasonRejects> = reasons.collect();
            StreamRejects { stream, rejects: reasons.iter().map(|reason| reason.count).sum(), reasons }
        });
        Self { now_ms, streams: streams.collect() }
    }
}

/// One table, as the board knows it.
#[derive(Debug, Serialize)]
pub struct TableView {
    pub table: String,
    #[serde(flatten)]
    pub status: TableStatus,
    /// Now minus our last commit.
    pub commit_age_ms: Option<i64>,
}

fn table_views(tables: BTreeMap<String, TableStatus>, now_ms: i64) -> Vec<TableView> {
    let age = |status: &TableStatus| status.last_commit_ms.map(|commit_ms| age_ms(now_ms, commit_ms));
    tables.into_iter().map(|(table, status)| TableView { table, commit_age_ms: age(&status), status }).collect()
}

/// Kinesis's clock and ours differ; nothing is younger than now.
fn age_ms(now_ms: i64, then_ms: i64) -> i64 {
    now_ms.saturating_sub(then_ms).max(0)
}
