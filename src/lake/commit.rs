//! Commit = compare-and-swap on a table's log: the one loop by which rows and followers alike are written.
//!
//! Before a version is written, its predecessor is proven to be the head: its entry is still there with the ETag
//! that we know, and the next one is not. The write is conditional. Its answer is believed only if the proof is
//! young, by two clocks: a writer that slept past log cleanup would otherwise succeed far below the real head, where
//! no reader looks. An answer that got lost is looked for by the commit's id before anything is written again, so
//! a commit lands once. Whoever loses a version reads what the winner did and builds its entry anew.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::alarm::Alarm;
use super::backoff::backoff;
use super::entry::{Keep, LogEntry, entry_bytes};
use super::error::{Action, LakeError};
use super::log::{TableState, entry_path, read_entry, read_table};
use super::moment::{Moment, MomentClock};
use super::schema::{Fit, compare};
use super::store::{Created, LakeStore};
use super::table::{Kind, TableSpec, log_retention_ms};
use crate::contract::WindowPlan;

/// A head proof is believed for a quarter of the log retention, and never longer than this.
const PROOF_AGE_MS_MAX: i64 = 60 * 60 * 1000;
/// Losing this many versions in a row is a race; more is worth a word.
const BEATEN_QUIETLY_MAX: u32 = 10;
/// How often a refused table is looked at again, in case somebody has mended it.
const REFUSED_WAIT: Duration = Duration::from_secs(30);

/// A table as one of its writers sees it.
#[derive(Debug, Clone)]
pub(crate) struct TableLog {
    store: LakeStore,
    spec: TableSpec,
    clock: MomentClock,
    state: TableState,
    /// When `state.version` was last known to be the head.
    proved: Moment,
    proof_age_ms_max: i64,
    /// What we hold may be of another table, or too old: read everything again before the next write.
    doubted: bool,
    /// A winner did what we do not understand. Only a restart, by somebody who has looked, goes on.
    stuck: Option<String>,
    /// Files that the commit to be made will replace: whoever removes one of them first ends it.
    inputs: HashSet<String>,
}

