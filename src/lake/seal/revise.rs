//! Corrections: keys of sealed windows that got records late get another row, with the next revision.
//!
//! The partials of a window and its sealed rows are both in the order of their keys, so they are compared by walking
//! along both. A key is corrected if its partials hold more records than its last row does: records only ever come in
//! addition, so equal counts are equal contents, and a sealer with an old view of the partials corrects nothing back.
//! All rows of a commit have one revision, and the commit raises `…/revisions/{window}` to it, compare-and-swap: of two
//! that correct at once one is first, and the other compares again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use deltalake::arrow::array::{AsArray, RecordBatch};
use deltalake::arrow::datatypes::Int64Type;
use serde_json::json;

use super::parts::Parts;
use super::rows::Rows;
use super::tail::{Clocks, Tail};
use super::windows::{Windows, windows_of};
use super::{Made, REVISIONS, Sealed, Sealer, said};
use crate::contract::WindowPlan;
use crate::contract::window::{DEFINITION, RECORDS, REVISION, SealPolicy, WINDOW_START};
use crate::lake::commit::TableLog;
use crate::lake::error::LakeError;
use crate::lake::log::TableState;
use crate::lake::merge::{MergeError, MergePlan, Mergeable, Starts, note_disorder};
use crate::limits::SEAL_DIRTY_MAX;
use crate::window::merging::{Group, Sealing, Undecodable, decode_groups};

/// Windows whose sealed rows may lack records.
#[derive(Debug)]
pub(super) enum Dirty {
    /// Nobody has compared since the table was read.
    Unknown,
    /// Those that hold the panes that begin then, epoch us.
    Starts(BTreeSet<i64>),
}

impl Dirty {
    /// A late record came to the pane that begins then.
    pub fn note(&mut self, start_us: i64) {
        if let Self::Starts(starts) = self {
            starts.insert(start_us);
            if starts.len() > SEAL_DIRTY_MAX {
                *self = Self::Unknown;
            }
        }
    }

    /// Stretches of windows to be compared, of those in `within`, apart from each other and the oldest first.
    fn stretches(&self, window: &WindowPlan, within: Starts) -> VecDeque<Starts> {
        let Self::Starts(panes) = self else { return VecDeque::from([within]) };
        let mut stretches: VecDeque<Starts> = VecDeque::new();
        for pane_us in panes {
            let of_pane = windows_of(window, *pane_us);
            let (from_us, to_us) = (of_pane.from_us.max(within.from_us), of_pane.to_us.min(within.to_us));
            match stretches.back_mut() {
                Some(last) if from_us <= last.to_us => last.to_us = last.to_us.max(to_us),
                _ if from_us < to_us => stretches.push_back(Starts { from_us, to_us }),
                _ => {}
            }
        }
        stretches
    }
}

/// How far a stretch of windows was compared.
enum Compared {
    All,
    /// Those that begin before this; there is room for more.
    Before(i64),
    /// Those that begin before this; the commit is full.
    Full(i64),
}

/// What a sealed row says that a correction asks.
#[derive(Debug, Clone, Copy)]
struct Last {
    records: i64,
    revision: i64,
}

impl Mergeable for Last {
    fn columns(window: &WindowPlan) -> Option<Vec<&str>> {
        let keys = window.keys.iter().map(|key| key.name.as_str());
        Some(keys.chain([WINDOW_START, RECORDS, DEFINITION, REVISION]).collect())
    }

    fn decode(window: &WindowPlan, rows: &RecordBatch) -> Result<Vec<(Group, Self)>, Undecodable> {
        let longs = |name: &str| {
            let column = rows.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            column.ok_or_else(|| Undecodable::Column { column: name.to_owned() })
        };
        let said = longs(RECORDS)?.iter().zip(longs(REVISION)?.iter());
        let last =
            said.map(|(records, revision)| Self { records: records.unwrap_or(0), revision: revision.unwrap_or(0) });
        Ok(decode_groups(window, rows)?.into_iter().zip(last).collect())
    }

