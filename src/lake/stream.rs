//! One stream's tables, opened together: the rows table that is its ledger, and the tables that follow it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deltalake::arrow::datatypes::SchemaRef;

use super::alarm::{Alarm, Troubles};
use super::backoff::backoff;
use super::commit::{Outcome, Proposal, TableLog};
use super::error::{Action, LakeError};
use super::flush::OPERATION;
use super::ledger::{self, StreamIdentity};
use super::log::{TableState, read_table};
use super::moment::MomentClock;
use super::seal::SealBell;
use super::store::LakeStore;
use super::table::{Kind, TableSpec, check, open_table};
use crate::checkpoint::LedgerView;
use crate::contract::Contract;
use crate::error_chain::chain;
use crate::status::StreamBoard;

/// `applied` of a stream that was deleted and made again: its followers have nothing left to do.
pub(crate) const HANDED_OVER: i64 = i64::MAX;

/// The stream, of those of one name (`{pipeline}/{stream}@`), that a table with these transactions follows now.
pub(crate) fn followed_now(txns: &BTreeMap<String, i64>, any_creation: &str) -> Option<StreamIdentity> {
    let ours = txns.iter().filter(|(id, _)| id.starts_with(any_creation));
    let follows = ours.filter(|(id, applied)| id.ends_with("/applied") && **applied != HANDED_OVER);
    follows.filter_map(|(id, _)| StreamIdentity::of(id)).max_by_key(|it| it.created_at_s)
}

/// The tables that a contract asks for.
#[derive(Debug, Clone)]
pub(crate) struct TableSet {
    pub rows: TableSpec,
    pub rejects: TableSpec,
    /// One a window, in the contract's order.
    pub partials: Vec<TableSpec>,
    /// The same for its sealed rows. A table of which no window closes has none.
    pub sealed: Vec<TableSpec>,
}

/// A stream's tables, each made, adopted or found to fit its contract, and its ledger.
#[derive(Debug)]
pub struct StreamLake {
    pub(crate) store: LakeStore,
    pub(crate) clock: MomentClock,
    pub(crate) identity: StreamIdentity,
    pub(crate) tables: TableSet,
    pub(crate) rows: TableLog,
    pub(crate) followers: Vec<TableLog>,
    /// Of the windows' tables that could be read.
    pub(crate) sealed_versions: BTreeMap<String, u64>,
    pub(crate) view: LedgerView,
    pub(crate) bell: SealBell,
}

impl StreamLake {
    /// Opens `{table}`, `{table}_rejects`, and a `{window}_partials` and a `{window}` for each window. Makes what is missing, adds the
    /// contract's new columns, and refuses with every reason at once, before anything is written, if a table does
    /// not fit.
    pub async fn open(store: LakeStore, identity: StreamIdentity, contract: &Contract) -> Result<Self, LakeError> {
        let tables = TableSet::of(contract, &identity);
        Self::open_tables(store, identity, tables, MomentClock::system()).await
    }

    /// As [`Self::open`]; a lake that is away is waited for, visibly. One that refuses us is not.
    pub async fn open_patiently(
        store: &LakeStore,
        identity: &StreamIdentity,
        contract: &Contract,
        board: &StreamBoard,
    ) -> Result<Self, LakeError> {
        let troubles = Troubles::new(board.clone(), "lake");
        let mut alarm = Alarm::new(&contract.table, Duration::ZERO, troubles, None);
        let mut failures = 0;
        loop {
            match Self::open(store.clone(), identity.clone(), contract).await {
                Err(error) if error.action() == Action::Retry && !error.is_refusal() => {
                    alarm.failed(&error);
                    failures += 1;
                    tokio::time::sleep(backoff(failures)).await;
                }
                opened => {
                    alarm.well();
                    return opened;
                }
            }
        }
    }

    pub(crate) async fn open_tables(
        store: LakeStore,
        identity: StreamIdentity,
        tables: TableSet,
        clock: MomentClock,
    ) -> Result<Self, LakeError> {
        Self::open_tables_with(store, identity, tables, clock, BTreeMap::new()).await
    }

    /// As [`Self::open_tables`]; a rows table that has to be made begins with these transactions.
    pub(crate) async fn open_tables_with(
        store: LakeStore,
        identity: StreamIdentity,
        tables: TableSet,
        clock: MomentClock,
        first_txns: BTreeMap<String, i64>,
    ) -> Result<Self, LakeError> {
        check_all(&store, &tables).await?;
        let mut rows = open_table(&store, &clock, tables.rows.clone(), first_txns).await?;
        let mut followers = Vec::new();
        for spec in tables.following() {
            // What was committed before a table existed was not staged for it.
            let mut first = BTreeMap::from([(identity.applied_id(), as_txn(rows.state().version))]);
            let missed_ms = view_of(&identity, &rows)?.read_until_ms().filter(|_| spec.kind == Kind::Partials);
            first.extend(missed_ms.map(|ms| (identity.since_id(), ms)));
            let mut follower = open_table(&store, &clock, spec.clone(), first).await?;
            begin_following(&mut follower, &identity, &mut rows).await?;
            followers.push(follower);
        }
        let mut sealed_versions = BTreeMap::new();
        for spec in &tables.sealed {
            match open_table(&store, &clock, spec.clone(), BTreeMap::new()).await {
                Ok(table) => {
                    sealed_versions.insert(spec.name.clone(), table.state().version);
                }
                Err(error) if costs_only_its_windows(spec, &error) => {
                    let error = chain(&error);
                    tracing::error!(table = spec.name, error, "nothing is sealed into it until it is mended");
                }
                Err(error) => return Err(error),
            }
        }
        let view = view_of(&identity, &rows)?;
        let bell = SealBell::default();
        Ok(Self { store, clock, identity, tables, rows, followers, sealed_versions, view, bell })
    }

