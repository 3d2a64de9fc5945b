//! The harness itself: what it leaves behind when it is killed.

use std::path::Path;

use anyhow::Context;
use load_tests::until;
use tokio::process::Command;

const HARNESS: &str = env!("CARGO_BIN_EXE_load-tests");

/// State and parent of a process; `None` if there is no such process.
fn status(pid: &str) -> Option<(char, String)> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let mut after_the_name = stat.rsplit_once(')')?.1.split_whitespace();
    Some((after_the_name.next()?.chars().next()?, after_the_name.next()?.to_owned()))
}

/// The living processes that this one has started.
fn children_of(parent: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    pids.filter(|pid| status(pid).is_some_and(|(state, of)| state != 'Z' && of == parent)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_harness_that_is_killed_takes_its_processes_along() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("soak.json");
    let mut harness = Command::new(HARNESS)
        .args(["soak", "--duration", "1h", "--rate", "20", "--shards", "1", "--report"])
        .arg(&report)
        .env("TMPDIR", folder.path())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let parent = harness.id().context("it runs")?.to_string();
    let child = until("the harness has started a Pintail", async || {
        anyhow::ensure!(harness.try_wait()?.is_none(), "the harness has ended by itself");
        let child = children_of(&parent).into_iter().next();
        // From then on it is Pintail, and has said whose death is its own.
        let command = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let serves = |pid: &str| std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() > 2);
        Ok(child.filter(|pid| command(pid).windows(7).any(|word| word == b"pintail") && serves(pid)))
    })
    .await?;
    harness.kill().await?;
    until("its Pintail is gone", async || Ok(status(&child).is_none_or(|(state, _)| state == 'Z').then_some(()))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_killed_takes_all_of_its_processes_along() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut harness = Command::new(HARNESS)
        .args(["run", "--duration", "1h", "--rate", "20", "--report"])
        .arg(folder.path().join("report"))
        .env("TMPDIR", folder.path())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let parent = harness.id().context("it runs")?.to_string();
    let children = until("Kinesis, S3, Pintail and the producer run", async || {
        anyhow::ensure!(harness.try_wait()?.is_none(), "the harness has ended by itself");
        let children = children_of(&parent);
        let serves = |pid: &String| std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|it| it.count() > 2);
        Ok((children.len() == 4 && children.iter().all(serves)).then_some(children))
    })
    .await?;
    harness.kill().await?;
    until("all of them are gone", async || {
        let is_gone = |pid: &String| status(pid).is_none_or(|(state, _)| state == 'Z');
        Ok(children.iter().all(is_gone).then_some(()))
    })
    .await
}
