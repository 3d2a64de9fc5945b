//! What can go wrong between us and Kinesis, and what to do about it.
//!
//! Every failed call becomes a [`ReadError`]; [`ReadError::action`] is the one place that says what follows. Loops
//! only match the [`Action`], so that the whole policy is one table that a test can read arm by arm. Two rules
//! stand above the table: no error ever gives up a position, and none is passed over in silence.

use std::fmt;

use super::loss::LostRange;
use crate::checkpoint::LedgerClosed;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A call that Kinesis was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `DescribeStreamSummary`.
    DescribeStream,
    /// `ListShards`.
    ListShards,
    /// `GetShardIterator`.
    GetShardIterator,
    /// `GetRecords`.
    GetRecords,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DescribeStream => "DescribeStreamSummary",
            Self::ListShards => "ListShards",
            Self::GetShardIterator => "GetShardIterator",
            Self::GetRecords => "GetRecords",
        })
    }
}

/// How a call failed, as far as it matters to what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The shard's (or the account's) rate is used up.
    Throttled,
    /// Too many control-plane calls, or the stream is being changed.
    Busy,
    /// KMS is throttled; it passes.
    KmsThrottled,
    /// KMS refuses to decrypt; somebody has to mend the key or its policy.
    KmsRefused,
    /// The iterator is older than five minutes.
    ExpiredIterator,
    /// The listing's token is older than five minutes.
    ExpiredNextToken,
    /// No such stream or shard.
    NotFound,
    /// Kinesis does not accept what we asked.
    InvalidArgument,
    /// No permission, or credentials that Kinesis does not accept.
    AccessDenied,
    /// The request never left: no credentials, no region.
    NotSent,
    /// 5xx, a timeout, a connection that broke or never came to be.
    Unavailable,
    /// An answer that contradicts itself or the API.
    InvalidReply,
    /// An error code that this version does not know.
    Unknown,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Throttled => "throttled",
            Self::Busy => "Kinesis is busy with this stream",
            Self::KmsThrottled => "KMS is throttled",
            Self::KmsRefused => "KMS refuses to decrypt; check the stream's key and its policy",
            Self::ExpiredIterator => "the shard iterator has expired",
            Self::ExpiredNextToken => "the listing's token has expired",
            Self::NotFound => "not found",
            Self::InvalidArgument => "Kinesis does not accept the request",
            Self::AccessDenied => "access denied; check the credentials and the role's policy",
            Self::NotSent => {
                "the request could not be signed or addressed; check credentials, region and endpoint (an emulator takes \
                 any AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, but not none)"
            }
            Self::Unavailable => "Kinesis cannot be reached or failed",
            Self::InvalidReply => "the answer makes no sense",
            Self::Unknown => "unexpected error",
        })
    }
}

/// One failed call.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {fault}")]
pub struct ReadError {
    /// What was asked.
    pub call: Call,
    /// How it failed.
    pub fault: Fault,
    /// What the SDK, or the check that failed, has to say.
    #[source]
    pub cause: Cause,
}

impl ReadError {
    /// An error with its cause: the SDK's error, or a text.
    pub fn new(call: Call, fault: Fault, cause: impl Into<Cause>) -> Self {
        Self { call, fault, cause: cause.into() }
    }

    /// What to do about it.
    pub fn action(&self) -> Action {
        action(self.call, self.fault)
    }
}

/// What follows from a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask again with the same iterator when the shard's pace allows it: a new iterator would cost calls of the
    /// same scarce kind.
    AwaitPace,
    /// Ask the same again after 100 ms to 5 s: a read changes nothing.
    Backoff,
    /// Get a new iterator after the last number read, at once.
    RenewIterator,
    /// The same, after a backoff: the answer was wrong and may be so again.
    RenewIteratorAfterBackoff,
    /// The shard was trimmed or its stream deleted: the coordinator finds out which.
    SettleShard,
    /// The start position is not accepted: trimmed, or of another stream of this name.
    SettleStart,
    /// List from the first page.
    RestartListing,
    /// The stream is not there.
    StreamMissing,
    /// Only a person can mend it: say so, try again after a second, and then ever more rarely, up to a minute.
    RetrySlowly,
}

impl Action {
    /// The metric's label for a failed read.
    pub fn label(self) -> &'static str {
        match self {
            Self::AwaitPace => "throttled",
            Self::RenewIterator => "expired_iterator",
            Self::RenewIteratorAfterBackoff => "invalid",
            Self::Backoff | Self::RestartListing => "retried",
            Self::SettleShard | Self::SettleStart | Self::StreamMissing | Self::RetrySlowly => "refused",
        }
    }
}

