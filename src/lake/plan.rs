//! What opening a stream's tables would do, for people who want to know before. Reads only.

use super::error::LakeError;
use super::ledger::StreamIdentity;
use super::log::read_table;
use super::schema::{Fit, compare};
use super::staging::{Staging, committed_without, is_bare, staging_of};
use super::store::LakeStore;
use super::stream::{TableSet, as_txn, ledger_of};
use super::table::TableSpec;
use crate::checkpoint::LedgerView;
use crate::contract::Contract;

/// A stream's tables and ledger, as they are.
#[derive(Debug, Clone)]
pub struct StreamPlan {
    /// Each table, and what would happen to it.
    pub tables: Vec<TablePlan>,
    /// The ledger; empty if there is none yet.
    pub ledger: LedgerView,
}

/// One table.
#[derive(Debug, Clone)]
pub struct TablePlan {
    /// Its name.
    pub name: String,
    /// What it is and what would happen to it, in words.
    pub state: String,
}

/// Looks at every table of a stream. Fails with every reason if one does not fit.
pub async fn plan_tables(
    store: &LakeStore,
    identity: &StreamIdentity,
    contract: &Contract,
) -> Result<StreamPlan, LakeError> {
    plan_set(store, identity, &TableSet::of(contract, identity)).await
}

pub(super) async fn plan_set(
    store: &LakeStore,
    identity: &StreamIdentity,
    set: &TableSet,
) -> Result<StreamPlan, LakeError> {
    let (mut tables, mut problems, mut ledger) = (Vec::new(), Vec::new(), LedgerView::default());
    for spec in set.all() {
        let name = spec.name.clone();
        let Some(state) = read_table(store, &name, &spec.txn_prefix).await? else {
            tables.push(TablePlan { name, state: "will be created".to_owned() });
            continue;
        };
        if spec.name == set.rows.name {
            ledger = ledger_of(identity, &name, &state)?;
        }
        if let Some(applied) = state.txns.get(&identity.applied_id()) {
            if *applied > as_txn(ledger.version)
                && let Some(rows) = read_table(store, &set.rows.name, &set.rows.txn_prefix).await?
            {
                // A process may have committed since we looked.
                ledger = ledger_of(identity, &set.rows.name, &rows)?;
            }
            problems.extend(not_followed(store, identity, &set.rows.name, (spec, *applied), ledger.version).await?);
        }
        let version = state.version;
        let state = match compare(&spec.schema, spec.definition.as_deref(), &state) {
            Fit::Fits => format!("fits, at version {version}"),
            Fit::Adds { columns, .. } => format!("at version {version}; gets the new columns {}", columns.join(", ")),
            Fit::Refused(reasons) => {
                problems.extend(reasons.into_iter().map(|reason| format!("table {name}: {reason}")));
                continue;
            }
        };
        tables.push(TablePlan { name, state });
    }
    if problems.is_empty() { Ok(StreamPlan { tables, ledger }) } else { Err(LakeError::Drift { problems }) }
}

/// What keeps a table that has followed the rows up to `applied` from following them on to the head.
async fn not_followed(
    store: &LakeStore,
    identity: &StreamIdentity,
    rows: &str,
    (spec, applied): (&TableSpec, i64),
    head: u64,
) -> Result<Option<String>, LakeError> {
    let table = spec.name.as_str();
    if applied > as_txn(head) {
        return Ok(Some(format!(
            "table {table}: has followed {rows}, or a table of another name, up to version {applied}, and the head of {rows} is {head} \
             (restore {rows}, or remove {table}; a window may have a new name instead)"
        )));
    }
    let Ok(applied) = u64::try_from(applied) else { return Ok(None) };
    for version in applied + 1..=head {
        let staging = match staging_of(store, rows, version, &identity.any_creation(), table).await {
            Err(gone @ LakeError::StagedGone { .. }) => {
                // Whoever has applied it since may have cleaned it away.
                let state = read_table(store, table, &spec.txn_prefix).await?;
                let now = state.and_then(|state| state.txns.get(&identity.applied_id()).copied());
                return Ok(now.is_none_or(|now| now < as_txn(version)).then(|| gone.to_string()));
            }
            read => read?,
        };
        if matches!(staging, Staging::NotFollowed) {
            let begins_later = is_bare(store, table).await?;
            return Ok((!begins_later).then(|| format!("table {table}: {}", committed_without(rows, version))));
        }
    }
    Ok(None)
}
