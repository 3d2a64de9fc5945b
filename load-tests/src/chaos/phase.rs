//! The instants at which a process dies.
//!
//! At least half of the kills are aimed: a request that is the instant is held by S3, before or after it has taken
//! effect, and the process dies while it waits for the answer. The rest is drawn from time.

use pintail::demo::Kind;
use serde::Serialize;

use crate::s3::{At, Request, Verb};
use crate::seed::Seed;

/// Where in its life a process dies. The name in the report is the variant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A table's first log entry.
    TableCreation,
    /// A stream's first commit, which registers its shards; it has not landed.
    FirstCommitBefore,
    /// The same; it has landed.
    FirstCommitAfter,
    /// A data file is under way; it may or may not be there.
    DataPut,
    /// A commit of a rows table that has not landed.
    CommitBefore,
    /// A commit of a rows table that has landed, its answer unheard.
    CommitAfter,
    /// A commit of a table that follows; it has not landed.
    FollowerBefore,
    /// A commit of a table that follows; it has landed.
    FollowerAfter,
    /// The commit that ends a shard and registers its children; it has not landed.
    ShardEndBefore,
    /// The same; it has landed.
    ShardEndAfter,
    /// A log checkpoint.
    CheckpointPut,
    /// The pointer to the newest log checkpoint.
    LastCheckpointPut,
    /// The removal of old log entries.
    LogCleanupDelete,
    /// A file that a compaction writes.
    CompactionDataPut,
    /// A compaction's commit; it has not landed.
    CompactionCommitBefore,
    /// A compaction's commit; it has landed.
    CompactionCommitAfter,
    /// A file of sealed rows.
    SealDataPut,
    /// The commit that seals windows; it has not landed.
    SealCommitBefore,
    /// The commit that seals windows; it has landed.
    SealCommitAfter,
    /// The removal of files that no reader needs any more.
    VacuumDelete,
    /// Within a second of its start.
    StartUp,
    /// At any moment of its first seconds.
    Anywhere,
    /// One that was frozen, in the middle of a commit or anywhere, then replaced, and then woke up.
    Zombie,
    /// Of two at once on the same lake.
    Twins,
    /// In the middle of a drain after SIGTERM.
    Drain,
}

/// The phases in which a request is held.
pub const AIMED: [Phase; 20] = [
    Phase::TableCreation,
    Phase::FirstCommitBefore,
    Phase::FirstCommitAfter,
    Phase::DataPut,
    Phase::CommitBefore,
    Phase::CommitAfter,
    Phase::FollowerBefore,
    Phase::FollowerAfter,
    Phase::ShardEndBefore,
    Phase::ShardEndAfter,
    Phase::CheckpointPut,
    Phase::LastCheckpointPut,
    Phase::LogCleanupDelete,
    Phase::CompactionDataPut,
    Phase::CompactionCommitBefore,
    Phase::CompactionCommitAfter,
    Phase::SealDataPut,
    Phase::SealCommitBefore,
    Phase::SealCommitAfter,
    Phase::VacuumDelete,
];

/// How the kills that are not aimed are shared out.
const BY_CHANCE: [(Phase, u64); 5] =
    [(Phase::Anywhere, 40), (Phase::StartUp, 25), (Phase::Zombie, 15), (Phase::Twins, 10), (Phase::Drain, 10)];

/// Every phase.
pub fn all() -> impl Iterator<Item = Phase> {
    AIMED.into_iter().chain(BY_CHANCE.map(|(phase, _)| phase))
}

/// The name under which a report speaks of it.
pub fn name(phase: Phase) -> String {
    serde_json::to_value(phase).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
}

impl Phase {
    /// Whether it can only happen while a lake is being made.
    pub fn is_of_a_new_lake(self) -> bool {
        matches!(self, Self::TableCreation | Self::FirstCommitBefore | Self::FirstCommitAfter)
    }

    /// Whether a request is held.
    pub fn is_aimed(self) -> bool {
        AIMED.contains(&self)
    }

    /// Processes that die in it together.
    fn kills(self) -> u64 {
        if matches!(self, Self::Zombie | Self::Twins) { 2 } else { 1 }
    }

    /// Whether it needs `[maintenance]`.
    pub fn is_of_maintenance(self) -> bool {
        use Phase::{
            CheckpointPut, CompactionCommitAfter, CompactionCommitBefore, CompactionDataPut, LastCheckpointPut,
            LogCleanupDelete, SealCommitAfter, SealCommitBefore, SealDataPut, VacuumDelete,
        };
        matches!(
            self,
            CheckpointPut
                | LastCheckpointPut
                | LogCleanupDelete
                | CompactionDataPut
                | CompactionCommitBefore
                | CompactionCommitAfter
                | SealDataPut
                | SealCommitBefore
                | SealCommitAfter
                | VacuumDelete
        )
    }

