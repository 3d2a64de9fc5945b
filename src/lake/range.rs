//! Replays of a time range: tables of their own, whose ledger also says which range they hold.
//!
//! The range is part of the rows table's first entry, so that a table either is this replay's from its first moment
//! on or never. Its ledger belongs to a pipeline that no configuration can name: the service never takes it over.

use std::collections::BTreeMap;

use serde_json::json;

use super::commit::{Outcome, Proposal};
use super::error::LakeError;
use super::flush::OPERATION;
use super::ledger::StreamIdentity;
use super::log::{TableState, read_table};
use super::moment::MomentClock;
use super::staging::INFO_LEDGER;
use super::store::LakeStore;
use super::stream::{StreamLake, TableSet};
use crate::checkpoint::TimeRange;
use crate::contract::Contract;

/// A pipeline's name has no colon.
const PIPELINE_SUFFIX: &str = ":replay";
const FROM: &str = "from";
const TO: &str = "to";
const DONE: &str = "done";

/// How far the replay of a range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeState {
    /// None of its tables is there.
    New,
    /// It has begun.
    UnderWay,
    /// Everything of the range is in its tables.
    Finished,
}

impl StreamIdentity {
    /// The ledger of replays of this stream's time ranges.
    pub fn of_range_replay(&self) -> Self {
        Self { pipeline: format!("{}{PIPELINE_SUFFIX}", self.pipeline), ..self.clone() }
    }

    fn range_id(&self, part: &str) -> String {
        format!("{}range/{part}", self.prefix())
    }
}

/// A range has an end, after which no time passes that would close its windows: their partials are all of it.
fn tables_of(contract: &Contract, identity: &StreamIdentity) -> TableSet {
    TableSet { sealed: Vec::new(), ..TableSet::of(contract, identity) }
}

/// How far this replay is, by its tables. Tables that are not its own are refused. Reads only.
pub async fn look_at_range(
    store: &LakeStore,
    identity: &StreamIdentity,
    contract: &Contract,
    range: TimeRange,
) -> Result<RangeState, LakeError> {
    look(store, identity, &tables_of(contract, identity), range).await
}

async fn look(
    store: &LakeStore,
    identity: &StreamIdentity,
    tables: &TableSet,
    range: TimeRange,
) -> Result<RangeState, LakeError> {
    let rows = read_table(store, &tables.rows.name, "").await?;
    let state = rows.as_ref().map(|rows| state_of(identity, &tables.rows.name, rows, range)).transpose()?;
    for spec in tables.following() {
        let Some(found) = read_table(store, &spec.name, &spec.txn_prefix).await? else { continue };
        if state.is_none() || found.txns.is_empty() {
            return Err(not_ours(identity, &spec.name));
        }
    }
    Ok(state.unwrap_or(RangeState::New))
}

fn state_of(
    identity: &StreamIdentity,
    table: &str,
    rows: &TableState,
    range: TimeRange,
) -> Result<RangeState, LakeError> {
    let part = |part: &str| rows.txns.get(&identity.range_id(part)).copied();
    let (Some(from_ms), Some(to_ms)) = (part(FROM), part(TO)) else { return Err(not_ours(identity, table)) };
    let found = TimeRange { from_ms, to_ms };
    if found != range {
        let reason = format!("it holds {found} of this stream, not {range} (give that range, or another --into)");
        return Err(LakeError::Refused { table: table.to_owned(), reason });
    }
    Ok(if part(DONE).is_some() { RangeState::Finished } else { RangeState::UnderWay })
}

fn not_ours(identity: &StreamIdentity, table: &str) -> LakeError {
    let stream = &identity.stream;
    let reason = format!("it is there, and not made by a replay of a time range of stream {stream} (another --into)");
    LakeError::Refused { table: table.to_owned(), reason }
}

impl StreamLake {
    /// Opens the tables of a replay, making what is missing.
    pub async fn open_range(
        store: LakeStore,
        identity: StreamIdentity,
        contract: &Contract,
        range: TimeRange,
    ) -> Result<Self, LakeError> {
        let tables = tables_of(contract, &identity);
        Self::open_range_tables(store, identity, tables, range, MomentClock::system()).await
    }

    pub(crate) async fn open_range_tables(
        store: LakeStore,
        identity: StreamIdentity,
        tables: TableSet,
        range: TimeRange,
        clock: MomentClock,
    ) -> Result<Self, LakeError> {
        look(&store, &identity, &tables, range).await?;
        let pinned = [(FROM, range.from_ms), (TO, range.to_ms)];
        let first = pinned.into_iter().map(|(part, ms)| (identity.range_id(part), ms)).collect();
        let lake = Self::open_tables_with(store, identity, tables, clock, first).await?;
        // Two may have made the table at once: the first entry says for whom.
        state_of(&lake.identity, lake.rows.name(), lake.rows.state(), range)?;
        Ok(lake)
    }

    /// Puts down that everything of the range is in the tables.
    pub async fn finish_range(&mut self) -> Result<(), LakeError> {
        let (id, prefix) = (self.identity.range_id(DONE), self.identity.prefix());
        let outcome = self.rows.try_commit(|state| {
            if state.txns.contains_key(&id) {
                return Err(());
            }
            let info = vec![(INFO_LEDGER, json!(prefix))];
            let txns = BTreeMap::from([(id.clone(), 1)]);
            Ok(Proposal { txns, actions: Vec::new(), info, operation: OPERATION })
        });
        match outcome.await? {
            Outcome::Landed(_) | Outcome::Stopped(()) => Ok(()),
        }
    }
}
