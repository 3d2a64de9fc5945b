//! The lake: Delta tables that are also the ledger of what has been processed.
//!
//! A stream's rows table is its ledger: one commit brings the rows of a micro-batch and the positions that they
//! cover, compare-and-swapped against the positions they started from. The stream's other tables (rejects, window
//! partials) follow: their files are staged in that same commit and appended to them afterwards, each exactly once.
//! When event time has passed a window, its partials become sealed rows (`seal`), by the same compare-and-swap.
//! Nothing else decides what has been processed, so a process may die between any two instructions, run twice, or
//! lose an answer, and every table still holds every record once.
//!
//! The door: [`LakeStore::open`], [`StreamLake::open`], [`Writer::run`]; [`RejectSet`] and [`look_at_replays`] for what
//! is replayed; [`read_ledgers`] for people; [`Maintainer`] and [`Sealers`] beside it all.

mod ahead;
mod alarm;
mod backoff;
mod checkpoint;
mod checksums;
mod commit;
mod credentials;
mod encode;
mod entry;
mod error;
mod file_writer;
mod files;
mod flush;
mod follower;
mod ledger;
mod listing;
mod log;
mod maintenance;
mod merge;
mod micro_batch;
mod moment;
mod others;
mod output;
mod parquet;
mod partition;
mod plan;
mod pressing;
mod range;
mod reading;
mod recovered;
mod rejected;
mod rejects;
mod replay;
mod restore;
mod sample;
mod schema;
mod seal;
mod staging;
mod stats;
mod store;
mod stored_group;
mod stream;
mod table;
mod turn;
mod upload;
mod writer;

#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(crate) use checkpoint::action_lines;
pub use encode::encoded_files;
#[cfg(any(test, fuzzing))]
pub(crate) use entry::{Keep, LogEntry};
pub use error::LakeError;
pub use ledger::{StreamIdentity, StreamLedger, read_ledgers};
pub use maintenance::{
    Ended as MaintenanceEnded, Event as MaintenanceEvent, Maintainer, MaintenanceOptions, MaintenancePlan,
    MaintenanceService, Step as MaintenanceStep, TableName,
};
pub use others::{CommitLog, LoggedCommit};
pub use plan::{StreamPlan, TablePlan, plan_tables};
pub use pressing::Pressing;
pub use range::{RangeState, look_at_range};
pub use rejected::{RejectBatch, RejectReader, RejectSet};
pub use replay::{RejectsReplay, ReplayLook, look_at_replays, replayed_through};
pub use restore::RecentPartials;
pub use seal::{SealBell, SealEvent, SealedLook, SealedTable, Sealers};
pub use store::{LakeConfig, LakeStore};
pub use stream::StreamLake;
pub use turn::Turn;
pub use writer::{Writer, WriterOptions};
