//! Positions as Delta application transactions: what is written beside the rows, and what is read back.
//!
//! A sequence number does not fit the i64 of a `txn`, so it is four of them, the limbs; beside them `start`, `end`,
//! `seen` and `watermark`. Names: `{pipeline}/{stream}@{creation epoch, s}/{shard}/{0..3|start|end|seen|watermark}` in
//! the rows table and `{pipeline}/{stream}@{creation epoch, s}/{applied|watermark|since|dropped_through}` in the tables that follow it. A replay of rejects is a shard
//! `replay-{n}` with a part of its own (`replay`), a replayed time range has its bounds beside its shards (`range`).
//! Other last parts are left alone, so that a later version may add some. Everything here is a pure function.

use std::collections::BTreeMap;

use super::error::LakeError;
use super::log::read_table;
use super::store::LakeStore;
use crate::checkpoint::{LedgerView, Position, SequenceNumber, SequenceNumberError, ShardEntry, ShardId};
use crate::error_chain::chain;

const LIMBS: usize = 4;
/// Last part of the application id under which a partials table says from when on it is complete.
pub(crate) const SINCE: &str = "/since";

/// Last part of the application id under which a partials table says before when (epoch ms) its windows' partials are
/// not kept.
const DROPPED_THROUGH: &str = "/dropped_through";

const KNOWN_PARTS: [&str; 8] = ["0", "1", "2", "3", "start", "end", "seen", "watermark"];

/// One stream of one pipeline, from its creation on. A stream that was deleted and made again is another one: its
/// shards have the old names and new numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamIdentity {
    /// The pipeline's name; no `/`, no `@`.
    pub pipeline: String,
    /// The stream's name.
    pub stream: String,
    /// When the stream was created, epoch seconds.
    pub created_at_s: i64,
}

impl StreamIdentity {
    /// What all of its application ids start with.
    pub(crate) fn prefix(&self) -> String {
        format!("{}{}/", self.any_creation(), self.created_at_s)
    }

    /// What the application ids of every stream of this name start with, whenever it was created.
    pub(crate) fn any_creation(&self) -> String {
        format!("{}/{}@", self.pipeline, self.stream)
    }

    /// The application id under which a following table keeps the rows version up to which it is complete.
    pub(crate) fn applied_id(&self) -> String {
        format!("{}applied", self.prefix())
    }

    /// The application id under which a partials table keeps the stream's watermark (epoch ms) as of a rows version that
    /// it has applied.
    pub(crate) fn watermark_id(&self) -> String {
        format!("{}watermark", self.prefix())
    }

    /// The application id under which a partials table keeps the time (epoch ms) from which on no record is missing in
    /// it.
    pub(crate) fn since_id(&self) -> String {
        format!("{}{}", self.prefix().trim_end_matches('/'), SINCE)
    }

    /// The application id under which a partials table keeps the time (epoch ms) before which windows have no partials
    /// any more, or have lost some.
    pub(crate) fn dropped_through_id(&self) -> String {
        format!("{}{}", self.prefix().trim_end_matches('/'), DROPPED_THROUGH)
    }

    /// The identity that an application id belongs to.
    pub(crate) fn of(app_id: &str) -> Option<Self> {
        let (pipeline, rest) = app_id.split_once('/')?;
        let (stream, rest) = rest.split_once('@')?;
        let (created_at_s, _) = rest.split_once('/')?;
        Some(Self {
            pipeline: pipeline.to_owned(),
            stream: stream.to_owned(),
            created_at_s: created_at_s.parse().ok()?,
        })
    }
}

/// The time (epoch ms) before which windows have no partials any more, by a partials table's own word, whichever stream
/// it was of.
pub(crate) fn dropped_through_ms(txns: &BTreeMap<String, i64>) -> Option<i64> {
    txns.iter().filter(|(id, _)| id.ends_with(DROPPED_THROUGH)).map(|(_, ms)| *ms).max()
}

/// Why a table's transactions are no ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("shard {shard} has only some of its four limbs: {limbs:?}")]
    TornLimbs { shard: ShardId, limbs: [Option<i64>; LIMBS] },
    #[error("shard {shard}")]
    BadLimbs {
        shard: ShardId,
        #[source]
        source: SequenceNumberError,
    },
}

