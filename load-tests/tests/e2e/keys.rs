//! More keys than anybody wants: the quick version of the command.

use load_tests::keys::{self, Plan};
use pintail::demo::Kind;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_a_flood_of_keys_every_key_is_in_every_table_with_every_record() -> anyhow::Result<()> {
    let plan = Plan {
        keys: 16_000,
        rounds: 2,
        brief_s: 1,
        rate: 4_000.0,
        shards: 2,
        idle_streams: &[Kind::Pin, Kind::User],
        budget_mib: 256,
        progress: false,
    };
    let report = keys::run(PINTAIL, &plan).await?;
    assert_eq!((report.violations.as_slice(), report.rows, report.wrong_keys), (&[] as &[String], 32_000, [0; 4]));
    assert!(report.sealed_rows >= 16_000 && report.partials_rows[0] >= 16_000, "{report:?}");
    assert!(report.committed_bytes_max > 0 && report.budget_in_use_bytes_max > 0, "{report:?}");
    assert!(report.folded > 0, "the live view has room for all: {report:?}");
    Ok(())
}
