//! Commit after commit: the quick version of the command.

use load_tests::growth::{self, Plan};

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_one_record_each_are_all_there_and_a_process_reads_on_from_them() -> anyhow::Result<()> {
    for compact in [false, true] {
        let plan = Plan { commits: 300, compact, maintain_every: 30, seed: 7, progress: false };
        let report = growth::run(PINTAIL, &plan).await?;
        assert_eq!(report.violations, [""; 0], "{report:?}");
        assert_eq!(report.tenths.len(), 10);
        assert!(report.tenths.iter().all(|tenth| tenth.commit_p50_ms > 0.0 && tenth.open_ms > 0.0), "{report:?}");
        // An upload, the proof that the head is the head, the entry; and each table that follows reads that.
        assert!(report.tenths.iter().all(|tenth| tenth.requests_per_commit >= 3.0), "{report:?}");
        assert_eq!(report.files < 300, compact, "{report:?}");
    }
    Ok(())
}
