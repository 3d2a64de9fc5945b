//! What a stream's readers share, and the words between a reader and its coordinator.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio_util::sync::CancellationToken;

use super::alignment::Alignment;
use super::kinesis::Kinesis;
use super::loss::LostRange;
use super::stream::StreamDescription;
use super::trouble::Troubles;
use super::{SourceOptions, StartPosition, Timing};
use crate::budget::Budget;
use crate::clock;
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
    /// As of the last look at the stream: anybody may change it at any time.
    pub retention_ms: AtomicI64,
}

impl<S> Context<S> {
    /// How long the stream keeps records.
    pub fn retention_ms(&self) -> i64 {
        self.retention_ms.load(Ordering::Relaxed)
    }

    /// What arrived before this (epoch ms) is trimmed.
    pub fn horizon_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.retention_ms())
    }

    /// The stream was looked at anew.
    pub fn described(&self, description: &StreamDescription) {
        let retention_ms = description.retention_ms();
        let before_ms = self.retention_ms.swap(retention_ms, Ordering::Relaxed);
        if before_ms != retention_ms {
            tracing::info!(stream = self.stream.name, before_ms, retention_ms, "the stream's retention was changed");
        }
    }

    /// What the ledger keeps as the start of the shards that it is told first, epoch ms; 0 is the oldest record.
    /// `pinned_ms` is what `latest` means.
    pub fn start_ms(&self, pinned_ms: i64) -> i64 {
        if let Some(range) = self.options.range {
            // Beyond the retention it is a loss, which the readers tell; before the stream was made there was nothing.
            return range.from_ms.max(self.stream.created_s.saturating_mul(1000)).max(1);
        }
        match self.options.start {
            StartPosition::TrimHorizon => 0,
            StartPosition::Latest => pinned_ms,
            // What is asked for beyond the retention was never there to be lost: it means the oldest record.
            StartPosition::At(ms) if ms <= self.horizon_ms(clock::now_ms()) => 0,
            StartPosition::At(ms) => ms.max(0),
        }
    }
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
