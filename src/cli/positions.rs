//! `positions`: the ledger, readable.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::checkpoint::{Position, ShardEntry};
use crate::config::Config;
use crate::lake::{LakeStore, StreamLedger, read_ledgers};
use crate::say::say;

/// Every shard of every stream's ledger, from the rows tables alone; Kinesis is not asked.
pub async fn positions(path: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let config = Config::load_here(path)?;
    let uri = &config.lake.location.uri;
    let Some(store) = LakeStore::open_existing(&config.lake.location).await? else {
        bail!("there is no lake at {uri} yet; `pintail run` makes it");
    };
    let mut documents = Vec::new();
    for stream in &config.streams {
        let table = &stream.contract.table;
        let ledgers = read_ledgers(&store, table).await?.unwrap_or_default();
        if as_json {
            documents.extend(ledgers.iter().map(|ledger| document(table, ledger)));
        } else {
            print_table(&store, table, &ledgers);
        }
    }
    if as_json {
        say!("{}", serde_json::to_string_pretty(&documents)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_table(store: &LakeStore, table: &str, ledgers: &[StreamLedger]) {
    say!("{}", store.table_uri(table));
    if ledgers.is_empty() {
        say!("  no positions yet");
    }
    for ledger in ledgers {
        let identity = &ledger.identity;
        say!(
            "  pipeline {}, stream {} (created {}), version {}",
            identity.pipeline,
            identity.stream,
            time(identity.created_at_s.saturating_mul(1000)),
            ledger.view.version
        );
        let watermark = ledger.view.watermark_ms().map_or_else(|| "none yet".to_owned(), time);
        say!("    watermark of the open shards: {watermark}");
        for (shard, entry) in &ledger.view.shards {
            match shard.replay() {
                Some(_) => say!("    {shard}  {}", describe_replay(entry)),
                None => say!("    {shard}  {}", describe(entry)),
            }
        }
    }
}

/// Where a shard stands, in words.
pub fn describe(entry: &ShardEntry) -> String {
    let seen = entry.seen_ms.map_or_else(String::new, |seen| format!(", complete up to {}", time(seen)));
    let watermark = entry.watermark_ms.map_or_else(String::new, |ms| format!(", watermark {}", time(ms)));
    let seen = seen + &watermark;
    match entry.resume() {
        Position::End => "ended".to_owned(),
        Position::Beginning => format!("from the beginning{seen}"),
        Position::At(ms) => format!("from {}{seen}", time(ms)),
        Position::After(number) => format!("after {number}{seen}"),
    }
}

/// How far a replay of rejects is, in words.
pub fn describe_replay(entry: &ShardEntry) -> String {
    let done = entry.position.map_or_else(|| "0".to_owned(), |number| number.to_string());
    if entry.ended {
        format!("finished, {done} rejects re-cleaned")
    } else {
        format!("{done} rejects re-cleaned, not finished: `pintail replay --rejects` goes on")
    }
}

fn document(table: &str, ledger: &StreamLedger) -> Value {
    let shards = ledger.view.shards.iter().map(|(shard, entry)| {
        json!({
            "shard": shard,
            "position": entry.position.map(|number| number.to_string()),
            "start_ms": entry.start_ms,
            "ended": entry.ended,
            "seen_ms": entry.seen_ms,
            "watermark_ms": entry.watermark_ms,
        })
    });
    json!({
        "table": table,
        "pipeline": ledger.identity.pipeline,
        "stream": ledger.identity.stream,
        "created_at_s": ledger.identity.created_at_s,
        "version": ledger.view.version,
        "watermark_ms": ledger.view.watermark_ms(),
        "shards": shards.collect::<Vec<_>>(),
    })
}

/// Epoch ms as people write it.
pub fn time(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(|| format!("{ms} ms"), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}
