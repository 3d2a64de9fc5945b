//! `check`: everything that is wrong at once, then the plan. Writes nothing but a probe, which it deletes again.

use std::path::Path;
use std::process::ExitCode;

use super::positions::{describe, describe_replay, time};
use crate::checkpoint::{LedgerView, Position};
use crate::clock::now_ms;
use crate::config::{Config, StreamConfig};
use crate::error_chain::chain;
use crate::lake::{LakeConfig, LakeError, LakeStore, StreamIdentity, StreamPlan, plan_tables, read_ledgers};
use crate::say::say;
use crate::source::{
    Call, Fault, Kinesis, ListedShard, OnDataLoss, ReadError, SourceError, StartPosition, StreamDescription,
    StreamTarget, oldest_record, overdue,
};

/// The configuration and the contracts; then what Kinesis and the lake say to them.
pub async fn check(path: &Path) -> anyhow::Result<ExitCode> {
    let config = Config::load_here(path)?;
    say!("{}: the configuration and the contracts of {} stream(s) hold together", path.display(), config.streams.len());
    let (share, streams) = (config.budget_share_bytes() >> 20, config.streams.len());
    say!("pipeline {}, budget {} MiB, {share} MiB for each of {streams}", config.pipeline, config.budget_bytes >> 20);
    let (lake, mut problems) = check_lake(&config.lake.location).await;
    let kinesis = Kinesis::connect(&config.aws).await;
    if !kinesis.has_region() {
        say!("kinesis");
        problems +=
            problem("no region is set (set [aws] region or AWS_REGION); no stream can be looked at without one");
    }
    let mut unsent = None;
    for stream in &config.streams {
        say!("\nstream {} by {}", stream.name(), stream.contract.file.display());
        if let Lake::New = lake {
            stream.contract.tables().iter().for_each(|table| print_table(table, "will be created"));
        }
        if kinesis.has_region() {
            problems += check_stream(&config, stream, &kinesis, &lake, &mut unsent).await;
        }
    }
    if problems > 0 {
        let plural = if problems == 1 { "" } else { "s" };
        say!("\nnot ready: {problems} problem{plural} to mend before `pintail run`");
        return Ok(ExitCode::FAILURE);
    }
    say!("\nready for `pintail run --config {}`", path.display());
    Ok(ExitCode::SUCCESS)
}

/// What there is of the lake.
enum Lake {
    There(LakeStore),
    New,
    /// It cannot be looked at, which has been told.
    Unknown,
}

/// The lake as it is, and how many problems it has.
async fn check_lake(location: &LakeConfig) -> (Lake, usize) {
    let (lake, writable) = match LakeStore::open_existing(location).await {
        Ok(Some(store)) => {
            say!("lake {}", store.uri());
            let writable = store.check_writable().await;
            (Lake::There(store), writable)
        }
        Ok(None) => {
            say!("lake {}: will be created", location.uri);
            (Lake::New, LakeStore::check_can_be_made(location))
        }
        Err(error) => {
            say!("lake {}", location.uri);
            return (Lake::Unknown, lake_problem("", &error));
        }
    };
    let why = "the lake cannot be written, or what was written not deleted: ";
    let problems = writable.err().map_or(0, |error| lake_problem(why, &error));
    (lake, problems)
}

fn lake_problem(what: &str, error: &LakeError) -> usize {
    let mend = " (nobody answers there: see `lake.endpoint`, `lake.region` and the network)";
    problem(&format!("{what}{}{}", chain(error), if error.is_unreachable() { mend } else { "" }))
}

async fn look(stream: &StreamConfig, kinesis: &Kinesis) -> Result<(StreamDescription, Vec<ListedShard>), ReadError> {
    let target = StreamTarget::new(&stream.id);
    Ok((kinesis.describe(&target).await?, kinesis.list_shards(&target, None).await?))
}

/// Whether records may be read: one is asked for, of one shard. That others read the shard is no answer.
async fn try_reading(kinesis: &Kinesis, target: &StreamTarget, listed: &[ListedShard]) -> Result<(), ReadError> {
    let Some(shard) = listed.iter().find(|shard| !shard.closed) else { return Ok(()) };
    let read = async {
        let iterator = kinesis.shard_iterator(target, &shard.id, Position::Beginning).await?;
        kinesis.get_records(target, &iterator, 1).await
    };
    match read.await {
        Ok(_) => Ok(()),
        Err(error) if error.fault == Fault::Throttled => Ok(()),
        Err(error) => Err(error),
    }
}

