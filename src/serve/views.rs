//! The shapes of the JSON API: the status board at one moment, with ages and totals worked out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Sources;
use crate::checkpoint::ShardId;
use crate::status::{CleanTotals, ShardStatus, StreamSnapshot, TableStatus};

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
}

fn shard_views(shards: BTreeMap<ShardId, ShardStatus>, now_ms: i64) -> Vec<ShardView> {
    let age = |status: &ShardStatus| status.last_arrival_ms.map(|arrival_ms| age_ms(now_ms, arrival_ms));
    shards.into_iter().map(|(shard, status)| ShardView { shard, record_age_ms: age(&status), status }).collect()
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
