//! Opening one table: made if missing, adopted if it fits, refused with reasons if it does not.
//!
//! Version 0 is written by our own conditional PUT, so that of two processes that make a table at once one loses and
//! loads what the other wrote; two tables in one log cannot come of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltalake::arrow::datatypes::SchemaRef;
use serde_json::{Value, json};
use uuid::Uuid;

use super::commit::{Outcome, Proposal, TableLog};
use super::entry::{Metadata, entry_bytes};
use super::error::LakeError;
use super::log::{TableState, entry_path, read_table};
use super::moment::MomentClock;
use super::schema::{Fit, READER_VERSION, WRITER_VERSION, compare, schema_string};
use super::store::LakeStore;
use crate::contract::{DATE, WindowPlan};

/// Property of a window's tables: the hash of the window's declaration that its rows were computed by.
pub(crate) const DEFINITION_PROPERTY: &str = "pintail.definition";

const LOG_RETENTION_PROPERTY: &str = "delta.logRetentionDuration";
/// Whether an engine that writes a checkpoint also cleans the log.
pub(crate) const LOG_CLEANUP_PROPERTY: &str = "delta.enableExpiredLogCleanup";
/// Delta's default where the property is not set.
const LOG_RETENTION_DEFAULT_MS: i64 = 30 * 24 * 60 * 60 * 1000;
const FILE_RETENTION_PROPERTY: &str = "delta.deletedFileRetentionDuration";
/// Delta's default where the property is not set.
const FILE_RETENTION_DEFAULT_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// Below this a commit could not tell its own slowness from a cleaned log.
const LOG_RETENTION_MS_MIN: i64 = 60 * 60 * 1000;

/// What part a table plays for its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rows,
    Rejects,
    Partials,
    Sealed,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Rejects => "rejects",
            Self::Partials => "partials",
            Self::Sealed => "sealed",
        }
    }

    /// Properties of a table that we make. An adopted one keeps its own.
    fn properties(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // The followers read this log. An engine that cleans it along with a checkpoint does not know `applied`,
            // up to where they have, and what they still need would be gone.
            Self::Rows => &[(LOG_RETENTION_PROPERTY, "interval 7 days"), (LOG_CLEANUP_PROPERTY, "false")],
            Self::Rejects | Self::Sealed => &[],
            // Small files by nature: whoever compacts them need not keep a week of what was replaced.
            Self::Partials => &[(FILE_RETENTION_PROPERTY, "interval 1 days")],
        }
    }
}

/// A table as the contract wants it.
#[derive(Debug, Clone)]
pub(crate) struct TableSpec {
    pub name: String,
    pub kind: Kind,
    pub schema: SchemaRef,
    /// Partials and sealed rows only: see [`DEFINITION_PROPERTY`].
    pub definition: Option<String>,
    /// Partials only: their window.
    pub window: Option<Arc<WindowPlan>>,
    /// Application ids that matter to us start with this.
    pub txn_prefix: String,
}

/// Opens a table, making it with `first_txns` if there is none. Problems that only a person can solve are
/// [`LakeError::Drift`], one line each.
pub(crate) async fn open_table(
    store: &LakeStore,
    clock: &MomentClock,
    spec: TableSpec,
    first_txns: BTreeMap<String, i64>,
) -> Result<TableLog, LakeError> {
    let mut created = Ok(());
    let mut read_at = clock.now();
    let mut found = read_table(store, &spec.name, &spec.txn_prefix).await?;
    if found.is_none() {
        // Whether this worked, lost a race or lost its answer: the table tells.
        created = create(store, clock, &spec, first_txns).await;
        read_at = clock.now();
        found = read_table(store, &spec.name, &spec.txn_prefix).await?;
    }
    let Some(state) = found else {
        created?;
        let reason = "it was made and is not there".to_owned();
        return Err(LakeError::Refused { table: spec.name, reason });
    };
    check(&spec, &state)?;
    let mut log = TableLog::new(store.clone(), spec.clone(), clock.clone(), state, read_at)?;
    add_columns(&spec, &mut log).await?;
    Ok(log)
}

/// Whether the table can be written for this contract, once columns are added.
pub(crate) fn check(spec: &TableSpec, state: &TableState) -> Result<(), LakeError> {
    match compare(&spec.schema, spec.definition.as_deref(), state) {
        Fit::Fits | Fit::Adds { .. } => Ok(()),
        Fit::Refused(problems) => Err(drift(spec, problems)),
    }
}

fn drift(spec: &TableSpec, problems: Vec<String>) -> LakeError {
    let name = &spec.name;
    LakeError::Drift { problems: problems.into_iter().map(|problem| format!("table {name}: {problem}")).collect() }
}

