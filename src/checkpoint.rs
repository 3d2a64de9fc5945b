//! How far we are: sequence numbers, positions, and the questions that the rest of the house asks the ledger.
//!
//! A position is always *after* something: the last number that was processed, never the next one to read. It
//! travels with the data it covers as a [`PositionRange`] and is committed together with it.

mod digits;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

pub use digits::SequenceDigits;

use crate::limits::SEQUENCE_DIGITS_MAX;

const LIMB_DIGITS: usize = 18;
const LIMBS: usize = SEQUENCE_DIGITS_MAX / LIMB_DIGITS;
const LIMB_BASE: i64 = 1_000_000_000_000_000_000;
const REPLAY_PREFIX: &str = "replay-";

// === ShardId ===

/// A shard's name as Kinesis gives it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(Arc<str>);

impl ShardId {
    /// Takes any text; Kinesis's own form is `shardId-000000000000`.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(Arc::from(id.as_ref()))
    }

    /// The name under which the ledger keeps the `number`th replay of a stream's rejects, as if it were a shard.
    pub fn of_replay(number: u64) -> Self {
        Self::new(format!("{REPLAY_PREFIX}{number}"))
    }

    /// The number of the replay, if it is one and no shard of Kinesis.
    pub fn replay(&self) -> Option<u64> {
        self.0.strip_prefix(REPLAY_PREFIX)?.parse().ok()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for ShardId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === SequenceNumber ===

/// A Kinesis sequence number: a decimal of up to 72 digits (56 in practice), parsed once at the edge.
///
/// Held as four limbs of 18 decimal digits, most significant first, so that the derived order is the numeric
/// order and the ledger stores it as it is. The API allows 129 digits; beyond 72 it is refused, never cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber([i64; LIMBS]);

/// Why a text is no sequence number that the ledger can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SequenceNumberError {
    /// Not `0` and not digits without a leading zero (Kinesis API: `0|([1-9]\d{0,128})`).
    #[error("{0:?} is not a sequence number (expected `0` or digits without a leading zero)")]
    NotDecimal(String),
    /// More digits than the four limbs hold.
    #[error("sequence number {0} has more than {SEQUENCE_DIGITS_MAX} digits, which the ledger cannot hold")]
    TooLong(String),
    /// A limb read from a table is outside 0..10^18.
    #[error("limbs {0:?} are not a sequence number (each must be in 0..10^18)")]
    BadLimbs([i64; LIMBS]),
}

impl SequenceNumber {
    /// Parses Kinesis's decimal text.
    pub fn parse(text: &str) -> Result<Self, SequenceNumberError> {
        let digits = text.as_bytes();
        let leading_zero = digits.len() > 1 && digits[0] == b'0';
        if digits.is_empty() || leading_zero || !digits.iter().all(u8::is_ascii_digit) {
            return Err(SequenceNumberError::NotDecimal(text.chars().take(140).collect()));
        }
        if digits.len() > SEQUENCE_DIGITS_MAX {
            return Err(SequenceNumberError::TooLong(text.chars().take(140).collect()));
        }
        let mut limbs = [0i64; LIMBS];
        for (limb, chunk) in limbs.iter_mut().rev().zip(digits.rchunks(LIMB_DIGITS)) {
            let (eights, rest) = chunk.as_chunks();
            let value = eights.iter().fold(0, |value, eight| value * 100_000_000 + digits::eight(*eight));
            *limb = rest.iter().fold(value, |value, digit| value * 10 + i64::from(digit - b'0'));
        }
        Ok(Self(limbs))
    }

    /// A plain count, for what has no numbers of Kinesis's: the position of a replay.
    pub fn from_count(count: u64) -> Self {
        let limb_base = LIMB_BASE.unsigned_abs();
        let mut limbs = [0i64; LIMBS];
        limbs[LIMBS - 2] = i64::try_from(count / limb_base).unwrap_or_default();
        limbs[LIMBS - 1] = i64::try_from(count % limb_base).unwrap_or_default();
        Self(limbs)
    }

    /// The inverse of [`Self::from_count`]; `None` for a number beyond every count.
    pub fn to_count(self) -> Option<u64> {
        let [0, 0, high, low] = self.0 else { return None };
        let high = u64::try_from(high).ok()?.checked_mul(LIMB_BASE.unsigned_abs())?;
        high.checked_add(u64::try_from(low).ok()?)
    }

    /// The ledger's form: 18 decimal digits a limb, most significant first.
    pub fn to_limbs(self) -> [i64; LIMBS] {
        self.0
    }

