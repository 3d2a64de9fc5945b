//! What a stream's readers share, and the words between a reader and its coordinator.

use std::future::Future;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::alignment::Alignment;
use super::kinesis::Kinesis;
use super::loss::LostRange;
use super::stream::StreamDescription;
use super::trouble::Troubles;
use super::{SourceOptions, Timing};
use crate::budget::Budget;
use crate::cores::Cores;
use crate::metrics::StreamMetrics;
use crate::record::ShardGrant;
use crate::status::StreamBoard;

/// What the readers of one stream share.
#[derive(Debug)]
pub(super) struct Context<S> {
    pub kinesis: Kinesis,
    pub stream: StreamDescription,
    pub budget: Budget,
    pub sink: Arc<S>,
    /// One permit a core, shared by all streams.
    pub cores: Cores,
    pub metrics: StreamMetrics,
    pub board: StreamBoard,
    pub troubles: Troubles,
    pub alignment: Alignment,
    pub options: SourceOptions,
    pub timing: Timing,
}

/// Why a reader stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReaderExit {
    /// The shard's end is committed.
    Ended,
    /// It was told to, or nobody takes its batches any more.
    Stopped,
    /// Its right to the shard was taken away.
    Fenced,
    /// Kinesis does not know the shard (any more).
    Missing,
    /// Kinesis does not accept the position that reading should go on from.
    Refused,
    /// Records were trimmed before they were read, and the policy is not to go on.
    Lost(Box<LostRange>),
}

/// Both ways in which a reader is told to stop.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    pub grant: ShardGrant,
    pub cancel: CancellationToken,
}

impl Stop {
    /// What `work` gives, unless the reader is told to stop before; then `work` is dropped.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, ReaderExit> {
        tokio::select! {
            biased;
            () = self.grant.revoked() => Err(ReaderExit::Fenced),
            () = self.cancel.cancelled() => Err(ReaderExit::Stopped),
            done = work => Ok(done),
        }
    }
}
