//! What Kinesis says, in our own words: a stream, its shards, one read's answer.

use std::time::Duration;

use crate::checkpoint::ShardId;
use crate::record::{Heir, RawRecord};

/// Where Kinesis is. Credentials always come from the SDK's default chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KinesisConfig {
    /// Default: the chain's.
    pub region: Option<String>,
    /// Default: the region's.
    pub endpoint: Option<String>,
}

/// A stream as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamTarget {
    /// In the client's own account.
    Name(String),
    /// Anywhere.
    Arn(String),
}

impl StreamTarget {
    /// What starts with `arn:` is an ARN.
    pub fn new(name_or_arn: &str) -> Self {
        if name_or_arn.starts_with("arn:") {
            Self::Arn(name_or_arn.to_owned())
        } else {
            Self::Name(name_or_arn.to_owned())
        }
    }

    /// As the user wrote it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(text) | Self::Arn(text) => text,
        }
    }

    /// (name, ARN), of which a call takes one.
    pub(super) fn split(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Name(name) => (Some(name.clone()), None),
            Self::Arn(arn) => (None, Some(arn.clone())),
        }
    }
}

/// What Kinesis says of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDescription {
    /// How it was asked for, and is asked for again.
    pub target: StreamTarget,
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// When it was created, epoch seconds: tells a stream from a later one of the same name.
    pub created_s: i64,
    /// How long it keeps records.
    pub retention: Duration,
    /// Shards that accept records.
    pub open_shards: usize,
    /// Whether it can be read.
    pub status: Status,
}

impl StreamDescription {
    /// What arrived before this (epoch ms) is trimmed.
    pub fn horizon_ms(&self, now_ms: i64) -> i64 {
        now_ms - self.retention_ms()
    }

    /// How long it keeps records.
    pub fn retention_ms(&self) -> i64 {
        i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX / 2)
    }
}

/// A stream's life, as far as a reader cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not to be read yet.
    Creating,
    /// Active, or being resharded.
    Readable,
    /// On its way out.
    Deleting,
}

/// One shard of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedShard {
    /// Its name.
    pub id: ShardId,
    /// None, one (a split) or two (a merge).
    pub parents: Vec<ShardId>,
    /// Hash keys, inclusive.
    pub hash_range: Option<(u128, u128)>,
    /// Accepts no more records.
    pub closed: bool,
}

/// What one read brought.
#[derive(Debug, PartialEq)]
pub struct ReadReply {
    /// In order.
    pub records: Vec<RawRecord>,
    /// Their payload bytes.
    pub bytes: u64,
    /// Absent at the end of a closed shard.
    pub next: Option<String>,
    /// `MillisBehindLatest`.
    pub behind_ms: i64,
    /// The children, if the reply names them credibly: each has a name and parents.
    pub children: Vec<Heir>,
    /// The response's `Date`, epoch ms (whole seconds).
    pub date_ms: Option<i64>,
}

impl ReadReply {
    /// How much of the shard's time is still to be read: as long as the newest record is old, if more than it says. Some
    /// endpoints always say that nothing is left.
    pub fn behind(&self) -> Duration {
        let arrived_us = self.records.iter().map(|record| record.arrived_at_us).max();
        let age_ms = self.date_ms.zip(arrived_us).map_or(0, |(date_ms, arrived_us)| date_ms - arrived_us / 1000);
        Duration::from_millis(self.behind_ms.max(age_ms).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::checkpoint::SequenceNumber;

    #[test]
    fn a_reply_is_behind_by_what_it_says_or_by_the_age_of_its_newest_record() {
        let reply = |behind_ms, arrived_us: Option<i64>, date_ms| ReadReply {
            records: Vec::from_iter(arrived_us.map(|arrived_at_us| RawRecord {
                data: Bytes::new(),
                sequence_number: SequenceNumber::from_count(1),
                sub_sequence_number: 0,
                arrived_at_us,
                refused: None,
            })),
            bytes: 0,
            next: None,
            behind_ms,
            children: Vec::new(),
            date_ms,
        };
        let behind_ms = |behind_ms, arrived_us, date_ms| reply(behind_ms, arrived_us, date_ms).behind().as_millis();
        assert_eq!(behind_ms(0, Some(5_000_000), Some(65_000)), 60_000);
        assert_eq!(behind_ms(90_000, Some(5_000_000), Some(65_000)), 90_000);
        assert_eq!(behind_ms(0, Some(5_000_000), Some(4_000)), 0, "the date has whole seconds");
        assert_eq!((behind_ms(0, None, Some(65_000)), behind_ms(7, Some(5_000_000), None)), (0, 7));
        assert_eq!(behind_ms(0, Some(i64::MAX), Some(0)), 0);
    }
}
