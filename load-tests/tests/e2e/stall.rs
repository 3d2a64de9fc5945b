//! The quick versions of `load-tests stall`: what a process has in memory while S3 does not answer at full input.

use std::time::Duration;

use load_tests::Seed;
use load_tests::soak::{Filling, Plan, run};
use pintail::demo::Kind;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");

/// The least budget that one stream can have, so that few large records are beyond it.
fn plan(shards: u32, large: u64, filling: Filling) -> Plan {
    Plan {
        seed: Seed::announced(),
        streams: vec![Kind::Pin],
        shards,
        duration: Duration::from_secs(7),
        rate: 300.0,
        budget_mib: 52,
        flush_mib: 1,
        window_s: 60,
        stall: Some((Duration::from_millis(500), Duration::from_secs(6))),
        large,
        filling,
        sample_interval: Duration::from_millis(100),
        progress: false,
    }
}

async fn assert_it_holds(plan: Plan) -> anyhow::Result<()> {
    let report = run(PINTAIL, &plan).await?;
    let told = serde_json::to_string_pretty(&report)?;
    assert!(report.is_clean(), "{told}");
    assert!(report.stall.is_some() && report.records > 100, "{told}");
    let achieved = report.records as f64 / report.duration_s;
    assert!(report.reckoned.unexpected == 0 && (report.rate_achieved - achieved).abs() < 1e-6, "{told}");
    let guide = include_str!("../../README.md");
    for field in serde_json::to_value(&report)?.as_object().into_iter().flat_map(|report| report.keys()) {
        assert!(guide.contains(&format!("`{field}`")), "{field} is not explained in the README");
    }
    println!("{} MiB of {} MiB", report.rss_peak_bytes >> 20, report.rss_limit_bytes >> 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_s3_does_not_answer_large_records_wait_in_kinesis_and_not_in_memory() -> anyhow::Result<()> {
    assert_it_holds(plan(8, 2, Filling::Text)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_records_of_the_smallest_tokens_are_within_the_bound_too() -> anyhow::Result<()> {
    assert_it_holds(plan(4, 1, Filling::Tokens)).await
}
