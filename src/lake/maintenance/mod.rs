//! Keeping the tables in shape while they are written: log checkpoints, log cleanup, compaction, vacuum. Sealing, which
//! is a room of its own, runs on the same thread.
//!
//! A room of its own, with a client of its own: it takes nothing from the stream's writer and tells it nothing. To the
//! writer it is one more writer of the same log. It needs no lock either: two of them at once, or one beside another
//! engine's, lose some work and no row. It deletes only what is older than the table's own retention, and never what
//! a table that follows still needs.
//!
//! One table at a time, and never beside a look at what can be sealed, in memory that is bounded by [`crate::limits`]: some 64 MiB, and one row group of a foreign
//! file that is compacted.

mod actions;
mod checkpoint;
mod choose;
mod cleanup;
mod compact;
mod fold;
mod following;
mod input;
mod retention;
mod service;
mod small_files;
mod table;
mod trouble;
mod vacuum;

#[cfg(test)]
mod tests;

use super::ledger::StreamIdentity;
use super::moment::MomentClock;
use super::pressing::Pressing;
use super::store::LakeStore;
use super::stream::TableSet;
use super::turn::Turn;
use crate::contract::Contract;

pub use service::{MaintenancePlan, MaintenanceService};
use table::{Look, Table};

/// When something is worth doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaintenanceOptions {
    /// Commits after which a table's log gets a checkpoint.
    pub checkpoint_commits: u64,
    /// Small files of one day and of like size that are made one.
    pub compact_files: usize,
    /// What a file should grow to.
    pub target_file_bytes: u64,
}

impl Default for MaintenanceOptions {
    fn default() -> Self {
        Self { checkpoint_commits: 100, compact_files: 16, target_file_bytes: 128 << 20 }
    }
}

/// What can be done for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Old partials go.
    Retention,
    /// Small files become large ones.
    Compaction,
    /// The log gets a checkpoint.
    Checkpoint,
    /// Old log entries are deleted.
    Cleanup,
    /// Old files are deleted.
    Vacuum,
}

impl Step {
    /// As a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Compaction => "compaction",
            Self::Checkpoint => "checkpoint",
            Self::Cleanup => "cleanup",
            Self::Vacuum => "vacuum",
        }
    }
}

/// What happened to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is being looked at.
    Begins,
    /// Files were replaced by fewer, in this version.
    Compacted {
        /// The commit.
        version: u64,
        /// Files before.
        files_in: u64,
        /// Files after.
        files_out: u64,
        /// Their bytes before.
        bytes_in: u64,
        /// Their bytes after.
        bytes_out: u64,
    },
    /// Old partials were removed from their table, in this version.
    Dropped {
        /// The commit.
        version: u64,
        /// Windows that begin before this have no partials any more, epoch ms.
        through_ms: i64,
        /// Files removed.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Another writer was faster; what was to be compacted or removed will be looked at again.
    Overtaken {
        /// What it did.
        reason: String,
    },
    /// The log has a checkpoint of this version.
    Checkpointed {
        /// The version.
        version: u64,
    },
    /// `_last_checkpoint` led nowhere and was written anew.
    Repointed {
        /// The checkpoint that it names now; `None`: there is none, and it was deleted.
        version: Option<u64>,
    },
    /// Old log objects were deleted.
    Cleaned {
        /// How many.
        objects: u64,
        /// The version from which everything is kept.
        below: u64,
    },
    /// Old log entries are kept, or read once more, because somebody needs them.
    Waits {
        /// Who, and what for.
        reason: String,
    },
    /// Old data files were deleted, or there were none.
    Vacuumed {
        /// How many.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A step failed; the others were tried all the same.
    Failed {
        /// Which.
        step: Step,
        /// Why.
        reason: String,
    },
    /// The look is over.
    Ended(Ended),
}

/// How a look at a table ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Well, at this version.
    Well(u64),
    /// There is no such table yet.
    Absent,
    /// The table is not one that Pintail may write; it was left alone.
    Refused(String),
    /// Something was in the way, now or when it was last tried.
    Failed(String),
}

/// A table, by its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableName<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The table.
    pub table: &'a str,
}

/// Of which one can be made.
const FEWEST_FILES: usize = 2;

/// Looks after the tables of some streams.
#[derive(Debug)]
pub struct Maintainer {
    store: LakeStore,
    clock: MomentClock,
    options: MaintenanceOptions,
    turn: Turn,
    pressing: Pressing,
    streams: Vec<Stream>,
}

#[derive(Debug)]
struct Stream {
    name: String,
    ours: String,
    rows: String,
    followers: Vec<String>,
    tables: Vec<Table>,
}

impl Maintainer {
    /// Of a lake in which nobody has looked yet.
    pub fn new(store: LakeStore, options: MaintenanceOptions) -> Self {
        let (clock, turn, pressing) = (MomentClock::system(), Turn::default(), Pressing::default());
        Self { store, clock, options, turn, pressing, streams: Vec::new() }
    }

    /// Compacts whatever there is of tables for which somebody waits.
    pub fn pressed_by(mut self, pressing: &Pressing) -> Self {
        self.pressing = pressing.clone();
        self
    }

    /// Each look at a table takes its turn.
    pub(crate) fn taking(mut self, turn: &Turn) -> Self {
        self.turn = turn.clone();
        self
    }

    /// Takes in the tables of a pipeline's stream.
    pub fn add(&mut self, pipeline: &str, stream: &str, contract: &Contract) {
        // The creation time is part of positions only, and maintenance asks for none.
        let identity = StreamIdentity { pipeline: pipeline.to_owned(), stream: stream.to_owned(), created_at_s: 0 };
        self.add_tables(stream, TableSet::of(contract, &identity));
    }

    pub(crate) fn add_tables(&mut self, stream: &str, set: TableSet) {
        let followers = set.following().map(|spec| spec.name.clone()).collect();
        let (rows, ours) = (set.rows.name.clone(), set.rejects.txn_prefix.clone());
        let tables = set.all().cloned().map(Table::new).collect();
        self.streams.push(Stream { name: stream.to_owned(), ours, rows, followers, tables });
    }

    #[cfg(test)]
    pub(crate) fn timed_by(mut self, clock: MomentClock) -> Self {
        self.clock = clock;
        self
    }

    /// Looks at every table once and does what is worth doing; `thorough`: all that can be done. Tells `observe` what
    /// happens. Whatever is in the way of one table costs the others nothing. Can be dropped at any point.
    pub async fn round(&mut self, thorough: bool, observe: &mut dyn FnMut(TableName<'_>, Event)) {
        for stream in &mut self.streams {
            let Stream { name, ours, rows, followers, tables } = stream;
            for table in tables {
                let spec = table.spec.name.clone();
                let mut tell = |event| observe(TableName { stream: name, table: &spec }, event);
                tell(Event::Begins);
                let (store, clock, pressed) = (&self.store, &self.clock, self.pressing.take(&spec));
                let compact_files = if pressed { FEWEST_FILES } else { self.options.compact_files };
                let options = MaintenanceOptions { compact_files, ..self.options };
                let _turn = self.turn.taken().await;
                let look = Look { store, clock, options, thorough, pressed, ours, rows, followers };
                let ended = table.maintain(&look, &mut tell).await;
                tell(Event::Ended(ended));
            }
        }
    }
}
