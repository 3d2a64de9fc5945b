//! Logs that nobody takes.

use load_tests::Scene;
use pintail::demo::Kind;
use tokio::process::Command;

use crate::places::with_a_commit;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_on_a_full_disk_costs_lines_and_not_the_service() -> anyhow::Result<()> {
    let mut scene = Scene::new(1).await?;
    let mut program = Command::new("sh");
    program.args(["-c", "exec \"$0\" \"$@\" 2> /dev/full", PINTAIL]);
    let (mut poster, mut child) = with_a_commit(program, &[Kind::Geo], &mut scene).await?;
    poster.post(300, 6_000.0).await?;
    scene.caught_up(&poster.log, &mut child).await?;
    assert_eq!(child.terminate().await?.code(), Some(0));
    scene.verify(&poster.log).await?;
    Ok(())
}
