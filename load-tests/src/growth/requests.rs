//! What commits ask of S3, and log entries that look old: the bucket seen from its own side, without a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::log_entry::{actions, entry_key};
use crate::s3::{Fault, RuleId, S3Server};
use crate::wait::until;

/// Beyond every retention that a log may have.
const AGED_BY: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// Counts requests for one table's objects, whoever makes them, except while it is told not to.
pub(super) struct Counting<'a> {
    s3: &'a S3Server,
    rule: RuleId,
    goes_on: Arc<AtomicBool>,
    taken: u64,
}

impl<'a> Counting<'a> {
    pub fn of(s3: &'a S3Server, table: &str) -> Self {
        let (folder, goes_on) = (format!("tables/{table}/"), Arc::new(AtomicBool::new(true)));
        let asked = Arc::clone(&goes_on);
        let counts =
            move |request: &crate::s3::Request<'_>| asked.load(Ordering::Relaxed) && request.key.starts_with(&folder);
        Self { s3, rule: s3.faults().add(counts, Fault::Count, None), goes_on, taken: 0 }
    }

    pub fn pause(&self) {
        self.goes_on.store(false, Ordering::Relaxed);
    }

    pub fn go_on(&self) {
        self.goes_on.store(true, Ordering::Relaxed);
    }

    /// Requests since they were last asked for.
    pub fn take(&mut self) -> u64 {
        let hits = self.s3.faults().hits(self.rule);
        hits - std::mem::replace(&mut self.taken, hits)
    }
}

/// Waits until these tables have what the rows table's newest commit staged: nobody has a request left to make.
pub(super) async fn followed(s3: &S3Server, rows: &str, followers: &[String]) -> anyhow::Result<()> {
    let Some(staged) = newest(s3, rows, |version, info| info.get("staged").map(|_| version))? else { return Ok(()) };
    until("the tables that follow have followed", async || {
        for table in followers {
            let applied = newest(s3, table, |_, info| info.get("appliedThrough")?.as_u64())?;
            if applied.is_none_or(|applied| applied < staged) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
}

/// What is told by the newest entry of a table's log that tells it.
fn newest(
    s3: &S3Server,
    table: &str,
    told: impl Fn(u64, &serde_json::Value) -> Option<u64>,
) -> anyhow::Result<Option<u64>> {
    let folder = format!("tables/{table}/_delta_log/");
    let version = |key: &String| key.strip_prefix(&folder)?.strip_suffix(".json")?.parse::<u64>().ok();
    for version in s3.keys(&folder).iter().rev().filter_map(version) {
        let Some(entry) = s3.get(&entry_key(table, version)) else { continue };
        let found = actions(&entry)?.iter().find_map(|action| told(version, action.get("commitInfo")?));
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Makes every log entry below its table's last checkpoint look old, for the next cleanup.
pub(super) fn age_logs(s3: &S3Server) {
    let keys = s3.keys("tables/");
    let in_logs = || keys.iter().filter_map(|key| Some((key, key.split_once("/_delta_log/")?)));
    let checkpoints = in_logs().filter(|(_, (_, name))| name.ends_with(".checkpoint.parquet"));
    // In order, so that each table's last one stays.
    let last: std::collections::BTreeMap<&str, &str> = checkpoints.map(|(_, (table, name))| (table, name)).collect();
    for (key, (table, name)) in in_logs() {
        let version = |name: &str| name.split('.').next().and_then(|version| version.parse::<u64>().ok());
        let last = last.get(table).and_then(|name| version(name));
        if last.zip(version(name)).is_some_and(|(last, version)| version < last) {
            s3.age(key, AGED_BY);
        }
    }
}
