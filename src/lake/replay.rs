//! Replays of rejects in a stream's ledger: which one is under way, and the commit that begins one.
//!
//! A replay is a shard of the ledger, `replay-{n}`. Its position counts the rejects that are done, of one version of
//! the rejects table, which the ledger names as well (`…/replay-{n}/version`): whoever goes on with it goes on over
//! the same rejects. It is registered before anything of it is committed, by compare-and-swap like any shard, so two
//! that begin at once begin the same one.

use std::collections::BTreeMap;

use serde_json::json;

use super::commit::{Outcome, Proposal};
use super::error::LakeError;
use super::flush::OPERATION;
use super::ledger::{StreamIdentity, read_ledgers};
use super::log::{TableState, read_table};
use super::staging::{INFO_LEDGER, is_bare, newest_followers, staged_by};
use super::store::LakeStore;
use super::stream::{StreamLake, TableSet, as_txn, check_all, ledger_of, view_of};
use crate::checkpoint::{Position, SequenceNumber, ShardId};
use crate::contract::Contract;

/// Last part of the application id that names the version.
const VERSION: &str = "version";

/// A replay of rejects, as the ledger has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RejectsReplay {
    /// Its number, from 1.
    pub number: u64,
    /// The version of the rejects table that it goes through.
    pub rejects_version: u64,
    /// Rejects that are done.
    pub done: u64,
}

impl RejectsReplay {
    /// Its name in the ledger.
    pub fn shard(&self) -> ShardId {
        ShardId::of_replay(self.number)
    }
}

/// What a replay would find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayLook {
    /// Whose rejects.
    pub identity: StreamIdentity,
    /// The replay that has begun and not ended.
    pub under_way: Option<RejectsReplay>,
    /// The rejects table's newest version.
    pub rejects_version: u64,
    /// Rejects or partials are committed with their rows that are not in their tables yet.
    pub is_behind: bool,
}

/// Looks at a stream's tables, all of which must be there. `None`: nothing of the stream was ever committed. Of a
/// stream that was deleted and made again, the latest one counts. Reads only.
pub async fn look_at_replays(
    store: &LakeStore,
    pipeline: &str,
    stream: &str,
    contract: &Contract,
) -> Result<Option<ReplayLook>, LakeError> {
    let ledgers = read_ledgers(store, &contract.table).await?.unwrap_or_default();
    let identities = ledgers.into_iter().map(|ledger| ledger.identity);
    let ours = identities.filter(|identity| identity.pipeline == pipeline && identity.stream == stream);
    let Some(identity) = ours.max_by_key(|identity| identity.created_at_s) else { return Ok(None) };
    let set = TableSet::of(contract, &identity);
    check_all(store, &set).await?;
    let mut following = Vec::new();
    for spec in set.following() {
        following.push((spec.name.as_str(), existing(store, &spec.name, &spec.txn_prefix).await?));
    }
    let rejects_version = existing(store, &set.rejects.name, &set.rejects.txn_prefix).await?.version;
    let rows = existing(store, &set.rows.name, &set.rows.txn_prefix).await?;
    same_followers(store, &identity, &set, rows.version).await?;
    let last = last_replay(&identity, &set.rows.name, &rows)?;
    let under_way = last.filter(|last| !last.ended).map(|last| last.replay);
    let is_behind = is_behind(store, &identity, &set, &following, rows.version).await?;
    Ok(Some(ReplayLook { identity, under_way, rejects_version, is_behind }))
}

