//! The data-loss alarm: which records were trimmed before they were read, as exactly as can be known.
//!
//! Kinesis forgets records at the end of the retention without a word: reading from a position that was trimmed
//! just goes on with what is left. So nobody is told but by this alarm, which says between which two numbers and
//! between which two times records may be missing.

use std::fmt;

use super::coverage::Coverage;
use super::stream::{ListedShard, StreamDescription};
use super::tree;
use crate::checkpoint::{LedgerView, Position, SequenceNumber, ShardEntry, ShardId};
use crate::metrics::StreamMetrics;
use crate::status::StreamBoard;

/// What to do when records were trimmed before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDataLoss {
    /// Alarm, then stop: a person decides.
    #[default]
    Fail,
    /// Alarm, then go on with what is left.
    Continue,
}

/// A range in which records may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRange {
    /// The stream.
    pub stream: String,
    /// The shard.
    pub shard: ShardId,
    /// The last position that was processed.
    pub after: Position,
    /// The first record that is still there; none if nothing is left of the shard.
    pub first: Option<SequenceNumber>,
    /// Arrival time (epoch ms) up to which the shard was known to be complete.
    pub seen_ms: Option<i64>,
    /// The oldest arrival time (epoch ms) that the retention still covers.
    pub horizon_ms: i64,
}

impl fmt::Display for LostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}, {}, positions ({}, ", self.stream, self.shard, self.after)?;
        match self.first {
            Some(number) => write!(f, "{number}]")?,
            None => f.write_str("newest]")?,
        }
        let seen = self.seen_ms.map_or_else(|| "unknown".to_owned(), |ms| ms.to_string());
        write!(f, ", arrived in ({seen}, {}] (epoch ms)", self.horizon_ms)
    }
}

/// What reading would raise the alarm for at `now_ms`, before anything is read: shards of the ledger that Kinesis no
/// longer lists, and those that are known to be complete up to a time that the retention no longer covers.
pub fn overdue(stream: &StreamDescription, listed: &[ListedShard], ledger: &LedgerView, now_ms: i64) -> Vec<LostRange> {
    let (horizon_ms, vanished) = (stream.horizon_ms(now_ms), tree::plan(listed, ledger).lost);
    let is_overdue = |id: &ShardId, entry: &ShardEntry| {
        let is_young = entry.resume() == Position::Beginning && tree::is_young(listed, id);
        !is_young && Coverage::of(entry).is_suspect(horizon_ms, false)
    };
    let open = tree::known(ledger).filter_map(|id| Some((id, ledger.shards.get(id).filter(|entry| !entry.ended)?)));
    let overdue = open.filter(|(id, entry)| vanished.contains(id) || is_overdue(id, entry));
    let range = |(id, entry): (&ShardId, &ShardEntry)| LostRange {
        stream: stream.name.clone(),
        shard: id.clone(),
        after: entry.resume(),
        first: None,
        seen_ms: Coverage::of(entry).seen_ms(),
        horizon_ms,
    };
    overdue.map(range).collect()
}

/// Raises the alarm and says whether to go on. Under `fail` the stream is in trouble until somebody decides;
/// under `continue` it goes on reading, and is ready.
pub fn alarm(range: &LostRange, policy: OnDataLoss, metrics: &StreamMetrics, board: &StreamBoard) -> bool {
    metrics.data_loss();
    board.lost(&range.shard, range.to_string());
    tracing::error!(
        stream = range.stream,
        shard = %range.shard,
        after = %range.after,
        first = range.first.map(tracing::field::display),
        seen_ms = range.seen_ms,
        horizon_ms = range.horizon_ms,
        "records were trimmed before they were read"
    );
    match policy {
        OnDataLoss::Fail => {
            board.trouble("data_loss", format!("records were trimmed before they were read: {range}"));
            false
        }
        OnDataLoss::Continue => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_names_both_ends_of_the_range() {
        let mut range = LostRange {
            stream: "s".to_owned(),
            shard: ShardId::new("shardId-000000000003"),
            after: Position::After(SequenceNumber::parse("17").unwrap()),
            first: Some(SequenceNumber::parse("99").unwrap()),
            seen_ms: Some(1_000),
            horizon_ms: 5_000,
        };
        assert_eq!(
            range.to_string(),
            "stream s, shardId-000000000003, positions (after 17, 99], arrived in (1000, 5000] (epoch ms)"
        );
        (range.first, range.seen_ms) = (None, None);
        assert_eq!(
            range.to_string(),
            "stream s, shardId-000000000003, positions (after 17, newest], arrived in (unknown, 5000] (epoch ms)"
        );
    }
}