/// The table: a failed call to what follows.
fn action(call: Call, fault: Fault) -> Action {
    let of_shard = matches!(call, Call::GetRecords | Call::GetShardIterator);
    match fault {
        Fault::Throttled if of_shard => Action::AwaitPace,
        Fault::Throttled | Fault::Busy | Fault::KmsThrottled | Fault::Unavailable => Action::Backoff,
        Fault::ExpiredIterator => Action::RenewIterator,
        Fault::ExpiredNextToken => Action::RestartListing,
        Fault::NotFound if of_shard => Action::SettleShard,
        Fault::NotFound => Action::StreamMissing,
        Fault::InvalidArgument => match call {
            Call::GetRecords => Action::RenewIteratorAfterBackoff,
            Call::GetShardIterator => Action::SettleStart,
            Call::DescribeStream | Call::ListShards => Action::RetrySlowly,
        },
        Fault::InvalidReply if call == Call::GetRecords => Action::RenewIteratorAfterBackoff,
        Fault::InvalidReply => Action::Backoff,
        Fault::KmsRefused | Fault::AccessDenied | Fault::NotSent | Fault::Unknown => Action::RetrySlowly,
    }
}

/// Why reading a stream came to an end before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No such stream when we started.
    #[error("stream {stream} does not exist; check its name, the region and the endpoint")]
    NotFound {
        /// As configured.
        stream: String,
        /// What Kinesis said.
        #[source]
        source: ReadError,
    },
    /// Kinesis does not let us read the stream, found when we started.
    #[error("stream {stream} cannot be read")]
    Refused {
        /// As configured.
        stream: String,
        /// What Kinesis said.
        #[source]
        source: ReadError,
    },
    /// The stream was deleted and created again under the same name: the ledger's positions mean nothing in it.
    #[error(
        "stream {stream} was created anew (epoch {found_s}, read until now: {known_s}); restart to read the new stream"
    )]
    Recreated {
        /// Its name.
        stream: String,
        /// Creation time of the stream that was read, epoch seconds.
        known_s: i64,
        /// Creation time of the stream that is there now, epoch seconds.
        found_s: i64,
    },
    /// Records were trimmed before they were read, and `on_data_loss` is `fail`.
    #[error("records were trimmed before they were read: {0}; set on_data_loss = \"continue\" to go on without them")]
    DataLoss(Box<LostRange>),
    /// The stream's writer has gone, and with it the reason to read.
    #[error(transparent)]
    Ledger(#[from] LedgerClosed),
    /// A reader panicked.
    #[error("a shard reader failed")]
    Reader(#[from] tokio::task::JoinError),
    /// Told to stop before the stream was found.
    #[error("stopped before stream {stream} could be reached")]
    Cancelled {
        /// As configured.
        stream: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_every_call_has_the_action_of_the_table() {
        use Action::*;
        use Call::*;
        let table = [
            (Fault::Throttled, [Backoff, Backoff, AwaitPace, AwaitPace]),
            (Fault::Busy, [Backoff; 4]),
            (Fault::KmsThrottled, [Backoff; 4]),
            (Fault::KmsRefused, [RetrySlowly; 4]),
            (Fault::ExpiredIterator, [RenewIterator; 4]),
            (Fault::ExpiredNextToken, [RestartListing; 4]),
            (Fault::NotFound, [StreamMissing, StreamMissing, SettleShard, SettleShard]),
            (Fault::InvalidArgument, [RetrySlowly, RetrySlowly, SettleStart, RenewIteratorAfterBackoff]),
            (Fault::AccessDenied, [RetrySlowly; 4]),
            (Fault::NotSent, [RetrySlowly; 4]),
            (Fault::Unavailable, [Backoff; 4]),
            (Fault::InvalidReply, [Backoff, Backoff, Backoff, RenewIteratorAfterBackoff]),
            (Fault::Unknown, [RetrySlowly; 4]),
        ];
        for (fault, actions) in table {
            for (call, expected) in [DescribeStream, ListShards, GetShardIterator, GetRecords].into_iter().zip(actions)
            {
                assert_eq!(ReadError::new(call, fault, "why").action(), expected, "{call} {fault:?}");
            }
        }
    }

    #[test]
    fn the_chain_names_the_call_the_mend_and_the_cause() {
        let error = ReadError::new(Call::GetRecords, Fault::KmsRefused, "KMSDisabledException: key is disabled");
        assert_eq!(
            crate::error_chain::chain(&error),
            "GetRecords: KMS refuses to decrypt; check the stream's key and its policy: \
             KMSDisabledException: key is disabled"
        );
    }
}