/// What a commit wants to write, given what the table says now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proposal {
    /// Application transactions to set.
    pub txns: BTreeMap<String, i64>,
    /// `add`, `remove` and `metaData` actions.
    pub actions: Vec<Value>,
    /// Further fields of `commitInfo`.
    pub info: Vec<(&'static str, Value)>,
    /// `commitInfo.operation`.
    pub operation: &'static str,
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome<S> {
    /// It is in the table, as this version.
    Landed(u64),
    /// The proposal saw something in the table that ended it. Nothing of it is in the table.
    Stopped(S),
}

/// One commit over all its attempts.
#[derive(Debug)]
struct Attempted {
    id: String,
    /// What was last sent with an unknown answer: present in a table that was read anew, it had landed.
    sent: Option<BTreeMap<String, i64>>,
    /// Writes that did not land.
    beaten: u32,
}

impl Attempted {
    fn new() -> Self {
        Self { id: Uuid::new_v4().to_string(), sent: None, beaten: 0 }
    }
}

impl TableLog {
    /// A table that was just read and found to fit.
    pub fn new(
        store: LakeStore,
        spec: TableSpec,
        clock: MomentClock,
        state: TableState,
        read_at: Moment,
    ) -> Result<Self, LakeError> {
        let retention_ms = log_retention_ms(&spec.name, &state.metadata)?;
        let proof_age_ms_max = PROOF_AGE_MS_MAX.min(retention_ms / 4);
        let (doubted, stuck, inputs) = (false, None, HashSet::new());
        Ok(Self { store, spec, clock, state, proved: read_at, proof_age_ms_max, doubted, stuck, inputs })
    }

    /// The same table for a commit that replaces these files, which are in it now. [`LakeError::Overtaken`] ends that
    /// commit, and nothing is written, once a winner removed one of them, changed what the table is, or may have.
    pub fn replacing(&self, inputs: HashSet<String>) -> Self {
        Self { inputs, ..self.clone() }
    }

    /// What the table says, as far as we know.
    pub fn state(&self) -> &TableState {
        &self.state
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The window whose partials the table holds, if it holds any.
    pub fn window(&self) -> Option<&Arc<WindowPlan>> {
        self.spec.window.as_ref()
    }

    /// What part the table plays.
    pub fn kind(&self) -> Kind {
        self.spec.kind
    }

    /// Commits what `propose` makes of the table, however long it takes: attempts that failed are repeated, and a
    /// refused table is looked at again, until the commit landed or the proposal stops. `Err` only for what no
    /// repetition mends, and for a refused table once `end` has come.
    pub async fn commit<S, E: Future<Output = ()>>(
        &mut self,
        alarm: &mut Alarm,
        end: impl Fn() -> E,
        mut propose: impl FnMut(&TableState) -> Result<Proposal, S>,
    ) -> Result<Outcome<S>, LakeError> {
        let mut attempted = Attempted::new();
        let mut failures = 0;
        loop {
            alarm.trying();
            let error = match self.attempt(&mut attempted, alarm, &mut propose).await {
                Ok(outcome) => {
                    alarm.well();
                    return Ok(outcome);
                }
                Err(error) => error,
            };
            match error.action() {
                Action::Fail => return Err(error),
                Action::Wait => {
                    alarm.refused(&error);
                    self.doubted = true;
                    if tokio::time::timeout(REFUSED_WAIT, end()).await.is_ok() {
                        return Err(error);
                    }
                }
                Action::Retry => {
                    alarm.failed(&error);
                    failures += 1;
                    tokio::time::sleep(backoff(failures)).await;
                }
            }
        }
    }

    /// As [`Self::commit`], for callers that are not patient: whatever is in the way is returned.
    pub async fn try_commit<S>(
        &mut self,
        mut propose: impl FnMut(&TableState) -> Result<Proposal, S>,
    ) -> Result<Outcome<S>, LakeError> {
        let mut alarm = Alarm::silent(&self.spec.name);
        self.attempt(&mut Attempted::new(), &mut alarm, &mut propose).await
    }

    /// Reads what others have committed.
    pub async fn catch_up(&mut self) -> Result<(), LakeError> {
        self.try_commit(|_| Err(())).await.map(|_| ())
    }

    /// Tries until the commit landed, the proposal stops, or something is in the way.
    async fn attempt<S>(
        &mut self,
        attempted: &mut Attempted,
        alarm: &mut Alarm,
        propose: &mut impl FnMut(&TableState) -> Result<Proposal, S>,
    ) -> Result<Outcome<S>, LakeError> {
        loop {
            if self.doubted || self.clock.now().ms_since(self.proved) > self.proof_age_ms_max {
                self.reopen().await?;
                if attempted.sent.as_ref().is_some_and(|sent| self.holds(sent)) {
                    return Ok(Outcome::Landed(self.state.version));
                }
                attempted.sent = None;
            }
            let proof = loop {
                match self.prove_head().await? {
                    Proof::Head(proof) => break proof,
                    Proof::Doubted => self.reopen().await?,
                    Proof::Behind(entry, etag) => {
                        let ours = entry.commit_id() == Some(attempted.id.as_str());
                        if let Some(path) = entry.removed.first().filter(|_| !ours) {
                            let version = self.state.version + 1;
                            return Err(self.overtaken(format!("version {version} removed {path}")));
                        }
                        self.follow(*entry, etag)?;
                        if ours {
                            return Ok(Outcome::Landed(self.state.version));
                        }
                        if attempted.sent.take().is_some() {
                            alarm.conflict();
                        }
                    }
                }
            };
            let proposal = match propose(&self.state) {
                Ok(proposal) => proposal,
                Err(stop) => return Ok(Outcome::Stopped(stop)),
            };
            if self.write(attempted, &proposal, proof).await? {
                return Ok(Outcome::Landed(self.state.version));
            }
            attempted.beaten += 1;
            if attempted.beaten > BEATEN_QUIETLY_MAX {
                alarm.struggling(format!("version {} was lost, {} in a row", self.state.version + 1, attempted.beaten));
            }
            tokio::time::sleep(backoff(attempted.beaten)).await;
        }
    }

    /// Writes the next version. `false`: it is taken, or the answer is not to be believed.
    async fn write(
        &mut self,
        attempted: &mut Attempted,
        proposal: &Proposal,
        proof: Moment,
    ) -> Result<bool, LakeError> {
        let version = self.state.version + 1;
        let bytes = entry_bytes(proposal, &attempted.id, self.clock.now().wall_ms);
        let sent_at = self.clock.now();
        if sent_at.ms_since(proof) > self.proof_age_ms_max {
            // Building it took long, or the machine slept.
            self.doubted = true;
            return Ok(false);
        }
        // From here on it may be in the table, whatever the answer is.
        attempted.sent = Some(proposal.txns.clone());
        match self.store.create(&entry_path(&self.store, &self.spec.name, version), bytes).await? {
            Created::Exists => Ok(false),
            Created::Yes(_) if self.clock.now().ms_since(proof) > self.proof_age_ms_max => {
                self.doubted = true;
                Ok(false)
            }
            Created::Yes(etag) => {
                self.state.version = version;
                self.state.etag = etag;
                self.state.txns.extend(proposal.txns.clone());
                self.proved = sent_at;
                for action in &proposal.actions {
                    self.remember_metadata(action)?;
                }
                Ok(true)
            }
        }
    }

    fn remember_metadata(&mut self, action: &Value) -> Result<(), LakeError> {
        if action.get("metaData").is_none() {
            return Ok(());
        }
        let entry =
            LogEntry::parse(action.to_string().as_bytes(), Keep::txns("")).map_err(|reason| self.wrong(reason))?;
        if let Some(metadata) = entry.metadata {
            self.state.metadata = metadata;
        }
        Ok(())
    }

    /// Whether our version is the head, or what came after it.
    async fn prove_head(&mut self) -> Result<Proof, LakeError> {
        if let Some(reason) = &self.stuck {
            return Err(self.refused(reason.clone()));
        }
        let asked_at = self.clock.now();
        let version = self.state.version;
        let head = entry_path(&self.store, &self.spec.name, version);
        let removals = Some(&self.inputs).filter(|inputs| !inputs.is_empty());
        let keep = Keep { prefix: &self.spec.txn_prefix, removals };
        let next = read_entry(&self.store, &self.spec.name, version + 1, keep);
        let (next, head) = tokio::try_join!(next, self.store.head(&head))?;
        if head.is_none_or(|head| head.e_tag != self.state.etag) {
            return Ok(Proof::Doubted);
        }
        if let Some((entry, etag)) = next {
            return Ok(Proof::Behind(Box::new(entry), etag));
        }
        self.proved = asked_at;
        Ok(Proof::Head(asked_at))
    }

    /// Moves on by a winner's entry, unless it changes the table into one that we may not write.
    fn follow(&mut self, entry: LogEntry, etag: Option<String>) -> Result<(), LakeError> {
        let version = self.state.version + 1;
        if !entry.unknown.is_empty() {
            let reason = format!(
                "version {version} has the actions {:?}, by {}; Pintail knows add, remove, cdc, txn, commitInfo, metaData \
                 and protocol (if the table is still right, restart Pintail to go on)",
                entry.unknown,
                entry.commit_info.as_ref().map_or_else(
                    || "an unknown writer".to_owned(),
                    |info| { info.get("engineInfo").map_or_else(|| "an unknown engine".to_owned(), Value::to_string) }
                ),
            );
            self.stuck = Some(reason.clone());
            return Err(self.refused(reason));
        }
        let changed = entry.metadata.is_some() || entry.protocol.is_some();
        let mut next = self.state.clone();
        next.absorb(version, etag, entry);
        if changed {
            self.accept(&next)?;
            if !self.inputs.is_empty() && !next.metadata.says_the_same_as(&self.state.metadata) {
                return Err(self.overtaken(format!("version {version} changed the table's metaData")));
            }
        }
        self.state = next;
        Ok(())
    }

    /// Reads the whole table again and accepts it only if it is a later state of the same one.
    async fn reopen(&mut self) -> Result<(), LakeError> {
        if !self.inputs.is_empty() {
            return Err(self.overtaken("its log has to be read anew, so nobody knows what was removed".to_owned()));
        }
        let read_at = self.clock.now();
        let found = read_table(&self.store, &self.spec.name, &self.spec.txn_prefix).await?;
        let found = found
            .ok_or_else(|| self.refused(format!("it has vanished; we know it up to version {}", self.state.version)))?;
        if found.version < self.state.version {
            let (found, known) = (found.version, self.state.version);
            return Err(self.refused(format!("its head is version {found}, we know it up to version {known}")));
        }
        self.accept(&found)?;
        self.state = found;
        self.proved = read_at;
        self.doubted = false;
        Ok(())
    }

    fn accept(&mut self, next: &TableState) -> Result<(), LakeError> {
        if next.metadata.id != self.state.metadata.id {
            let (found, known) = (&next.metadata.id, &self.state.metadata.id);
            return Err(self.refused(format!(
                "it was replaced: its metaData id is {found}, we know it as {known} (restart Pintail to use the new one)"
            )));
        }
        let problems = match compare(&self.spec.schema, self.spec.definition.as_deref(), next) {
            Fit::Fits => {
                let retention_ms = log_retention_ms(&self.spec.name, &next.metadata)?;
                self.proof_age_ms_max = PROOF_AGE_MS_MAX.min(retention_ms / 4);
                return Ok(());
            }
            // Before it was opened every column was there.
            Fit::Adds { columns, .. } if self.opened() => vec![format!("columns {columns:?} were dropped from it")],
            Fit::Adds { .. } => return Ok(()),
            Fit::Refused(problems) => problems,
        };
        Err(self.refused(format!("at version {}, {}", next.version, problems.join("; "))))
    }

    /// Whether the table has had every column of the contract since we know it.
    fn opened(&self) -> bool {
        compare(&self.spec.schema, self.spec.definition.as_deref(), &self.state) == Fit::Fits
    }

    fn holds(&self, sent: &BTreeMap<String, i64>) -> bool {
        !sent.is_empty() && sent.iter().all(|(app_id, version)| self.state.txns.get(app_id) == Some(version))
    }

    fn refused(&self, reason: String) -> LakeError {
        LakeError::Refused { table: self.spec.name.clone(), reason }
    }

    fn overtaken(&self, reason: String) -> LakeError {
        LakeError::Overtaken { table: self.spec.name.clone(), reason }
    }

    fn wrong(&self, reason: String) -> LakeError {
        LakeError::Log { table: self.spec.name.clone(), version: self.state.version, reason }
    }
}

enum Proof {
    /// Our version is the head, as of this moment.
    Head(Moment),
    /// Somebody wrote the next version.
    Behind(Box<LogEntry>, Option<String>),
    /// Our version is not there as we know it.
    Doubted,
}
