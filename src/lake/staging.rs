//! What a rows commit says to the tables that follow it: the files that each is to get, and who was followed at all.
//!
//! The second tells a table that got nothing because there was nothing from one that was not asked: a process whose
//! contract lacks a window commits rows that no partial of that window counts. Whoever follows later has to know.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::checkpoint::is_file;
use super::entry::{Keep, LogEntry};
use super::error::LakeError;
use super::log::{each_action, read_entry};
use super::parquet::Staged;
use super::store::LakeStore;
use super::stream::TableSet;

/// Field of a rows commit's `commitInfo`: whose commit it is.
pub(crate) const INFO_LEDGER: &str = "ledger";
/// Field of a rows commit's `commitInfo`: table -> bodies of the `add`s that it is to get.
const INFO_STAGED: &str = "staged";
/// Field of the `commitInfo` of a commit that brings rows: the tables that follow, whether they get anything or not.
const INFO_FOLLOWERS: &str = "followers";

/// Commits that are looked at for the newest one that brought rows. A stream at rest makes one a minute.
const LOOK_BACK_MAX: u64 = 200;

/// What a commit of these files says to the followers.
pub(crate) fn staging_info(tables: &TableSet, staged: &[Staged]) -> Vec<(&'static str, Value)> {
    let (rows, following): (Vec<&Staged>, Vec<&Staged>) =
        staged.iter().partition(|staged| staged.table == tables.rows.name);
    let mut info = Vec::new();
    if !rows.is_empty() {
        let names: Vec<&str> = tables.following().map(|spec| spec.name.as_str()).collect();
        info.push((INFO_FOLLOWERS, json!(names)));
    }
    if !following.is_empty() {
        let adds = following.into_iter().map(|staged| (staged.table.clone(), Value::Array(staged.adds.clone())));
        info.push((INFO_STAGED, Value::Object(adds.collect::<Map<_, _>>())));
    }
    info
}

/// What one version of the rows table has for one follower.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Staging {
    /// The bodies of the `add`s that it is to get; often none.
    Files(Vec<Value>),
    /// Rows that nobody counted for it.
    NotFollowed,
}

/// What this version of the rows table has for `table`, if it was made for a ledger that starts with this.
pub(crate) async fn staging_of(
    store: &LakeStore,
    rows: &str,
    version: u64,
    ledger_prefix: &str,
    table: &str,
) -> Result<Staging, LakeError> {
    let gone = || LakeError::StagedGone { table: table.to_owned(), rows: rows.to_owned(), version };
    let (mut entry, _) = read_entry(store, rows, version, Keep::txns(ledger_prefix)).await?.ok_or_else(gone)?;
    let info = info_of(&mut entry, ledger_prefix);
    staging_in(&mut info.unwrap_or_default(), table).map_err(|reason| unclear(rows, version, &reason))
}

/// The files that this entry of the rows table stages for each of these tables, if it was made for a ledger that starts
/// with this.
pub(crate) fn staged_in(
    entry: &mut LogEntry,
    rows: &str,
    version: u64,
    ledger_prefix: &str,
    tables: &[String],
) -> Result<Vec<Vec<Value>>, LakeError> {
    let mut info = info_of(entry, ledger_prefix).unwrap_or_default();
    let staged = tables.iter().map(|table| match staging_in(&mut info, table) {
        Ok(Staging::Files(adds)) => Ok(adds),
        Ok(Staging::NotFollowed) => Ok(Vec::new()),
        Err(reason) => Err(unclear(rows, version, &reason)),
    });
    staged.collect()
}

fn unclear(rows: &str, version: u64, reason: &str) -> LakeError {
    LakeError::Log { table: rows.to_owned(), version, reason: format!("{reason} (restore the entry)") }
}

/// The files alone.
pub(crate) async fn staged_by(
    store: &LakeStore,
    rows: &str,
    version: u64,
    ledger_prefix: &str,
    table: &str,
) -> Result<Vec<Value>, LakeError> {
    Ok(match staging_of(store, rows, version, ledger_prefix, table).await? {
        Staging::Files(adds) => adds,
        Staging::NotFollowed => Vec::new(),
    })
}

/// What is found is taken out.
fn staging_in(info: &mut Map<String, Value>, table: &str) -> Result<Staging, String> {
    let followers = followers_in(info)?;
    match info.get_mut(INFO_STAGED) {
        None => {}
        Some(Value::Object(tables)) => match tables.remove(table) {
            None => {}
            Some(Value::Array(adds)) if adds.iter().all(Value::is_object) => return Ok(Staging::Files(adds)),
            Some(other) => return Err(format!("its list of files staged for {table} is {other}")),
        },
        Some(other) => return Err(format!("its list of files staged for {table} is {other}")),
    }
    match followers {
        Some(followers) if !followers.contains(table) => Ok(Staging::NotFollowed),
        Some(_) | None => Ok(Staging::Files(Vec::new())),
    }
}

fn info_of(entry: &mut LogEntry, ledger_prefix: &str) -> Option<Map<String, Value>> {
    let info = entry.commit_info.take()?;
    let ledger = info.get(INFO_LEDGER).and_then(Value::as_str);
    ledger.is_some_and(|ledger| ledger.starts_with(ledger_prefix)).then_some(info)
}

/// `None`: the commit brought no rows, or was made before commits said who follows.
fn followers_in(info: &Map<String, Value>) -> Result<Option<BTreeSet<String>>, String> {
    let Some(list) = info.get(INFO_FOLLOWERS) else { return Ok(None) };
    let names = list.as_array().map(|names| names.iter().map(|name| name.as_str().map(str::to_owned)));
    let names: Option<BTreeSet<String>> = names.and_then(Iterator::collect);
    names.map(Some).ok_or_else(|| format!("its list of followers is {list}"))
}

/// Who followed the newest commit that brought rows; `None` if none of the latest did.
pub(crate) async fn newest_followers(
    store: &LakeStore,
    rows: &str,
    head: u64,
    ledger_prefix: &str,
) -> Result<Option<BTreeSet<String>>, LakeError> {
    for version in (head.saturating_sub(LOOK_BACK_MAX)..=head).rev() {
        let Some((mut entry, _)) = read_entry(store, rows, version, Keep::txns(ledger_prefix)).await? else {
            return Ok(None);
        };
        let Some(info) = info_of(&mut entry, ledger_prefix) else { continue };
        let wrong = |reason| LakeError::Log { table: rows.to_owned(), version, reason };
        if let Some(followers) = followers_in(&info).map_err(wrong)? {
            return Ok(Some(followers));
        }
    }
    Ok(None)
}

/// Why a table that has something cannot follow the rows beyond this version of theirs.
pub(crate) fn committed_without(rows: &str, version: u64) -> String {
    format!(
        "version {version} of {rows} has rows that were committed without it, by a process whose contract did not have \
         this window, so its sums would miss them (stop that process if it still runs; then give the window another \
         name, whose table starts at the head)"
    )
}

/// Whether the table has no file.
pub(crate) async fn is_bare(store: &LakeStore, table: &str) -> Result<bool, LakeError> {
    let mut bare = true;
    each_action(store, table, is_file, |lines| {
        let entry: Vec<&[u8]> =
            lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
        for line in entry {
            let action: Value =
                serde_json::from_slice(line).map_err(|error| format!("a line is no action: {error}"))?;
            bare &= action.get("add").is_none_or(Value::is_null);
        }
        Ok(())
    })
    .await?;
    Ok(bare)
}