/// The ledger that these transactions hold under this prefix.
pub(crate) fn view(prefix: &str, txns: &BTreeMap<String, i64>, version: u64) -> Result<LedgerView, LedgerError> {
    let mut drafts: BTreeMap<ShardId, Draft> = BTreeMap::new();
    for (app_id, value) in txns.range(prefix.to_owned()..) {
        let Some(rest) = app_id.strip_prefix(prefix) else { break };
        let Some((shard, part)) = rest.rsplit_once('/') else { continue };
        if KNOWN_PARTS.contains(&part) {
            drafts.entry(ShardId::new(shard)).or_default().take(part, *value);
        }
    }
    let mut view = LedgerView { version, shards: BTreeMap::new() };
    for (shard, draft) in drafts {
        let entry = draft.finish(&shard)?;
        view.shards.insert(shard, entry);
    }
    Ok(view)
}

#[derive(Default)]
struct Draft {
    limbs: [Option<i64>; LIMBS],
    start_ms: Option<i64>,
    ended: bool,
    seen_ms: Option<i64>,
    watermark_ms: Option<i64>,
}

impl Draft {
    fn take(&mut self, part: &str, value: i64) {
        match part {
            "0" => self.limbs[0] = Some(value),
            "1" => self.limbs[1] = Some(value),
            "2" => self.limbs[2] = Some(value),
            "3" => self.limbs[3] = Some(value),
            "start" => self.start_ms = Some(value),
            "end" => self.ended = value != 0,
            "seen" => self.seen_ms = Some(value),
            "watermark" => self.watermark_ms = Some(value),
            _ => {}
        }
    }

    fn finish(self, shard: &ShardId) -> Result<ShardEntry, LedgerError> {
        let position = match self.limbs {
            [None, None, None, None] => None,
            [Some(a), Some(b), Some(c), Some(d)] => Some(
                SequenceNumber::from_limbs([a, b, c, d])
                    .map_err(|source| LedgerError::BadLimbs { shard: shard.clone(), source })?,
            ),
            limbs => return Err(LedgerError::TornLimbs { shard: shard.clone(), limbs }),
        };
        let Self { limbs: _, start_ms, ended, seen_ms, watermark_ms } = self;
        Ok(ShardEntry { start_ms: start_ms.unwrap_or(0), position, ended, seen_ms, watermark_ms })
    }
}

/// The transactions of one commit, collected shard by shard.
#[derive(Debug, Default)]
pub(crate) struct Txns {
    prefix: String,
    set: BTreeMap<String, i64>,
}

impl Txns {
    /// None yet, under this prefix.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), set: BTreeMap::new() }
    }

    fn put(&mut self, shard: &ShardId, part: &str, value: i64) {
        self.set.insert(format!("{}{shard}/{part}", self.prefix), value);
    }

    /// The shard is done up to and including this number.
    pub fn position(&mut self, shard: &ShardId, through: Position) {
        if let Position::After(number) = through {
            for (part, limb) in ["0", "1", "2", "3"].into_iter().zip(number.to_limbs()) {
                self.put(shard, part, limb);
            }
        }
    }

    /// The shard is known to be complete up to this arrival time.
    pub fn seen(&mut self, view: &LedgerView, shard: &ShardId, seen_ms: Option<i64>) {
        let known_ms = view.shards.get(shard).and_then(|entry| entry.seen_ms);
        self.raise(shard, "seen", known_ms, seen_ms);
    }

    /// Event time has come this far in the shard.
    pub fn watermark(&mut self, view: &LedgerView, shard: &ShardId, watermark_ms: Option<i64>) {
        let known_ms = view.shards.get(shard).and_then(|entry| entry.watermark_ms);
        self.raise(shard, "watermark", known_ms, watermark_ms);
    }

    /// A time never goes back: of the one that is known, those that were told here and this one, the latest holds.
    fn raise(&mut self, shard: &ShardId, part: &str, known_ms: Option<i64>, ms: Option<i64>) {
        let Some(ms) = ms.filter(|ms| known_ms.is_none_or(|known_ms| *ms > known_ms)) else { return };
        let told = self.set.entry(format!("{}{shard}/{part}", self.prefix)).or_insert(ms);
        *told = ms.max(*told);
    }

    /// The shard is finished.
    pub fn end(&mut self, shard: &ShardId) {
        self.put(shard, "end", 1);
    }

    /// The shard enters the ledger, unless it is there already.
    pub fn register(&mut self, view: &LedgerView, shard: &ShardId, start_ms: i64) {
        if !view.shards.contains_key(shard) {
            self.put(shard, "start", start_ms);
        }
    }

    /// What was collected.
    pub fn into_set(self) -> BTreeMap<String, i64> {
        self.set
    }
}

