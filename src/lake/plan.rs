//! What opening a stream's tables would do, for people who want to know before. Reads only.

use super::error::LakeError;
use super::ledger::StreamIdentity;
use super::log::read_table;
use super::schema::{Fit, compare};
use super::store::LakeStore;
use super::stream::{TableSet, as_txn, ledger_of};
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
    let set = TableSet::of(contract, identity);
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
        if let Some(applied) = state.txns.get(&identity.applied_id())
            && *applied > as_txn(ledger.version)
        {
            let (rows, head) = (&set.rows.name, ledger.version);
            problems.push(format!("table {name}: has followed {rows} up to version {applied}, whose head is {head}"));
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