    fn add(&mut self, other: &Self) {
        if other.revision > self.revision {
            *self = *other;
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

impl Sealer {
    /// Sealed windows that are still corrected.
    fn corrected(&self, clocks: &Clocks, through_us: i64) -> Option<Starts> {
        let SealPolicy::Revise { for_us } = self.plan.seal else { return None };
        let watermark_us = clocks.watermark_ms?.saturating_mul(1000);
        let oldest_us = watermark_us.saturating_sub(for_us).saturating_sub(self.plan.every_us);
        // What is left of a window's partials says nothing of the window.
        let from_us = oldest_us.max(clocks.dropped_us);
        Some(Starts { from_us, to_us: self.begins_after(through_us) }).filter(|starts| starts.from_us < starts.to_us)
    }

    /// Files of windows that begin before this are of no use any more.
    pub(super) fn floor_us(&self, clocks: Option<&Clocks>, through_us: i64) -> i64 {
        let SealPolicy::Revise { for_us } = self.plan.seal else { return self.begins_after(through_us) };
        let corrected = clocks.and_then(|clocks| self.corrected(clocks, through_us));
        // The watermark has passed whatever is sealed.
        let sealed_us = through_us.saturating_sub(for_us).saturating_sub(self.plan.every_us);
        corrected.map_or(sealed_us, |corrected| corrected.from_us)
    }

    /// Compares what may have changed and corrects what did.
    pub(super) async fn revise(
        &mut self,
        tail: &Tail,
        log: &mut TableLog,
        clocks: &Clocks,
        tell: &mut dyn FnMut(Sealed),
    ) -> Result<(), MergeError> {
        if self.plan.seal == SealPolicy::Once {
            self.dirty = Dirty::Starts(BTreeSet::new());
        }
        let within = self.corrected(clocks, self.progress(log.state()).through_us());
        let Some(within) = within else { return Ok(()) };
        let mut left = self.dirty.stretches(&self.plan, within);
        while !left.is_empty() {
            let Some(done) = self.revise_some(tail, log, clocks, &mut left).await? else { continue };
            let is_overtaken = done == Sealed::Overtaken;
            tell(done);
            if is_overtaken {
                // What is left is compared at the next look, against what the other one wrote.
                return Ok(());
            }
        }
        self.dirty = Dirty::Starts(BTreeSet::new());
        Ok(())
    }

    /// Compares what is left, as far as one commit goes, and takes it off. `None`: none of it is to be corrected.
    async fn revise_some(
        &mut self,
        tail: &Tail,
        log: &mut TableLog,
        clocks: &Clocks,
        left: &mut VecDeque<Starts>,
    ) -> Result<Option<Sealed>, MergeError> {
        let (Some(first), Some(last)) = (left.front(), left.back()) else { return Ok(None) };
        let all = Starts { from_us: first.from_us, to_us: last.to_us };
        // Its files and its count of revisions are of one version, like those of the partials.
        let Some(sealed) = Tail::read(&self.store, &self.spec.name, all.from_us).await? else {
            left.clear();
            return Ok(None);
        };
        self.sealed_disordered.retain(|path| sealed.has(path));
        let revisions = sealed.latest(&self.spec.txn_prefix, &format!("/{REVISIONS}/{}", self.plan.name)).unwrap_or(0);
        let since_us = clocks.since_ms.map_or(i64::MAX, |ms| ms.saturating_mul(1000));
        let sealing = Sealing { since_us, revision: revisions.saturating_add(1) };
        let made = loop {
            match self.compare(tail, &sealed, left.clone(), sealing).await {
                Err(MergeError::Disorder(path)) if sealed.has(&path) => {
                    let (store, table) = (&self.store, &self.spec.name);
                    let plan = MergePlan { store, table, window: &self.plan, starts: all };
                    note_disorder(plan, &sealed.files(all), path, &mut self.sealed_disordered)?;
                }
                Err(MergeError::Disorder(path)) => self.note_disorder(tail, all, path)?,
                compared => {
                    let (made, rest) = compared?;
                    *left = rest;
                    break made;
                }
            }
        };
        match made {
            None => Ok(None),
            Some(made) => Ok(Some(self.commit_revision(log, tail.version, clocks, revisions, made).await?)),
        }
    }

    /// Rows for the keys whose partials hold more than their last row, and what is left to be compared once they are
    /// committed.
    async fn compare(
        &self,
        tail: &Tail,
        sealed: &Tail,
        mut left: VecDeque<Starts>,
        sealing: Sealing,
    ) -> Result<(Option<Made>, VecDeque<Starts>), MergeError> {
        let began = self.clock.now();
        let mut rows = Rows::new(self, sealing);
        while let Some(starts) = left.pop_front() {
            match self.compare_some(tail, sealed, starts, &mut rows).await {
                Ok(Compared::All) => {}
                Ok(Compared::Before(from_us)) => left.push_front(Starts { from_us, ..starts }),
                Ok(Compared::Full(from_us)) => {
                    left.push_front(Starts { from_us, ..starts });
                    break;
                }
                Err(error) => {
                    rows.output.abort().await;
                    return Err(error);
                }
            }
        }
        Ok((rows.finish().await?.map(|output| Made { output, through_ms: 0, began }), left))
    }

    async fn compare_some(
        &self,
        tail: &Tail,
        sealed: &Tail,
        starts: Starts,
        rows: &mut Rows<'_>,
    ) -> Result<Compared, MergeError> {
        let partials = self.plan.partials_table();
        let plan = MergePlan { store: &self.store, table: &partials, window: &self.plan, starts };
        let (mut counted, known_to_us) = Windows::open(plan, tail, &self.disordered).await?;
        let within = Starts { to_us: starts.to_us.min(known_to_us), ..starts };
        let plan = MergePlan { table: &self.spec.name, starts: within, ..plan };
        let mut sealed = Parts::<Last>::open(plan, sealed, &self.sealed_disordered).await?;
        Ok(match fill_corrections(rows, &mut counted, &mut sealed).await? {
            Some(full_at_us) => Compared::Full(full_at_us),
            None if known_to_us < starts.to_us => Compared::Before(known_to_us),
            None => Compared::All,
        })
    }

    async fn commit_revision(
        &self,
        log: &mut TableLog,
        from_version: u64,
        clocks: &Clocks,
        revisions: i64,
        made: Made,
    ) -> Result<Sealed, LakeError> {
        let revision = revisions.saturating_add(1);
        let id = format!("{}{REVISIONS}/{}", clocks.identity.prefix(), self.plan.name);
        let known = |state: &TableState| said(state, REVISIONS, &self.plan.name).unwrap_or(0);
        let (rows, files, bytes) = (made.output.rows, made.output.adds.len() as u64, made.output.bytes);
        let (txns, info) = (
            BTreeMap::from([(id, revision)]),
            vec![("revision", json!(revision)), ("partialsVersion", json!(from_version))],
        );
        let landed = self.commit_rows(log, made, txns, info, |state| known(state) == revisions).await?;
        Ok(landed.map_or(Sealed::Overtaken, |version| Sealed::Revised { version, revision, rows, files, bytes }))
    }
}

/// Takes in what holds more than its last sealed row until a commit has enough; the start of the first window that is
/// left to be compared, if one is.
async fn fill_corrections(
    rows: &mut Rows<'_>,
    counted: &mut Windows<'_>,
    sealed: &mut Parts<'_, Last>,
) -> Result<Option<i64>, MergeError> {
    let mut last = sealed.next().await?;
    while let Some((group, cell)) = counted.next().await? {
        while last.as_ref().is_some_and(|(sealed, _)| *sealed < group) {
            last = sealed.next().await?;
        }
        let known = last.as_ref().filter(|(sealed, _)| *sealed == group).map_or(0, |(_, last)| last.records);
        if cell.records <= known.unsigned_abs() {
            continue;
        }
        if rows.is_full_before(&group) {
            return Ok(Some(group.start_us));
        }
        rows.push(group, cell).await?;
    }
    Ok(None)
}