/// Prints one stream's plan; returns how many problems it has. `unsent` is the first stream for which no request
/// could be sent.
async fn check_stream(
    config: &Config,
    stream: &StreamConfig,
    kinesis: &Kinesis,
    lake: &Lake,
    unsent: &mut Option<String>,
) -> usize {
    let (description, listed) = match look(stream, kinesis).await {
        Ok(found) => found,
        // No credentials, in many words: those of one stream are those of all.
        Err(error) if error.fault == Fault::NotSent => match unsent {
            Some(first) => return problem(&format!("no request can be sent, as for stream {first}")),
            None => {
                *unsent = Some(stream.name().to_owned());
                return problem(&chain(&error));
            }
        },
        Err(error) if (error.call, error.fault) == (Call::DescribeStream, Fault::NotFound) => {
            return problem(&chain(&SourceError::NotFound { stream: stream.name().to_owned(), source: error }));
        }
        Err(error) => return problem(&chain(&error)),
    };
    let retention_h = description.retention.as_secs() / 3600;
    say!("  created {}, retention {retention_h} h", time(description.created_s.saturating_mul(1000)));
    let unreadable = try_reading(kinesis, &description.target, &listed).await.err();
    let unreadable = unreadable.map_or(0, |error| problem(&chain(&error)));
    let identity = StreamIdentity {
        pipeline: config.pipeline.clone(),
        stream: description.name.clone(),
        created_at_s: description.created_s,
    };
    let plan = match lake {
        Lake::There(store) => plan_tables(store, &identity, &stream.contract).await,
        Lake::New => Ok(StreamPlan { tables: Vec::new(), ledger: LedgerView::default() }),
        // Where its shards stand is in the lake.
        Lake::Unknown => return unreadable,
    };
    let (ledger, unusable) = match plan {
        Ok(plan) => {
            plan.tables.iter().for_each(|table| print_table(&table.name, &table.state));
            (Some(plan.ledger), 0)
        }
        Err(LakeError::Drift { problems }) => (None, problems.iter().map(|reason| problem(reason)).sum()),
        Err(error) => return unreadable + problem(&chain(&error)),
    };
    let renamed = match lake {
        Lake::There(store) => other_pipelines(store, &identity, &stream.contract.table).await,
        Lake::New | Lake::Unknown => 0,
    };
    let Some(ledger) = ledger else { return unreadable + unusable + renamed };
    print_shards(stream, &listed.iter().map(|shard| (shard.id.clone(), shard.closed)).collect::<Vec<_>>(), &ledger);
    unreadable + renamed + check_loss(config.source.on_data_loss, kinesis, &description, &listed, &ledger).await
}

/// What `pintail run` would raise its alarm for: the same rule, before anything is read.
async fn check_loss(
    on_data_loss: OnDataLoss,
    kinesis: &Kinesis,
    stream: &StreamDescription,
    listed: &[ListedShard],
    ledger: &LedgerView,
) -> usize {
    let mut problems = 0;
    for mut range in overdue(stream, listed, ledger, now_ms()) {
        if listed.iter().any(|shard| shard.id == range.shard) {
            range.first = match oldest_record(kinesis, &stream.target, &range.shard).await {
                Ok(first) => first,
                Err(error) => {
                    problems += problem(&chain(&error));
                    continue;
                }
            };
        }
        // Whoever still has the last record that was read has all that came after it.
        if matches!((range.after, range.first), (Position::After(read), Some(first)) if first <= read) {
            continue;
        }
        let what = format!("records were trimmed before they were read: {range}");
        match on_data_loss {
            OnDataLoss::Fail => {
                let mend = "`pintail run` stops there unless `on_data_loss` is \"continue\"";
                problems += problem(&format!("{what}; {mend}"));
            }
            OnDataLoss::Continue => say!("  LOST: {what}; `on_data_loss` is \"continue\""),
        }
    }
    problems
}

/// A pipeline that was renamed knows no positions: every record would be read again and written twice.
async fn other_pipelines(store: &LakeStore, identity: &StreamIdentity, table: &str) -> usize {
    let ledgers = match read_ledgers(store, table).await {
        Ok(ledgers) => ledgers.unwrap_or_default(),
        Err(error) => return problem(&chain(&error)),
    };
    let of_stream = ledgers.into_iter().map(|ledger| ledger.identity).filter(|other| other.stream == identity.stream);
    let (same_stream, earlier): (Vec<_>, Vec<_>) =
        of_stream.partition(|other| other.created_at_s == identity.created_at_s);
    for other in earlier.into_iter().filter(|other| other.pipeline == identity.pipeline) {
        let created = time(other.created_at_s.saturating_mul(1000));
        say!(
            "  {table} also has a stream of this name that was created {created}: it was made anew, and is another one"
        );
    }
    let same_stream = same_stream.into_iter().filter(|other| *other != *identity);
    let told = same_stream.map(|other| {
        problem(&format!(
            "table {table} holds positions of this stream under `pipeline` = {:?}; as {:?} every record would be read \
             again and written twice",
            other.pipeline, identity.pipeline
        ))
    });
    told.sum()
}

fn print_shards(stream: &StreamConfig, listed: &[(crate::checkpoint::ShardId, bool)], ledger: &LedgerView) {
    let configured = match stream.start {
        StartPosition::TrimHorizon => "from the beginning".to_owned(),
        StartPosition::Latest => "from the moment of the first start".to_owned(),
        StartPosition::At(ms) => format!("from {}", time(ms)),
    };
    for (shard, closed) in listed {
        let closed = if *closed { " (closed)" } else { "" };
        match ledger.shards.get(shard) {
            Some(entry) => say!("  shard {shard}{closed}: {}", describe(entry)),
            // Shards that appear after the first registration are children, and are always read whole.
            None if ledger.shards.is_empty() => say!("  shard {shard}{closed}: new, {configured}"),
            None => say!("  shard {shard}{closed}: new, from the beginning"),
        }
    }
    for (shard, entry) in ledger.shards.iter().filter(|(_, entry)| !entry.ended) {
        if shard.replay().is_some() {
            say!("  {shard}: {}", describe_replay(entry));
        } else if !listed.iter().any(|(id, _)| id == shard) {
            let stands = describe(entry);
            say!("  shard {shard}: in the ledger, {stands}, but Kinesis no longer lists it: records may be lost");
        }
    }
}

fn print_table(name: &str, state: &str) {
    say!("  table {name:<32} {state}");
}

fn problem(what: &str) -> usize {
    say!("  PROBLEM: {what}");
    1
}
