//! Old partials go, by whole days, where the contract says for how long they are kept.
//!
//! First the table says `…/dropped_through`: of windows that begin before it no partials are kept, since every one of
//! them is sealed and ended long enough ago. Only then are the files removed all of whose windows begin before it. So
//! whoever misses partials finds out why, and whoever dies in between leaves a table whose next look removes the rest.
//! A record that comes even later is in the rows like any other; the sealer counts it, and its partials go the same way.
//!
//! A file that is removed here while another writer has replaced it would come back, and the other way round. So this
//! commit gives way like a compaction, and makes other engines give way in the same manner.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::Event;
use super::table::Look;
use crate::contract::WindowPlan;
use crate::contract::window::WINDOW_START;
use crate::lake::checkpoint::is_file;
use crate::lake::commit::{Outcome, Proposal, TableLog};
use crate::lake::error::LakeError;
use crate::lake::files::Added;
use crate::lake::flush::OPERATION;
use crate::lake::ledger::dropped_through_ms;
use crate::lake::log::{each_action, read_table};
use crate::lake::seal::sealed_through_ms;
use crate::lake::stream::followed_now;
use crate::limits::DROP_FILES_MAX;

/// `commitInfo.operation` of a commit that only removes, as other engines call it.
const DELETE: &str = "DELETE";
/// A property of Delta tables from which no rows may be removed, which every writer of version 2 minds.
const APPEND_ONLY_PROPERTY: &str = "delta.appendOnly";

/// Looks after the age of one window's partials.
pub(super) struct Retention<'a> {
    pub look: &'a Look<'a>,
    pub window: &'a WindowPlan,
}

impl Retention<'_> {
    /// Removes what need not be kept from the table of this `log`.
    pub async fn run(&self, mut log: TableLog, tell: &mut dyn FnMut(Event)) -> Result<(), LakeError> {
        if log.state().metadata.configuration.get(APPEND_ONLY_PROPERTY).is_some_and(|value| value == "true") {
            let reason = format!(
                "{APPEND_ONLY_PROPERTY} is set, so that partials stay; unset it, or take `keep_partials` out of the contract"
            );
            return Err(LakeError::Refused { table: log.name().to_owned(), reason });
        }
        self.announce(&mut log).await?;
        let Some(through_ms) = dropped_through_ms(&log.state().txns) else { return Ok(()) };
        loop {
            let mut old = Old { before_us: through_ms.saturating_mul(1000), files: BTreeMap::new() };
            each_action(self.look.store, log.name(), is_file, |lines| old.note(lines)).await?;
            if old.files.is_empty() {
                return Ok(());
            }
            let (files, bytes) = (old.files.len() as u64, old.files.values().map(|file| file.size).sum());
            let version = self.remove(&log, old).await?;
            tell(Event::Dropped { version, through_ms, files, bytes });
        }
    }

    /// Has the table say what is not kept, if that is more than it says.
    async fn announce(&self, log: &mut TableLog) -> Result<(), LakeError> {
        let Some(identity) = followed_now(&log.state().txns, self.look.ours) else { return Ok(()) };
        let Some(watermark_ms) = log.state().txns.get(&identity.watermark_id()).copied() else { return Ok(()) };
        let sealed = read_table(self.look.store, self.window.sealed_table(), self.look.ours).await?;
        let sealed_ms = sealed.and_then(|state| sealed_through_ms(&state, &self.window.name));
        let Some(sealed_ms) = sealed_ms else { return Ok(()) };
        let kept_from_us = self.window.kept_from_us(watermark_ms.saturating_mul(1000), sealed_ms.saturating_mul(1000));
        let Some(through_ms) = kept_from_us.map(|us| us.div_euclid(1000)) else { return Ok(()) };
        let outcome = log.try_commit(|state| match dropped_through_ms(&state.txns) {
            Some(known_ms) if known_ms >= through_ms => Err(()),
            Some(_) | None => Ok(Proposal {
                txns: BTreeMap::from([(identity.dropped_through_id(), through_ms)]),
                info: vec![("droppedThroughMs", json!(through_ms))],
                operation: OPERATION,
                ..Proposal::default()
            }),
        });
        match outcome.await? {
            Outcome::Landed(_) | Outcome::Stopped(()) => Ok(()),
        }
    }

    async fn remove(&self, log: &TableLog, old: Old) -> Result<u64, LakeError> {
        let mut log = log.replacing(old.files.keys().cloned().collect::<HashSet<String>>());
        let outcome = log.try_commit(|state| {
            let deleted_ms = self.look.clock.now().wall_ms;
            let removes = old.files.iter().map(|(path, file)| {
                json!({ "remove": {
                    "path": path,
                    "deletionTimestamp": deleted_ms,
                    "dataChange": true,
                    "extendedFileMetadata": true,
                    "partitionValues": file.partition_values,
                    "size": file.size,
                } })
            });
            let actions = std::iter::once(json!({ "metaData": state.metadata.raw })).chain(removes).collect();
            let info = vec![("operationParameters", json!({ "predicate": "[]" }))];
            Ok::<_, std::convert::Infallible>(Proposal { actions, info, operation: DELETE, ..Proposal::default() })
        });
        match outcome.await? {
            Outcome::Landed(version) => Ok(version),
            Outcome::Stopped(never) => match never {},
        }
    }
}

/// Files in the table, as far as its log was read, all of whose windows begin before this.
struct Old {
    before_us: i64,
    files: BTreeMap<String, OldFile>,
}

struct OldFile {
    size: u64,
    partition_values: Value,
}

impl Old {
    fn note(&mut self, lines: &[u8]) -> Result<(), String> {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            let action: Value =
                serde_json::from_slice(line).map_err(|error| format!("a line is no action: {error}"))?;
            let of = |kind: &str| action.get(kind).filter(|action| !action.is_null());
            if let Some(add) = of("add") {
                let added = Added::of(add)?;
                let (_, last_us) = added.times_us(WINDOW_START);
                if last_us < self.before_us && self.files.len() < DROP_FILES_MAX {
                    let file = OldFile { size: added.file.size, partition_values: add["partitionValues"].clone() };
                    self.files.insert(added.file.path, file);
                }
            } else if let Some(remove) = of("remove") {
                let path = remove.get("path").and_then(Value::as_str);
                self.files.remove(path.ok_or_else(|| format!("no text \"path\" in {remove}"))?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_only_if_all_its_windows_are_known_to_begin_before() {
        let add = |path: &str, last: Option<&str>| {
            let stats = last.map_or(json!({}), |last| json!({ "maxValues": { "window_start": last } }));
            json!({ "add": { "path": path, "size": 1, "partitionValues": { "_date": null }, "stats": stats.to_string() } })
        };
        let lines = [
            add("before", Some("1970-01-01T23:59:59.000Z")),
            add("on the day", Some("1970-01-02T00:00:00.000Z")),
            add("unknown", None),
            add("replaced", Some("1970-01-01T00:00:00.000Z")),
            json!({ "remove": { "path": "replaced" }, "add": null }),
        ];
        let mut old = Old { before_us: 86_400_000_000, files: BTreeMap::new() };
        lines.iter().try_for_each(|line| old.note(line.to_string().as_bytes())).unwrap();
        assert_eq!(old.files.keys().collect::<Vec<_>>(), ["before"]);
    }
}