    /// The inverse of [`Self::to_limbs`]; refuses what no `to_limbs` can have produced.
    pub fn from_limbs(limbs: [i64; LIMBS]) -> Result<Self, SequenceNumberError> {
        if limbs.iter().all(|limb| (0..LIMB_BASE).contains(limb)) {
            Ok(Self(limbs))
        } else {
            Err(SequenceNumberError::BadLimbs(limbs))
        }
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SequenceDigits::default().of(*self))
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === Position ===

/// Where a shard stands. `End` is storable: "this shard is finished" is a fact of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// Nothing read; start with the oldest record there is.
    Beginning,
    /// Nothing read; start with the first record that arrived at or after this time (epoch ms).
    At(i64),
    /// Everything up to and including this number is done.
    After(SequenceNumber),
    /// The shard is closed and everything in it is done.
    End,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("beginning"),
            Self::At(ms) => write!(f, "at {ms} ms"),
            Self::After(number) => write!(f, "after {number}"),
            Self::End => f.write_str("end"),
        }
    }
}

/// Arrival times, epoch ms: from the first one on, up to before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// The first one.
    pub from_ms: i64,
    /// The first one after it.
    pub to_ms: i64,
}

impl TimeRange {
    /// Whether a record that arrived then (epoch us) is of it.
    pub fn holds(self, arrived_at_us: i64) -> bool {
        (self.from_ms..self.to_ms).contains(&arrived_at_us.div_euclid(1000))
    }
}

impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |ms: i64| {
            let time = chrono::DateTime::from_timestamp_millis(ms);
            time.map_or_else(|| format!("{ms} ms"), |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        };
        write!(f, "{} to {}", shown(self.from_ms), shown(self.to_ms))
    }
}

/// What a batch covers of one shard: (after, through]. It comes from the response, never from the records that
/// survived cleaning. `through == after` says "nothing new, but seen until later".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionRange {
    /// The shard.
    pub shard: ShardId,
    /// The position that this batch starts from, exclusive.
    pub after: Position,
    /// The last number of the response, inclusive; `After(..)`, or equal to `after` if it held no record.
    pub through: Position,
}

// === The ledger, as the other rooms see it ===

/// What the ledger knows of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardEntry {
    /// Where a shard without a position starts: epoch ms, 0 = from the beginning.
    pub start_ms: i64,
    /// The last number whose row or reject is committed.
    pub position: Option<SequenceNumber>,
    /// Closed, and everything in it committed.
    pub ended: bool,
    /// Arrival time (epoch ms) up to which the shard is known to be complete.
    pub seen_ms: Option<i64>,
    /// How far event time has come in what is committed of it, epoch ms. None yet: minus infinity.
    pub watermark_ms: Option<i64>,
}

impl ShardEntry {
    /// Registered a moment ago: nothing of it is read, nothing is known.
    pub const NEW: Self = Self { start_ms: 0, position: None, ended: false, seen_ms: None, watermark_ms: None };

    /// Where reading goes on.
    pub fn resume(&self) -> Position {
        match (self.ended, self.position, self.start_ms) {
            (true, _, _) => Position::End,
            (false, Some(number), _) => Position::After(number),
            (false, None, 0) => Position::Beginning,
            (false, None, start_ms) => Position::At(start_ms),
        }
    }
}

/// The ledger of one stream (of one creation epoch) at one version of its rows table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerView {
    /// Version of the rows table's log.
    pub version: u64,
    /// Every registered shard.
    pub shards: BTreeMap<ShardId, ShardEntry>,
}

impl LedgerView {
    /// The stream's watermark, epoch ms: the lowest of its open shards'. None if one of them has none, and if no shard
    /// is open: those that come next may begin anywhere. A replay of rejects is no shard of the stream: what it
    /// recovers is late, and it may lie there unfinished for ever.
    pub fn watermark_ms(&self) -> Option<i64> {
        self.watermark_with(|_| None)
    }

    /// As [`Self::watermark_ms`], if some shards were further on, as `more_ms` says.
    pub fn watermark_with(&self, more_ms: impl Fn(&ShardId) -> Option<i64>) -> Option<i64> {
        let open = self.shards.iter().filter(|(shard, entry)| !entry.ended && shard.replay().is_none());
        // `None` is less than every time, and is what the minimum of nothing is.
        open.map(|(shard, entry)| entry.watermark_ms.max(more_ms(shard))).min().flatten()
    }

    /// Time (epoch ms) at which the shard that was begun last was begun; 0 if all were at their beginning.
    pub fn begun_ms(&self) -> i64 {
        self.shards.values().map(|entry| entry.start_ms).max().unwrap_or(0)
    }

    /// Time (epoch ms) before which records may have been read already; `None` if no shard is known.
    pub fn read_until_ms(&self) -> Option<i64> {
        let entries = self.shards.values();
        entries.map(|entry| entry.start_ms.max(entry.seen_ms.max(entry.watermark_ms).unwrap_or(0))).max()
    }
}

/// A shard that enters the ledger before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The shard.
    pub shard: ShardId,
    /// Epoch ms to start from; 0 = from the beginning.
    pub start_ms: i64,
    /// Already finished: it ended before the configured start, or its records are gone.
    pub ended: bool,
}

