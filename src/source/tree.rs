//! The family tree of shards, as a pure question: given what Kinesis lists and what the ledger says, which shards
//! may be read?
//!
//! A child holds what was written after its parents were closed; read before them, its keys would come out of
//! order. So a shard starts only when each parent is *settled*: its end is committed, or nobody knows it any more
//! (trimmed long ago, never ours). The same word decides when a shard enters the ledger: not before its parents
//! are settled, because the commit that ends the parents registers it with their watermark.

use std::collections::BTreeMap;
use std::fmt;

use super::stream::ListedShard;
use crate::checkpoint::{LedgerView, ShardId};
use crate::record::Heir;

/// How Kinesis names its shards. What the ledger holds under other names (replays) is no business of the source.
const SHARD_PREFIX: &str = "shardId-";

/// What follows from one listing and one view of the ledger. Every listed shard that the ledger has not ended is
/// in exactly one of the first three.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Not in the ledger, and its time has come.
    pub register: Vec<ShardId>,
    /// To be read now.
    pub start: Vec<ShardId>,
    /// A parent is not settled.
    pub waiting: Vec<ShardId>,
    /// Finished: nothing to do.
    pub ended: Vec<ShardId>,
    /// In the ledger without an end, and gone from the listing.
    pub lost: Vec<ShardId>,
}

/// Shards of Kinesis that the ledger knows.
pub fn known(ledger: &LedgerView) -> impl Iterator<Item = &ShardId> {
    ledger.shards.keys().filter(|shard| shard.as_str().starts_with(SHARD_PREFIX))
}

/// See [`Plan`]. Each shard is looked at once and only its parents are asked, so that no listing, however wrong,
/// can make this run in circles.
pub fn plan(listed: &[ListedShard], ledger: &LedgerView) -> Plan {
    let by_id: BTreeMap<&ShardId, &ListedShard> = listed.iter().map(|shard| (&shard.id, shard)).collect();
    let settled = |parent: &ShardId| match ledger.shards.get(parent) {
        Some(entry) => entry.ended,
        None => !by_id.contains_key(parent),
    };
    let mut plan = Plan::default();
    for (id, shard) in &by_id {
        let ready = shard.parents.iter().all(settled);
        let place = match ledger.shards.get(*id) {
            Some(entry) if entry.ended => &mut plan.ended,
            Some(_) if ready => &mut plan.start,
            None if ready => &mut plan.register,
            Some(_) | None => &mut plan.waiting,
        };
        place.push((*id).clone());
    }
    plan.lost = known(ledger)
        .filter(|id| !by_id.contains_key(id) && ledger.shards.get(*id).is_some_and(|entry| !entry.ended))
        .cloned()
        .collect();
    plan
}

/// Listed shards that name `parent` as a parent.
pub fn children(listed: &[ListedShard], parent: &ShardId) -> Vec<ShardId> {
    listed.iter().filter(|shard| shard.parents.contains(parent)).map(|shard| shard.id.clone()).collect()
}

/// The shards that hold what came after `parent`, with all their parents. `None` while the listing does not show them
/// all: a closed shard that is still listed has children that take every one of its hash keys.
pub fn heirs(listed: &[ListedShard], parent: &ShardId) -> Option<Vec<Heir>> {
    let children = || listed.iter().filter(|shard| shard.parents.contains(parent));
    if let Some(closed) = listed.iter().find(|shard| shard.id == *parent)
        && !are_all_taken(closed.hash_range, children().map(|child| child.hash_range))
    {
        return None;
    }
    Some(children().map(|child| Heir { shard: child.id.clone(), parents: child.parents.clone() }).collect())
}

/// Whether these ranges cover that one. Of a range that is not known it is enough that there is one.
fn are_all_taken(range: Option<(u128, u128)>, by: impl Iterator<Item = Option<(u128, u128)>>) -> bool {
    let mut by: Vec<Option<(u128, u128)>> = by.collect();
    by.sort_unstable();
    let known: Option<Vec<(u128, u128)>> = by.iter().copied().collect();
    let (Some((from, to)), Some(known)) = (range, known) else { return !by.is_empty() };
    let mut free = Some(from);
    for (first, last) in known {
        if free.is_some_and(|next| first <= next && last >= next) {
            free = if last >= to { None } else { last.checked_add(1) };
        }
    }
    free.is_none()
}