async fn create(
    store: &LakeStore,
    clock: &MomentClock,
    spec: &TableSpec,
    txns: BTreeMap<String, i64>,
) -> Result<(), LakeError> {
    let now_ms = clock.now().wall_ms;
    let schema_string = schema_string(&spec.schema).map_err(|reason| drift(spec, vec![reason]))?;
    let mut configuration: BTreeMap<&str, &str> = spec.kind.properties().iter().copied().collect();
    configuration.extend(spec.definition.as_deref().map(|definition| (DEFINITION_PROPERTY, definition)));
    let metadata = json!({ "metaData": {
        "id": Uuid::new_v4().to_string(),
        "format": { "provider": "parquet", "options": {} },
        "schemaString": schema_string,
        "partitionColumns": [DATE],
        "configuration": configuration,
        "createdTime": now_ms,
    } });
    let protocol = json!({ "protocol": { "minReaderVersion": READER_VERSION, "minWriterVersion": WRITER_VERSION } });
    let proposal = Proposal { txns, actions: vec![protocol, metadata], info: Vec::new(), operation: "CREATE TABLE" };
    let bytes = entry_bytes(&proposal, &Uuid::new_v4().to_string(), now_ms);
    store.create(&entry_path(store, &spec.name, 0), bytes).await?;
    Ok(())
}

/// Gives the table the columns that the contract has beyond it, as nullable ones.
async fn add_columns(spec: &TableSpec, log: &mut TableLog) -> Result<(), LakeError> {
    enum Stop {
        Fits,
        Refused(Vec<String>),
    }
    let outcome = log.try_commit(|state| match compare(&spec.schema, spec.definition.as_deref(), state) {
        Fit::Fits => Err(Stop::Fits),
        Fit::Refused(problems) => Err(Stop::Refused(problems)),
        Fit::Adds { columns, schema_string } => {
            tracing::info!(table = spec.name, ?columns, "adding the contract's new columns to the table");
            let mut metadata = state.metadata.raw.clone();
            metadata["schemaString"] = Value::String(schema_string);
            let actions = vec![json!({ "metaData": metadata })];
            Ok(Proposal { actions, operation: "ADD COLUMNS", ..Proposal::default() })
        }
    });
    match outcome.await? {
        Outcome::Landed(_) | Outcome::Stopped(Stop::Fits) => Ok(()),
        Outcome::Stopped(Stop::Refused(problems)) => Err(drift(spec, problems)),
    }
}

/// For how long a file that was removed from the table is kept, in ms.
pub(crate) fn file_retention_ms(table: &str, metadata: &Metadata) -> Result<i64, LakeError> {
    let Some(text) = metadata.configuration.get(FILE_RETENTION_PROPERTY) else { return Ok(FILE_RETENTION_DEFAULT_MS) };
    interval_ms(text).ok_or_else(|| LakeError::Refused {
        table: table.to_owned(),
        reason: format!(
            "its property {FILE_RETENTION_PROPERTY} = {text:?} is no interval that Pintail can read (set it to \
             `interval 7 days`)"
        ),
    })
}

/// For how long the table's log entries are kept, in ms.
pub(crate) fn log_retention_ms(table: &str, metadata: &Metadata) -> Result<i64, LakeError> {
    let Some(text) = metadata.configuration.get(LOG_RETENTION_PROPERTY) else { return Ok(LOG_RETENTION_DEFAULT_MS) };
    let refused = |reason: &str| {
        let reason = format!("its property {LOG_RETENTION_PROPERTY} = {text:?} {reason} (set it to `interval 7 days`)");
        LakeError::Refused { table: table.to_owned(), reason }
    };
    let retention_ms = interval_ms(text).ok_or_else(|| refused("is no interval that Pintail can read"))?;
    if retention_ms < LOG_RETENTION_MS_MIN {
        return Err(refused("is shorter than one hour"));
    }
    Ok(retention_ms)
}

/// `interval 7 days`, `7 days`, `INTERVAL 1 week 12 hours`.
fn interval_ms(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let mut words = lower.split_whitespace().peekable();
    words.next_if_eq(&"interval");
    words.peek()?;
    let mut total_ms = 0i64;
    while let Some(number) = words.next() {
        let unit_ms = match words.next()?.trim_end_matches('s') {
            "millisecond" => 1,
            "second" => 1000,
            "minute" => 60_000,
            "hour" => 3_600_000,
            "day" => 86_400_000,
            "week" => 7 * 86_400_000,
            _ => return None,
        };
        total_ms = total_ms.checked_add(number.parse::<i64>().ok()?.checked_mul(unit_ms)?)?;
    }
    Some(total_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_read_as_other_engines_write_them() {
        assert_eq!(interval_ms("interval 7 days"), Some(604_800_000));
        assert_eq!(interval_ms("INTERVAL 1 week 12 hours"), Some(604_800_000 + 43_200_000));
        assert_eq!(interval_ms("168 hours"), Some(604_800_000));
        for wrong in ["", "interval", "interval 7", "interval days 7", "interval 1 month"] {
            assert_eq!(interval_ms(wrong), None, "{wrong:?}");
        }
    }
}