/// Whether files wait for one of these tables. If one does not say how far it has followed, opening it will tell. A
/// replay that was killed after its last commit has nothing left to clean, and may have partials left to apply.
pub(super) async fn is_behind(
    store: &LakeStore,
    identity: &StreamIdentity,
    set: &TableSet,
    following: &[(&str, TableState)],
    head: u64,
) -> Result<bool, LakeError> {
    let prefix = identity.any_creation();
    for (table, state) in following {
        let applied = state.txns.get(&identity.applied_id()).and_then(|applied| u64::try_from(*applied).ok());
        let Some(applied) = applied else { return Ok(true) };
        for version in applied.saturating_add(1)..=head {
            if !staged_by(store, &set.rows.name, version, &prefix, table).await?.is_empty() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Recovered rows count in every window, so a table that the service has yet to make would miss what comes between.
async fn existing(store: &LakeStore, table: &str, prefix: &str) -> Result<TableState, LakeError> {
    let reason = "it is not there yet (start `pintail run` with this configuration first, which makes it)".to_owned();
    let missing = || LakeError::Refused { table: table.to_owned(), reason };
    read_table(store, table, prefix).await?.ok_or_else(missing)
}

/// Recovered rows are committed for the windows of this contract. The service's have to be the same.
pub(super) async fn same_followers(
    store: &LakeStore,
    identity: &StreamIdentity,
    set: &TableSet,
    head: u64,
) -> Result<(), LakeError> {
    let rows = &set.rows.name;
    let Some(followers) = newest_followers(store, rows, head, &identity.any_creation()).await? else { return Ok(()) };
    let refused = |reason: String| Err(LakeError::Refused { table: rows.clone(), reason });
    if let Some(missing) = followers.iter().find(|name| set.following().all(|spec| spec.name != **name)) {
        return refused(format!(
            "its rows are committed for {missing} as well, and this contract has no such window, so what is recovered \
             would be missing there (use the contract that the service runs with)"
        ));
    }
    for spec in set.following().filter(|spec| !followers.contains(&spec.name)) {
        if !is_bare(store, &spec.name).await? {
            let name = &spec.name;
            return refused(format!(
                "its latest rows were committed without {name}, so that table has a hole already (give the window \
                 another name, and restart the service with it)"
            ));
        }
    }
    Ok(())
}

struct LastReplay {
    replay: RejectsReplay,
    ended: bool,
}

fn last_replay(identity: &StreamIdentity, table: &str, state: &TableState) -> Result<Option<LastReplay>, LakeError> {
    let view = ledger_of(identity, table, state)?;
    let replays = view.shards.iter().filter_map(|(shard, entry)| Some((shard.replay()?, entry)));
    let Some((number, entry)) = replays.max_by_key(|(number, _)| *number) else { return Ok(None) };
    let wrong = |reason: String| LakeError::Log { table: table.to_owned(), version: state.version, reason };
    let done = match entry.position {
        None => 0,
        Some(position) => position.to_count().ok_or_else(|| wrong(format!("replay-{number} stands at {position}")))?,
    };
    let id = version_id(identity, number);
    let version = state.txns.get(&id).copied().and_then(|version| u64::try_from(version).ok());
    let rejects_version = version.ok_or_else(|| wrong(format!("its transaction {id} is missing or no version")))?;
    Ok(Some(LastReplay { replay: RejectsReplay { number, rejects_version, done }, ended: entry.ended }))
}

fn version_id(identity: &StreamIdentity, number: u64) -> String {
    format!("{}{}/{VERSION}", identity.prefix(), ShardId::of_replay(number))
}

enum Stop {
    UnderWay(RejectsReplay),
    Broken(LakeError),
}

impl StreamLake {
    /// Begins the next replay, over this version of the rejects table; or says which one is under way, whoever began
    /// it. The one numbered `given_up` is ended in the same commit, if it is under way still.
    pub async fn begin_replay(
        &mut self,
        rejects_version: u64,
        given_up: Option<u64>,
    ) -> Result<RejectsReplay, LakeError> {
        let (identity, table) = (self.identity.clone(), self.rows.name().to_owned());
        let mut begun = None;
        let outcome = self.rows.try_commit(|state| {
            let last = last_replay(&identity, &table, state).map_err(Stop::Broken)?;
            let mut txns = BTreeMap::new();
            if let Some(last) = last.as_ref().filter(|last| !last.ended) {
                if given_up != Some(last.replay.number) {
                    return Err(Stop::UnderWay(last.replay));
                }
                txns.insert(format!("{}{}/end", identity.prefix(), last.replay.shard()), 1);
            }
            let number = last.map_or(1, |last| last.replay.number + 1);
            txns.insert(format!("{}{}/start", identity.prefix(), ShardId::of_replay(number)), 0);
            txns.insert(version_id(&identity, number), as_txn(rejects_version));
            begun = Some(RejectsReplay { number, rejects_version, done: 0 });
            let info = vec![(INFO_LEDGER, json!(identity.prefix()))];
            Ok(Proposal { txns, actions: Vec::new(), info, operation: OPERATION })
        });
        let outcome = outcome.await?;
        self.view = view_of(&self.identity, &self.rows)?;
        match (outcome, begun) {
            (Outcome::Landed(_), Some(begun)) => Ok(begun),
            (Outcome::Stopped(Stop::UnderWay(replay)), _) => Ok(replay),
            (Outcome::Stopped(Stop::Broken(error)), _) => Err(error),
            (Outcome::Landed(version), None) => {
                let reason = "a replay landed that nobody proposed".to_owned();
                Err(LakeError::Log { table: self.rows.name().to_owned(), version, reason })
            }
        }
    }
}

/// The position of a replay that has done so many.
pub fn replayed_through(done: u64) -> Position {
    match done {
        0 => Position::Beginning,
        done => Position::After(SequenceNumber::from_count(done)),
    }
}