    /// Whether a request is its instant; `false` for phases that are not aimed.
    pub fn is_reached_by(self, request: &Request<'_>) -> bool {
        let (key, put) = (request.key, request.verb == Verb::Put);
        let entry = put && key.contains("/_delta_log/") && key.ends_with(".json");
        let says = |words: &str| says(request.body, words);
        let is_compaction = || says("\"OPTIMIZE\"");
        let in_log = key.contains("/_delta_log/");
        match self {
            Self::TableCreation => entry && key.ends_with("00000000000000000000.json"),
            Self::FirstCommitBefore | Self::FirstCommitAfter => entry && says("/start\"") && !says("/end\""),
            Self::DataPut => put && key.contains("/part-"),
            Self::CommitBefore | Self::CommitAfter => entry && says("\"ledger\"") && says("{\"add\":"),
            Self::FollowerBefore | Self::FollowerAfter => entry && says("\"appliedThrough\""),
            Self::ShardEndBefore | Self::ShardEndAfter => entry && says("/end\""),
            Self::CheckpointPut => put && in_log && key.ends_with(".parquet"),
            Self::LastCheckpointPut => put && key.ends_with("/_last_checkpoint"),
            Self::LogCleanupDelete => request.verb == Verb::Delete && in_log,
            Self::CompactionDataPut => put && key.contains("/compact-"),
            Self::CompactionCommitBefore | Self::CompactionCommitAfter => entry && is_compaction(),
            Self::SealDataPut => put && key.contains("/seal-"),
            Self::SealCommitBefore | Self::SealCommitAfter => entry && says("\"sealedThroughMs\""),
            Self::VacuumDelete => request.verb == Verb::Delete && !in_log && key.ends_with(".parquet"),
            Self::StartUp | Self::Anywhere | Self::Zombie | Self::Twins | Self::Drain => false,
        }
    }

    /// When its request is held.
    pub fn at(self, seed: &mut Seed) -> At {
        match self {
            Self::FirstCommitBefore
            | Self::CommitBefore
            | Self::FollowerBefore
            | Self::ShardEndBefore
            | Self::CompactionCommitBefore
            | Self::SealCommitBefore => At::Before,
            Self::FirstCommitAfter
            | Self::CommitAfter
            | Self::FollowerAfter
            | Self::ShardEndAfter
            | Self::CompactionCommitAfter
            | Self::SealCommitAfter => At::After,
            Self::TableCreation
            | Self::DataPut
            | Self::CheckpointPut
            | Self::LastCheckpointPut
            | Self::LogCleanupDelete
            | Self::CompactionDataPut
            | Self::SealDataPut
            | Self::VacuumDelete
            | Self::StartUp
            | Self::Anywhere
            | Self::Zombie
            | Self::Twins
            | Self::Drain => [At::Before, At::After][seed.below(2) as usize],
        }
    }
}

fn says(body: &[u8], words: &str) -> bool {
    body.windows(words.len()).any(|bytes| bytes == words.as_bytes())
}

/// So many phases, of which more than half of the kills are aimed: those of a new lake first, each once for every
/// stream if there are enough, then the other aimed phases in turn and chance, shuffled.
pub fn share_out(phases: u64, seed: &mut Seed) -> Vec<Phase> {
    let by_chance = draw_by_chance(phases, seed);
    let aimed = phases.saturating_sub(by_chance.len() as u64);
    let per_phase = (aimed / AIMED.len() as u64).clamp(1, Kind::ALL.len() as u64);
    let (new_lake, others): (Vec<Phase>, Vec<Phase>) = AIMED.iter().partition(|phase| phase.is_of_a_new_lake());
    let first: Vec<Phase> =
        new_lake.into_iter().flat_map(|phase| std::iter::repeat_n(phase, per_phase as usize)).collect();
    let mut rest: Vec<Phase> = others.into_iter().cycle().take((aimed as usize).saturating_sub(first.len())).collect();
    rest.extend(by_chance);
    for last in (1..rest.len()).rev() {
        rest.swap(last, seed.below(last as u64 + 1) as usize);
    }
    first.into_iter().chain(rest).collect()
}