/// Whether nothing of this shard can have been trimmed: a parent of it is still listed. Kinesis lists a closed shard
/// until its last record is trimmed, and a child begins where its parents end.
pub fn is_young(listed: &[ListedShard], id: &ShardId) -> bool {
    let is_listed = |parent: &ShardId| listed.iter().any(|shard| shard.id == *parent);
    listed.iter().filter(|shard| shard.id == *id).any(|shard| shard.parents.iter().any(is_listed))
}

/// Listed shards that the ledger does not know and whose parents nobody knows either: they descend from shards that
/// vanished before they were read.
pub fn orphans(listed: &[ListedShard], ledger: &LedgerView) -> Vec<ShardId> {
    let is_known = |id: &ShardId| ledger.shards.contains_key(id) || listed.iter().any(|shard| shard.id == *id);
    let unknown = listed.iter().filter(|shard| !ledger.shards.contains_key(&shard.id) && !shard.parents.is_empty());
    unknown.filter(|shard| !shard.parents.iter().any(is_known)).map(|shard| shard.id.clone()).collect()
}

// === The audit ===

/// Hash keys that no open shard takes, or that two take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nobody takes these, inclusive.
    Gap(u128, u128),
    /// Two shards take these, inclusive.
    Overlap(u128, u128),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(from, to) => write!(f, "no open shard takes the hash keys {from} to {to}"),
            Self::Overlap(from, to) => write!(f, "two open shards take the hash keys {from} to {to}"),
        }
    }
}