/// One stream's ledger, as found in a rows table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamLedger {
    /// Whose.
    pub identity: StreamIdentity,
    /// What it says.
    pub view: LedgerView,
}

/// Every ledger that a rows table holds, for people: all pipelines, streams and creation epochs. `None` if there is
/// no such table. Reads only.
pub async fn read_ledgers(store: &LakeStore, table: &str) -> Result<Option<Vec<StreamLedger>>, LakeError> {
    let Some(state) = read_table(store, table, "").await? else { return Ok(None) };
    let mut identities: Vec<StreamIdentity> = state.txns.keys().filter_map(|id| StreamIdentity::of(id)).collect();
    identities.sort();
    identities.dedup();
    let mut ledgers = Vec::new();
    for identity in identities {
        let view = view(&identity.prefix(), &state.txns, state.version).map_err(|error| LakeError::Log {
            table: table.to_owned(),
            version: state.version,
            reason: chain(&error),
        })?;
        ledgers.push(StreamLedger { identity, view });
    }
    Ok(Some(ledgers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> SequenceNumber {
        SequenceNumber::parse(text).unwrap()
    }

    #[test]
    fn what_a_commit_writes_is_what_the_view_reads() {
        let shard = ShardId::new("shardId-000000000001");
        let child = ShardId::new("shardId-000000000002");
        let mut txns = Txns::new("p/s@17/");
        txns.register(&LedgerView::default(), &shard, 5);
        txns.position(&shard, Position::After(number("49590338271490256608559692538361571095921575989136588898")));
        txns.seen(&LedgerView::default(), &shard, Some(99));
        txns.seen(&LedgerView::default(), &shard, Some(98));
        txns.watermark(&LedgerView::default(), &shard, Some(-7));
        txns.end(&shard);
        txns.register(&LedgerView::default(), &child, 0);
        let mut set = txns.into_set();
        set.insert("p/s@17/shardId-000000000002/of_a_later_version".to_owned(), 3);
        set.insert("p/s@17/watermark".to_owned(), 3);
        set.insert("p/s@18/shardId-000000000003/start".to_owned(), 3);
        set.insert("p/s@17/applied".to_owned(), 3);

        let view = view("p/s@17/", &set, 4).unwrap();
        assert_eq!(view.version, 4);
        assert_eq!(view.shards.len(), 2);
        let entry = view.shards[&shard];
        let position = Some(number("49590338271490256608559692538361571095921575989136588898"));
        let expected = ShardEntry { start_ms: 5, position, ended: true, seen_ms: Some(99), watermark_ms: Some(-7) };
        assert_eq!(entry, expected);
        assert_eq!(view.shards[&child].resume(), Position::Beginning);
    }

    #[test]
    fn a_shard_that_is_registered_keeps_its_start() {
        let shard = ShardId::new("a");
        let entry = ShardEntry { start_ms: 7, ..ShardEntry::NEW };
        let known = LedgerView { version: 1, shards: BTreeMap::from([(shard.clone(), entry)]) };
        let mut txns = Txns::new("p/s@1/");
        txns.register(&known, &shard, 0);
        assert!(txns.into_set().is_empty());
    }

    #[test]
    fn torn_or_impossible_limbs_are_an_error_and_never_a_position() {
        let torn = BTreeMap::from([("p/s@1/a/0".to_owned(), 1), ("p/s@1/a/3".to_owned(), 1)]);
        assert!(matches!(view("p/s@1/", &torn, 0), Err(LedgerError::TornLimbs { .. })));
        let bad: BTreeMap<_, _> = (0..4).map(|limb| (format!("p/s@1/a/{limb}"), -1)).collect();
        assert!(matches!(view("p/s@1/", &bad, 0), Err(LedgerError::BadLimbs { .. })));
    }

    #[test]
    fn an_application_id_names_its_stream() {
        let identity = StreamIdentity { pipeline: "p".into(), stream: "s.t-u".into(), created_at_s: 17 };
        assert_eq!(StreamIdentity::of(&format!("{}sh/0", identity.prefix())), Some(identity));
        assert_eq!(StreamIdentity::of("delta-sharing"), None);
    }
}
