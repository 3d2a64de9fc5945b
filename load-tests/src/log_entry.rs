//! An entry of a rows table's log, as somebody reads it who knows Delta and the ledger's ids and not our code.

use anyhow::{Context, ensure};
use pintail::checkpoint::ShardId;
use serde_json::Value;

/// A position is written in so many parts.
const LIMBS: usize = 4;

/// What an entry says of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A part of its position, the highest first.
    Limb(usize, i64),
    /// Nothing will come any more.
    Ended,
    /// Something else: that it is read from now on, how far its event time is.
    Other,
}

/// The key of an entry of a table in the bucket of an [`S3Server`](crate::S3Server).
pub fn entry_key(table: &str, version: u64) -> String {
    format!("tables/{table}/_delta_log/{version:020}.json")
}

/// The actions of an entry, one a line.
pub fn actions(entry: &[u8]) -> anyhow::Result<Vec<Value>> {
    let actions = serde_json::Deserializer::from_slice(entry).into_iter().collect::<Result<_, _>>();
    actions.context("a log entry that is no JSON")
}

/// What a `txn` says of a shard, if it is of one: `pipeline/stream@epoch/shard/part`.
pub fn step(txn: &Value) -> anyhow::Result<Option<(ShardId, Step)>> {
    let id = txn.get("appId").and_then(Value::as_str).context("a txn without appId")?;
    let value = txn.get("version").and_then(Value::as_i64).context("a txn without version")?;
    let mut parts = id.rsplit('/');
    let (Some(part), Some(shard)) = (parts.next(), parts.next()) else { return Ok(None) };
    let step = match part {
        "end" => Step::Ended,
        part => match part.parse::<usize>() {
            Ok(limb) => {
                ensure!(limb < LIMBS, "{id} is no limb");
                Step::Limb(limb, value)
            }
            Err(_) => Step::Other,
        },
    };
    Ok(Some((ShardId::new(shard), step)))
}