    /// Whoever seals hears this bell.
    pub fn ringing(mut self, bell: SealBell) -> Self {
        self.bell = bell;
        self
    }

    /// The ledger as it was when the tables were opened.
    pub fn ledger(&self) -> &LedgerView {
        &self.view
    }
}

impl TableSet {
    pub fn of(contract: &Contract, identity: &StreamIdentity) -> Self {
        let partials = contract.windows.iter().map(|window| {
            let (name, schema) = (window.partials_table(), &window.partials_schema);
            let spec = Self::follower(identity, name, Kind::Partials, schema, Some(&window.definition));
            TableSpec { window: Some(Arc::new(window.clone())), ..spec }
        });
        let sealed = contract.windows.iter().map(|window| {
            let (name, schema) = (window.sealed_table().to_owned(), &window.sealed_schema);
            Self::follower(identity, name, Kind::Sealed, schema, Some(&window.definition))
        });
        let rejects = contract.rejects_table();
        Self {
            rows: Self::ledger(identity, contract.table.clone(), &contract.rows_schema),
            rejects: Self::follower(identity, rejects, Kind::Rejects, &contract.rejects_schema, None),
            partials: partials.collect(),
            sealed: sealed.collect(),
        }
    }

    pub fn ledger(identity: &StreamIdentity, name: String, schema: &SchemaRef) -> TableSpec {
        let txn_prefix = identity.prefix();
        TableSpec { name, kind: Kind::Rows, schema: Arc::clone(schema), definition: None, window: None, txn_prefix }
    }

    pub fn follower(
        identity: &StreamIdentity,
        name: String,
        kind: Kind,
        schema: &SchemaRef,
        definition: Option<&str>,
    ) -> TableSpec {
        let (schema, definition, txn_prefix) =
            (Arc::clone(schema), definition.map(str::to_owned), identity.any_creation());
        TableSpec { name, kind, schema, definition, window: None, txn_prefix }
    }

    /// Those that get what is staged for them.
    pub fn following(&self) -> impl Iterator<Item = &TableSpec> {
        std::iter::once(&self.rejects).chain(&self.partials)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &TableSpec> {
        std::iter::once(&self.rows).chain(self.following()).chain(&self.sealed)
    }
}

/// A version as a transaction's.
pub(crate) fn as_txn(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// The stream's ledger, as far as we know its rows table.
pub(crate) fn view_of(identity: &StreamIdentity, rows: &TableLog) -> Result<LedgerView, LakeError> {
    ledger_of(identity, rows.name(), rows.state())
}

/// The stream's ledger in this state of its rows table.
pub(crate) fn ledger_of(identity: &StreamIdentity, table: &str, state: &TableState) -> Result<LedgerView, LakeError> {
    ledger::view(&identity.prefix(), &state.txns, state.version).map_err(|error| LakeError::Log {
        table: table.to_owned(),
        version: state.version,
        reason: chain(&error),
    })
}

/// Whether every table that is there fits, with every reason at once. Reads only.
pub(super) async fn check_all(store: &LakeStore, tables: &TableSet) -> Result<(), LakeError> {
    let mut all = Vec::new();
    for spec in tables.all() {
        let state = match read_table(store, &spec.name, &spec.txn_prefix).await {
            Ok(Some(state)) => state,
            Ok(None) => continue,
            Err(error) if costs_only_its_windows(spec, &error) => continue,
            Err(error) => return Err(error),
        };
        match check(spec, &state) {
            Ok(()) => {}
            Err(LakeError::Drift { problems }) => all.extend(problems),
            Err(error) => return Err(error),
        }
    }
    if all.is_empty() { Ok(()) } else { Err(LakeError::Drift { problems: all }) }
}

/// Whether a table's log is damaged of which rows and positions need nothing. Its windows wait for somebody to mend it,
/// and whoever seals them says so at each look; all else goes on.
fn costs_only_its_windows(spec: &TableSpec, error: &LakeError) -> bool {
    spec.kind == Kind::Sealed && error.is_damage()
}

/// Makes sure that the table says up to which version it has followed. A stream that was made again takes over from
/// its former self, whose last staged files may still be waiting; a table that never followed starts at the head.
async fn begin_following(
    follower: &mut TableLog,
    identity: &StreamIdentity,
    rows: &mut TableLog,
) -> Result<(), LakeError> {
    let applied_id = identity.applied_id();
    let head = as_txn(rows.state().version);
    let outcome = follower.try_commit(|state| {
        if let Some(applied) = state.txns.get(&applied_id) {
            return Err(*applied);
        }
        let former = state.txns.iter().filter(|(id, applied)| id.ends_with("/applied") && **applied != HANDED_OVER);
        let mut txns: BTreeMap<String, i64> = former.clone().map(|(id, _)| (id.clone(), HANDED_OVER)).collect();
        txns.insert(applied_id.clone(), former.map(|(_, applied)| *applied).max().unwrap_or(head));
        Ok(Proposal { txns, operation: OPERATION, ..Proposal::default() })
    });
    let applied = match outcome.await? {
        Outcome::Stopped(applied) => applied,
        Outcome::Landed(_) => follower.state().txns.get(&applied_id).copied().unwrap_or(head),
    };
    if applied > head {
        // Another process may have committed since we looked.
        rows.catch_up().await?;
    }
    let head = rows.state().version;
    if applied <= as_txn(head) {
        return Ok(());
    }
    let reason = format!(
        "it has followed {rows} up to version {applied}, whose head is version {head}: {rows} was made again (remove \
         this table as well, or restore {rows})",
        rows = rows.name()
    );
    Err(LakeError::Refused { table: follower.name().to_owned(), reason })
}
