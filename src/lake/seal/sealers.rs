//! The sealers of some streams' windows, one after the other: what a merge holds in memory is held once.

use std::collections::BTreeSet;

use super::{Sealed, Sealer};
use crate::contract::Contract;
use crate::error_chain::chain;
use crate::lake::error::LakeError;
use crate::lake::ledger::StreamIdentity;
use crate::lake::maintenance::{MaintenanceOptions, TableName};
use crate::lake::moment::MomentClock;
use crate::lake::pressing::Pressing;
use crate::lake::store::LakeStore;
use crate::lake::stream::TableSet;
use crate::lake::turn::Turn;

/// What happened to a window's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealEvent {
    /// Windows got their rows.
    Sealed {
        /// In this version.
        version: u64,
        /// All windows that end at or before this are sealed, epoch ms.
        through_ms: i64,
        /// Rows written.
        rows: u64,
        /// Files written.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Another sealer was faster.
    Overtaken,
    /// Records came to windows that were sealed before.
    Late {
        /// How many.
        records: u64,
    },
    /// Records came to windows whose partials are not kept any more: they are in the rows, and in no window.
    TooLate {
        /// How many.
        records: u64,
    },
    /// Keys of sealed windows got a further row.
    Revised {
        /// In this version.
        version: u64,
        /// The rows' revision.
        revision: i64,
        /// Rows written.
        rows: u64,
        /// Files written.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// What is to be merged is in too many files, and waits for their compaction.
    Waits {
        /// The table that they are of.
        table: String,
    },
    /// It did not work and is tried again.
    Failed {
        /// Why.
        reason: String,
    },
    /// It works again.
    Recovered,
}

impl From<Sealed> for SealEvent {
    fn from(sealed: Sealed) -> Self {
        match sealed {
            Sealed::Rows { version, through_ms, rows, files, bytes } => {
                Self::Sealed { version, through_ms, rows, files, bytes }
            }
            Sealed::Overtaken => Self::Overtaken,
            Sealed::Late { records } => Self::Late { records },
            Sealed::TooLate { records } => Self::TooLate { records },
            Sealed::Revised { version, revision, rows, files, bytes } => {
                Self::Revised { version, revision, rows, files, bytes }
            }
        }
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct Sealers {
    store: LakeStore,
    clock: MomentClock,
    options: MaintenanceOptions,
    turn: Turn,
    pressing: Pressing,
    windows: Vec<Window>,
}

#[derive(Debug)]
struct Window {
    stream: String,
    /// The partials table's name.
    partials: String,
    sealer: Sealer,
    last: Last,
}

/// How the last look at a window ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Well,
    /// It has waited for a compaction since then.
    Waiting,
    Failed,
}

impl Sealers {
    /// Of no window yet.
    pub fn new(store: LakeStore, options: MaintenanceOptions) -> Self {
        let (clock, turn, pressing) = (MomentClock::system(), Turn::default(), Pressing::default());
        Self { store, clock, options, turn, pressing, windows: Vec::new() }
    }

    /// Says there when a table's files are too many.
    pub fn pressing(mut self, pressing: &Pressing) -> Self {
        self.pressing = pressing.clone();
        self
    }

    /// Each look at a window takes its turn.
    pub(crate) fn taking(mut self, turn: &Turn) -> Self {
        self.turn = turn.clone();
        self
    }

    /// Takes in the windows of a pipeline's stream.
    pub fn add(&mut self, pipeline: &str, stream: &str, contract: &Contract) {
        // The creation time is part of ids that are asked of the tables.
        let identity = StreamIdentity { pipeline: pipeline.to_owned(), stream: stream.to_owned(), created_at_s: 0 };
        self.add_tables(stream, TableSet::of(contract, &identity));
    }

    pub(crate) fn add_tables(&mut self, stream: &str, set: TableSet) {
        for (partials, sealed) in set.partials.into_iter().zip(set.sealed) {
            let Some(window) = partials.window else { continue };
            let (store, clock, target) = (self.store.clone(), self.clock.clone(), self.options.target_file_bytes);
            let sealer = Sealer::new(store, clock, target, window, sealed);
            let stream = stream.to_owned();
            self.windows.push(Window { stream, partials: partials.name, sealer, last: Last::Well });
        }
    }

    #[cfg(test)]
    pub(crate) fn timed_by(mut self, clock: MomentClock) -> Self {
        self.clock = clock;
        self
    }

    /// Looks at every window once, or at those with these partials tables, and seals what can be sealed. Whatever is
    /// in the way of one window costs the others nothing. Can be dropped at any point.
    pub async fn look(&mut self, only: Option<&BTreeSet<String>>, observe: &mut dyn FnMut(TableName<'_>, SealEvent)) {
        let is_wanted = |window: &&mut Window| only.is_none_or(|only| only.contains(&window.partials));
        for Window { stream, sealer, last, .. } in self.windows.iter_mut().filter(is_wanted) {
            let _turn = self.turn.taken().await;
            let table = sealer.table().to_owned();
            let mut tell = |event| observe(TableName { stream, table: &table }, event);
            let looked = sealer.look(&mut |sealed| tell(sealed.into())).await;
            let asked = match &looked {
                Err(LakeError::TooManyFiles { table }) => Some((table.clone(), self.pressing.add(table))),
                Ok(_) | Err(_) => None,
            };
            *last = match (looked, asked) {
                (Ok(_), _) => {
                    if *last == Last::Failed {
                        tell(SealEvent::Recovered);
                    }
                    Last::Well
                }
                // What it asked for is not done yet.
                (Err(_), Some((_, false))) => *last,
                (Err(_), Some((table, true))) if *last == Last::Well => {
                    tell(SealEvent::Waits { table });
                    Last::Waiting
                }
                (Err(error), _) => {
                    tell(SealEvent::Failed { reason: chain(&error) });
                    Last::Failed
                }
            };
        }
    }
}
