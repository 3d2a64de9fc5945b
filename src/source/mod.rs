//! From Kinesis to [`RawBatch`](crate::record::RawBatch)es: every record of a stream once, parents before children,
//! at the pace the shards give, and never without room in memory.
//!
//! A tour, in the order in which things happen:
//!
//! 1. [`describe`] finds the stream. Its creation time is part of the ledger's keys, so this comes before all else.
//! 2. [`Coordinator::run`] lists the shards (`survey`), asks the ledger what it knows of them, and lets the pure
//!    family tree (`tree`) decide which to register, to read, to keep waiting, and which are lost (`loss`).
//! 3. One reader per shard (`reader`) waits for its pace (`pacing`) and for shards that are far behind (`alignment`),
//!    reserves memory, reads, and delivers to the
//!    [`BatchSink`](crate::record::BatchSink). What it returns when it stops is its message to the coordinator.
//! 4. Aggregated records are taken apart (`aggregated`), so that everybody behind the source sees user records only.
//! 5. Whatever a call answers passes through one file (`kinesis`), the bodies of GetRecords through a quick reader of
//!    their own (`protocol`), and whatever fails through one table (`error`).
//!
//! What is absent here: commits. A reader's position is a guess until the writer's commit; the ledger alone decides
//! where reading goes on, which is why a reader may be stopped, fenced or killed at any instruction.

pub(crate) mod aggregated;
mod alignment;
mod context;
mod coordinator;
mod coverage;
mod error;
mod kinesis;
mod loss;
mod pacing;
mod parking;
pub(crate) mod protocol;
mod range;
mod reader;
mod reply;
mod stream;
mod survey;
mod telling;
mod tree;
mod trouble;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use aggregated::ForeignRecords;
pub use coordinator::Coordinator;
pub use error::{Call, Fault, ReadError, SourceError};
pub use kinesis::Kinesis;
#[cfg(any(test, fuzzing))]
pub(crate) use kinesis::read_reply;
pub use loss::{LostRange, OnDataLoss, overdue};
pub use protocol::{QuickJson, RecordShelf};
#[cfg(any(test, fuzzing))]
pub(crate) use stream::ReadReply;
pub use stream::{KinesisConfig, ListedShard, Status, StreamDescription, StreamTarget};
pub use survey::{describe, oldest_record};

use crate::checkpoint::TimeRange;

/// Where a stream that the ledger does not know yet is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartPosition {
    /// From the oldest record that is still there.
    #[default]
    TrimHorizon,
    /// From the moment of the first start. Pinned to that moment, so that no reshard loses a record.
    Latest,
    /// From the first record that arrived at or after this time (epoch ms).
    At(i64),
}

/// How a stream is read.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceOptions {
    /// For a stream that the ledger does not know yet; ignored ever after.
    pub start: StartPosition,
    /// When records were trimmed before they were read.
    pub on_data_loss: OnDataLoss,
    /// What to do with records of aggregates that belong to other shards.
    pub foreign_records: ForeignRecords,
    /// GetRecords calls a second and shard, of the five that all consumers share.
    pub reads_per_second: f64,
    /// How far ahead of the slowest shard one may be read, by arrival times.
    pub align_within: Duration,
    /// The writer's, which sets the rhythm in which a fenced shard is looked at again.
    pub flush_interval: Duration,
    /// Only what arrived then, and the end when there is no more of it; `start` is its beginning. Default: everything,
    /// for ever.
    pub range: Option<TimeRange>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            start: StartPosition::default(),
            on_data_loss: OnDataLoss::default(),
            foreign_records: ForeignRecords::default(),
            reads_per_second: 4.0,
            align_within: Duration::from_secs(600),
            flush_interval: Duration::from_secs(5),
            range: None,
        }
    }
}

/// The waits that are not the user's to choose. The default is what Kinesis's own limits ask for; an embedded
/// server, which has none, is read faster in tests.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Between reads of one shard, instead of what `reads_per_second` says.
    read_interval: Option<Duration>,
    /// Iterators expire after 300 s; one that has waited this long for memory is not worth a try.
    iterator_age_max: Duration,
    /// Upper bound of the jittered wait between listings: children are found by their parents' end, so this finds
    /// only what nobody told us.
    relist: Duration,
    /// Until a listing that looks wrong is looked at again.
    relist_soon: Duration,
    /// Upper bound of the growing wait for a person to mend something.
    retry_slowly: Duration,
    /// How often a reader that waits for memory or for the writer says how much time is left.
    tell_headroom: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            read_interval: None,
            iterator_age_max: Duration::from_secs(270),
            relist: Duration::from_secs(30),
            relist_soon: Duration::from_secs(1),
            retry_slowly: Duration::from_secs(60),
            tell_headroom: Duration::from_secs(10),
        }
    }
}
