//! The quick version of `load-tests chaos`: killed in every phase of their life, under load and while shards split and
//! merge, processes lose nothing, write nothing twice, alter nothing and keep the order.

use std::time::Duration;

use load_tests::Seed;
use load_tests::chaos::{Phase, Plan, run};

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");

/// Every aimed phase that comes up within seconds, and every other one.
const PHASES: [Phase; 21] = [
    Phase::TableCreation,
    Phase::FirstCommitBefore,
    Phase::FirstCommitAfter,
    Phase::DataPut,
    Phase::CommitBefore,
    Phase::CompactionDataPut,
    Phase::FollowerAfter,
    Phase::ShardEndBefore,
    Phase::CompactionCommitAfter,
    Phase::CommitAfter,
    Phase::CheckpointPut,
    Phase::VacuumDelete,
    Phase::SealDataPut,
    Phase::SealCommitBefore,
    Phase::StartUp,
    Phase::SealCommitAfter,
    Phase::ShardEndAfter,
    Phase::FollowerBefore,
    Phase::Zombie,
    Phase::Twins,
    Phase::Drain,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_every_phase_nothing_is_lost_doubled_altered_or_out_of_order() -> anyhow::Result<()> {
    let plan = Plan {
        seed: Seed::announced(),
        phases: PHASES.to_vec(),
        rate: 200.0,
        flush_interval_ms: 250,
        reshard_interval: Duration::from_secs(2),
        work_ms: 500,
        old_after: Duration::from_secs(10),
        progress: false,
        keep: None,
    };
    let report = run(PINTAIL, plan).await?;
    let told = serde_json::to_string_pretty(&report)?;
    println!("{told}");
    assert!(report.is_clean(), "{told}");
    assert!(
        report.deaths.kills >= PHASES.len() as u64
            && report.reshards >= 5
            && report.reckoned.rows > 1_000
            && report.reckoned.sealed_checked > 20,
        "{told}"
    );
    Ok(())
}