/// The open shards of one moment cover every hash key once. A listing in which they do not was taken in the middle
/// of a reshard, or is incomplete. Returns the first flaw.
pub fn audit(listed: &[ListedShard]) -> Option<Flaw> {
    let mut ranges: Vec<(u128, u128)> =
        listed.iter().filter(|shard| !shard.closed).filter_map(|shard| shard.hash_range).collect();
    ranges.sort_unstable();
    // The next key that nobody has taken yet; `None` once the last one is taken.
    let mut next = Some(0);
    for (from, to) in ranges {
        match next {
            None => return Some(Flaw::Overlap(from, to)),
            Some(free) if from > free => return Some(Flaw::Gap(free, from - 1)),
            Some(free) if from < free => return Some(Flaw::Overlap(from, to.min(free - 1))),
            Some(_) => next = to.checked_add(1),
        }
    }
    next.map(|free| Flaw::Gap(free, u128::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::ShardEntry;

    const OPEN: ShardEntry = ShardEntry::NEW;
    const ENDED: ShardEntry = ShardEntry { ended: true, ..OPEN };

    fn id(n: usize) -> ShardId {
        ShardId::new(format!("shardId-{n:012}"))
    }

    fn shard(n: usize, parents: &[usize], range: (u128, u128), closed: bool) -> ListedShard {
        let parents = parents.iter().copied().map(id).collect();
        ListedShard { id: id(n), parents, hash_range: Some(range), closed }
    }

    fn ledger(entries: &[(usize, ShardEntry)]) -> LedgerView {
        LedgerView { version: 1, shards: entries.iter().map(|(n, entry)| (id(*n), *entry)).collect() }
    }

    /// A stream's history: splits and merges at random, no shard trimmed.
    fn history(first: usize, steps: &[(usize, bool)]) -> Vec<ListedShard> {
        let width = u128::MAX / first as u128;
        let bound = |n: usize| if n == first { u128::MAX } else { width * n as u128 - 1 };
        let mut all: Vec<ListedShard> = Vec::new();
        for n in 0..first {
            let from = if n == 0 { 0 } else { bound(n) + 1 };
            all.push(shard(n, &[], (from, bound(n + 1)), false));
        }
        for (pick, merge) in steps {
            let mut open: Vec<usize> = (0..all.len()).filter(|n| !all[*n].closed).collect();
            open.sort_by_key(|n| all[*n].hash_range);
            let at = pick % open.len();
            let (a, n) = (open[at], all.len());
            let (from, to) = all[a].hash_range.unwrap();
            if *merge && at + 1 < open.len() {
                let b = open[at + 1];
                (all[a].closed, all[b].closed) = (true, true);
                all.push(shard(n, &[a, b], (from, all[b].hash_range.unwrap().1), false));
            } else if to > from {
                let middle = from + (to - from) / 2;
                all[a].closed = true;
                all.push(shard(n, &[a], (from, middle), false));
                all.push(shard(n + 1, &[a], (middle + 1, to), false));
            }
        }
        all
    }

    #[test]
    fn the_heirs_of_a_listed_shard_are_known_when_they_take_all_of_its_hash_keys() {
        let parent = shard(0, &[], (10, 19), true);
        let (left, right) = (shard(1, &[0], (10, 14), false), shard(2, &[0], (15, 19), false));
        let merged = shard(3, &[0, 9], (0, 19), false);
        let known = |listed: &[&ListedShard]| {
            let listed: Vec<ListedShard> = listed.iter().map(|shard| (*shard).clone()).collect();
            heirs(&listed, &id(0)).map(|heirs| heirs.into_iter().map(|heir| heir.shard).collect::<Vec<_>>())
        };
        assert_eq!(known(&[&parent]), None);
        assert_eq!(known(&[&parent, &left]), None);
        assert_eq!(known(&[&parent, &right]), None);
        assert_eq!(known(&[&parent, &right, &left]), Some(vec![id(2), id(1)]));
        assert_eq!(known(&[&parent, &merged]), Some(vec![id(3)]));
        assert_eq!(
            known(&[&left]),
            Some(vec![id(1)]),
            "a parent that is no longer listed: what is left of its children"
        );
        assert_eq!(heirs(&[parent, merged], &id(0)).unwrap()[0].parents, [id(0), id(9)]);
        let unknown = ListedShard { hash_range: None, ..left };
        assert_eq!(known(&[&shard(0, &[], (10, 19), true), &unknown]), Some(vec![id(1)]));
    }

    proptest! {
        #[test]
        fn no_child_starts_before_every_parent_ended_and_every_shard_starts_in_the_end(
            first in 1usize..4,
            steps in prop::collection::vec((any::<usize>(), any::<bool>()), 0..20),
            known_at_start in any::<u64>(),
            order in any::<u64>(),
        ) {
            let listed = history(first, &steps);
            prop_assert_eq!(audit(&listed), None);
            // Any subset whose parents are settled may have ended before: what an earlier run left.
            let mut view = LedgerView::default();
            for (n, shard) in listed.iter().enumerate() {
                let parents_ended = shard.parents.iter().all(|p| view.shards.get(p).is_some_and(|e| e.ended));
                if shard.closed && parents_ended && known_at_start >> (n % 64) & 1 == 1 {
                    view.shards.insert(shard.id.clone(), ENDED);
                }
            }
            let mut started: Vec<ShardId> = view.shards.keys().cloned().collect();
            for round in 0..=listed.len() * 2 {
                let plan = plan(&listed, &view);
                prop_assert!(plan.lost.is_empty());
                for id in &plan.register {
                    view.shards.insert(id.clone(), OPEN);
                }
                for id in &plan.start {
                    let shard = listed.iter().find(|shard| shard.id == *id).unwrap();
                    for parent in &shard.parents {
                        prop_assert!(view.shards[parent].ended, "{} before {}", id, parent);
                    }
                    if !started.contains(id) {
                        started.push(id.clone());
                    }
                }
                // One of the started closed shards is read to its end.
                let closed: Vec<&ShardId> =
                    plan.start.iter().filter(|id| listed.iter().any(|s| s.id == **id && s.closed)).collect();
                if !closed.is_empty() {
                    let ended = closed[(order as usize).wrapping_add(round) % closed.len()];
                    view.shards.get_mut(ended).unwrap().ended = true;
                }
            }
            prop_assert_eq!(started.len(), listed.len(), "not all of {:?} started", listed);
        }

        #[test]
        fn a_missing_open_shard_is_found_by_the_audit(
            first in 1usize..5,
            steps in prop::collection::vec((any::<usize>(), any::<bool>()), 0..10),
            pick in any::<usize>(),
        ) {
            let mut listed = history(first, &steps);
            let open: Vec<usize> = (0..listed.len()).filter(|n| !listed[*n].closed).collect();
            let gone = listed.remove(open[pick % open.len()]);
            let (from, to) = gone.hash_range.unwrap();
            prop_assert_eq!(audit(&listed), Some(Flaw::Gap(from, to)));
            listed.push(ListedShard { id: id(998), ..gone.clone() });
            listed.push(ListedShard { id: id(999), ..gone });
            prop_assert_eq!(audit(&listed), Some(Flaw::Overlap(from, to)));
        }
    }

    #[test]
    fn a_merged_shard_waits_for_both_parents() {
        let half = u128::MAX / 2;
        let listed = [
            shard(0, &[], (0, half), true),
            shard(1, &[], (half + 1, u128::MAX), true),
            shard(2, &[0, 1], (0, 1), false),
        ];
        let of = |entries: &[(usize, ShardEntry)]| plan(&listed, &ledger(entries));
        assert_eq!(of(&[(0, ENDED), (1, OPEN), (2, OPEN)]).waiting, [id(2)]);
        assert_eq!(of(&[(0, OPEN), (1, ENDED), (2, OPEN)]).start, [id(0)]);
        assert_eq!(of(&[(0, ENDED), (1, ENDED), (2, OPEN)]).start, [id(2)]);
    }

    #[test]
    fn a_child_is_left_to_the_commit_that_ends_its_parent() {
        let listed =
            [shard(0, &[], (0, u128::MAX), true), shard(1, &[0], (0, 9), false), shard(2, &[1], (0, 9), false)];
        let plan_of = |entries: &[(usize, ShardEntry)]| plan(&listed, &ledger(entries));
        assert_eq!(plan_of(&[(0, OPEN)]).register, []);
        assert_eq!(plan_of(&[(0, OPEN)]).waiting, [id(1), id(2)]);
        assert_eq!(plan_of(&[(0, ENDED)]).register, [id(1)]);
        assert_eq!(plan_of(&[]).register, [id(0)]);
    }

    #[test]
    fn a_parent_that_nobody_knows_is_settled_and_one_that_only_the_ledger_knows_is_lost() {
        let listed = [shard(7, &[3, 4], (0, u128::MAX), false)];
        assert_eq!(plan(&listed, &ledger(&[])).register, [id(7)]);
        assert_eq!(plan(&listed, &ledger(&[(3, ENDED), (7, OPEN)])).start, [id(7)]);
        let waiting = plan(&listed, &ledger(&[(3, OPEN), (7, OPEN)]));
        assert_eq!((waiting.waiting, waiting.lost), (vec![id(7)], vec![id(3)]));
        assert_eq!(children(&listed, &id(3)), [id(7)]);
    }

    #[test]
    fn a_child_is_young_as_long_as_a_parent_is_listed() {
        let listed = [shard(1, &[], (0, 9), true), shard(2, &[0, 1], (0, 9), true), shard(4, &[0, 3], (0, 9), false)];
        let young: Vec<bool> = [1, 2, 3, 4].into_iter().map(|n| is_young(&listed, &id(n))).collect();
        assert_eq!(young, [false, true, false, false]);
    }

    #[test]
    fn orphans_are_unknown_and_so_are_all_their_parents() {
        let listed = [
            shard(1, &[], (0, 9), true),
            shard(2, &[0], (0, 9), false),
            shard(3, &[1], (0, 9), false),
            shard(5, &[4, 1], (0, 9), false),
            shard(7, &[6], (0, 9), false),
            shard(9, &[8], (0, 9), false),
        ];
        assert_eq!(orphans(&listed, &ledger(&[(0, OPEN), (7, OPEN)])), [id(9)]);
    }

    #[test]
    fn replays_are_no_shards_of_kinesis() {
        let mut view = ledger(&[]);
        view.shards.insert(ShardId::new("replay-1"), OPEN);
        assert_eq!(plan(&[], &view), Plan::default());
        assert_eq!(known(&view).count(), 0);
    }

    #[test]
    fn a_listing_that_goes_in_circles_only_waits() {
        let listed = [shard(0, &[1], (0, 9), true), shard(1, &[0], (0, 9), false)];
        assert_eq!(plan(&listed, &ledger(&[])).waiting, [id(0), id(1)]);
    }
}