/// Of so many phases those that are not aimed: one of each in any case, then by their shares, for as long as the others
/// are each of the aimed ones and kill more than they do, by enough that one or the other may be waited for in vain.
fn draw_by_chance(phases: u64, seed: &mut Seed) -> Vec<Phase> {
    let tickets: u64 = BY_CHANCE.iter().map(|(_, share)| share).sum();
    let mut drawn: Vec<Phase> = BY_CHANCE.iter().map(|(phase, _)| *phase).collect();
    loop {
        let mut ticket = seed.below(tickets);
        let next = BY_CHANCE.iter().find(|(_, share)| match ticket.checked_sub(*share) {
            Some(left) => {
                ticket = left;
                false
            }
            None => true,
        });
        drawn.extend(next.map(|(phase, _)| *phase));
        let kills: u64 = drawn.iter().map(|phase| phase.kills()).sum();
        let others = (kills + phases / 20).max(AIMED.len() as u64);
        if drawn.len() as u64 + others > phases {
            drawn.pop();
            return drawn;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn more_than_half_of_the_processes_that_die_are_aimed_at_and_no_phase_is_left_out() {
        for (asked, seed) in [30, 31, 57, 200, 1_000].into_iter().flat_map(|asked| [(asked, 7), (asked, 8)]) {
            let phases = share_out(asked, &mut Seed::from(seed));
            assert_eq!(phases.len() as u64, asked);
            let mut kills: BTreeMap<Phase, u64> = BTreeMap::new();
            phases.iter().for_each(|phase| *kills.entry(*phase).or_default() += phase.kills());
            assert_eq!(kills.len(), AIMED.len() + BY_CHANCE.len(), "{asked}");
            let aimed: u64 = AIMED.iter().map(|phase| kills[phase]).sum();
            let by_chance: u64 = BY_CHANCE.iter().map(|(phase, _)| kills[phase]).sum();
            assert!(aimed >= by_chance + asked / 20, "{asked}: {aimed} aimed, {by_chance} by chance");
            assert!(asked < 200 || 10 * by_chance > 8 * aimed, "{asked}: {aimed} aimed, {by_chance} by chance");
            assert_eq!(phases, share_out(asked, &mut Seed::from(seed)));
        }
        let phases = share_out(200, &mut Seed::from(7));
        assert_eq!(phases.iter().position(|phase| !phase.is_of_a_new_lake()), Some(9), "{phases:?}");
    }

    #[test]
    fn a_request_is_the_instant_of_its_phase_and_of_no_other() {
        let put =
            |key, body: &'static str| Request { verb: Verb::Put, key, body: body.as_bytes(), if_none_match: true };
        let delete = |key| Request { verb: Verb::Delete, key, body: b"", if_none_match: false };
        let log = "tables/pin/_delta_log/00000000000000000007.json";
        let cases = [
            (put(log, "\"ledger\":\"e2e\"\n{\"add\":{}}"), vec![Phase::CommitBefore, Phase::CommitAfter]),
            (put(log, "\"ledger\"\n{\"txn\":{\"appId\":\"x/shardId-0/start\"}}"), {
                vec![Phase::FirstCommitBefore, Phase::FirstCommitAfter]
            }),
            (put(log, "\"ledger\"\n/shardId-0/end\"\n/shardId-1/start\""), {
                vec![Phase::ShardEndBefore, Phase::ShardEndAfter]
            }),
            (put(log, "\"appliedThrough\":3\n{\"add\":{}}"), vec![Phase::FollowerBefore, Phase::FollowerAfter]),
            (put("tables/pin/_date=2026-01-01/part-1.zstd.parquet", ""), vec![Phase::DataPut]),
            (put("tables/pin/_date=2026-01-01/compact-1.zstd.parquet", ""), vec![Phase::CompactionDataPut]),
            (put("tables/w/_date=2026-01-01/seal-1.zstd.parquet", ""), vec![Phase::SealDataPut]),
            (put(log, "\"sealedThroughMs\":3\n{\"add\":{}}"), vec![Phase::SealCommitBefore, Phase::SealCommitAfter]),
            (put("tables/pin/_delta_log/00000000000000000007.checkpoint.parquet", ""), vec![Phase::CheckpointPut]),
            (put("tables/pin/_delta_log/_last_checkpoint", "{}"), vec![Phase::LastCheckpointPut]),
            (delete(log), vec![Phase::LogCleanupDelete]),
            (delete("tables/pin/_date=2026-01-01/part-1.zstd.parquet"), vec![Phase::VacuumDelete]),
        ];
        for (request, expected) in cases {
            let reached: Vec<Phase> = AIMED.into_iter().filter(|phase| phase.is_reached_by(&request)).collect();
            assert_eq!(reached, expected, "{request:?}");
        }
    }
}