/// What the coordinator asks of the stream's writer, which owns the ledger.
#[derive(Debug)]
pub enum LedgerRequest {
    /// The ledger as the writer knows it; with `refresh`, after reading what others have committed.
    View {
        /// Read the log's new entries first.
        refresh: bool,
        /// The answer.
        reply: oneshot::Sender<LedgerView>,
    },
    /// Commit these shards if the ledger does not have them yet, without rows. Shards that it has keep what it
    /// says: the answer is the truth, whoever wrote it first.
    Register {
        /// The shards to add.
        shards: Vec<Registration>,
        /// The ledger afterwards.
        reply: oneshot::Sender<LedgerView>,
    },
    /// End a shard that Kinesis no longer lists, and register its listed descendants, in one commit. They are
    /// complete up to where it was.
    EndLost {
        /// The vanished shard.
        shard: ShardId,
        /// The position that the caller saw; if the ledger has moved since, nothing is written.
        expected: Position,
        /// Descendants that Kinesis still lists.
        descendants: Vec<ShardId>,
        /// The ledger afterwards.
        reply: oneshot::Sender<LedgerView>,
    },
}

/// The writer has gone (it failed or is shutting down); whoever asked should stop too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream's writer has stopped")]
pub struct LedgerClosed;

/// A door to one stream's ledger. Cheap to clone; every call waits for the writer.
#[derive(Debug, Clone)]
pub struct LedgerHandle(mpsc::Sender<LedgerRequest>);

impl LedgerHandle {
    /// A handle and the requests that its owner must serve.
    pub fn channel() -> (Self, mpsc::Receiver<LedgerRequest>) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(sender), receiver)
    }

    /// See [`LedgerRequest::View`].
    pub async fn view(&self, refresh: bool) -> Result<LedgerView, LedgerClosed> {
        self.ask(|reply| LedgerRequest::View { refresh, reply }).await
    }

    /// See [`LedgerRequest::Register`].
    pub async fn register(&self, shards: Vec<Registration>) -> Result<LedgerView, LedgerClosed> {
        self.ask(|reply| LedgerRequest::Register { shards, reply }).await
    }

    /// See [`LedgerRequest::EndLost`].
    pub async fn end_lost(
        &self,
        shard: ShardId,
        expected: Position,
        descendants: Vec<ShardId>,
    ) -> Result<LedgerView, LedgerClosed> {
        self.ask(|reply| LedgerRequest::EndLost { shard, expected, descendants, reply }).await
    }

    async fn ask(
        &self,
        request: impl FnOnce(oneshot::Sender<LedgerView>) -> LedgerRequest,
    ) -> Result<LedgerView, LedgerClosed> {
        let (reply, answer) = oneshot::channel();
        self.0.send(request(reply)).await.map_err(|_| LedgerClosed)?;
        answer.await.map_err(|_| LedgerClosed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn limbs_round_trip_and_keep_the_numeric_order(
            a in "0|[1-9][0-9]{0,71}",
            b in "0|[1-9][0-9]{0,71}",
        ) {
            let (x, y) = (SequenceNumber::parse(&a).unwrap(), SequenceNumber::parse(&b).unwrap());
            prop_assert_eq!(x.to_string(), a.clone());
            prop_assert_eq!(SequenceNumber::from_limbs(x.to_limbs()).unwrap(), x);
            prop_assert_eq!(x.cmp(&y), (a.len(), &a).cmp(&(b.len(), &b)));
        }
    }

    #[test]
    fn a_count_is_a_number_that_comes_back() {
        for count in [0, 1, LIMB_BASE.unsigned_abs() - 1, LIMB_BASE.unsigned_abs(), u64::MAX] {
            let number = SequenceNumber::from_count(count);
            assert_eq!((number.to_string(), number.to_count()), (count.to_string(), Some(count)));
        }
        let beyond = SequenceNumber::parse("18446744073709551616").unwrap();
        assert_eq!(beyond.to_count(), None);
    }

    #[test]
    fn a_replay_is_told_from_a_shard() {
        assert_eq!(ShardId::of_replay(7).replay(), Some(7));
        for shard in ["shardId-000000000007", "replay-", "replay-x", "7"] {
            assert_eq!(ShardId::new(shard).replay(), None, "{shard}");
        }
    }

    #[test]
    fn what_is_no_sequence_number_is_refused() {
        for text in ["", "-1", "01", "12a", " 1", "TRIM_HORIZON"] {
            assert!(matches!(SequenceNumber::parse(text), Err(SequenceNumberError::NotDecimal(_))), "{text}");
        }
        let long = "9".repeat(73);
        assert_eq!(SequenceNumber::parse(&long), Err(SequenceNumberError::TooLong(long.clone())));
        assert!(SequenceNumber::from_limbs([0, 0, -1, 0]).is_err());
        assert!(SequenceNumber::from_limbs([LIMB_BASE, 0, 0, 0]).is_err());
    }
}
