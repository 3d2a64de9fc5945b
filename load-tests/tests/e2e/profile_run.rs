//! The quick version of `load-tests run`: a profile, end to end, in all of its processes.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, ensure};
use load_tests::run::Report;
use load_tests::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pintail::demo::Kind;
use pintail::demo::kinesis::EmbeddedKinesis;
use serde_json::Value;
use tokio::process::Command;

const HARNESS: &str = env!("CARGO_BIN_EXE_load-tests");

const TINY: &str = "about = \"small and quick, with a bit of everything\"\nduration = \"3s\"\nrate = 200\nshards = 2\n\
                    streams = { pin = 1, geo = 0.5 }\nwindows = 4\nflush_interval = \"500ms\"\n";

/// Runs a profile with these further arguments; what it wrote to standard error, and the report if there is one.
async fn run(folder: &Path, profile: &str, arguments: &[&str]) -> anyhow::Result<(String, Option<Report>, i32)> {
    let file = folder.join("tiny.toml");
    std::fs::write(&file, profile)?;
    let output = Command::new(HARNESS)
        .args(["run", "--seed", "7", "--profile"])
        .arg(&file)
        .arg("--report")
        .arg(folder)
        .args(arguments)
        .envs([("AWS_ACCESS_KEY_ID", "made-up"), ("AWS_SECRET_ACCESS_KEY", "made-up"), ("AWS_REGION", "us-east-1")])
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = std::fs::read(folder.join("report.json")).unwrap_or_default();
    let report = serde_json::from_slice(&json).ok();
    Ok((told, report, output.status.code().unwrap_or(-1)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_is_run_measured_and_reckoned() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (told, report, code) = run(folder.path(), TINY, &[]).await?;
    let report = report.with_context(|| told.clone())?;
    assert!(code == 0 && report.is_clean() && report.verdict.lost == 0, "{told}");
    assert!((400..800).contains(&report.records), "{told}");
    let rejects: u64 = report.verdict.rejects.values().sum();
    assert_eq!(report.verdict.rows + rejects, report.records);
    assert!(report.verdict.partials_checked > 0, "{told}");

    // Every record was seen in the live windows, and after that in the log.
    for latency in [&report.window_ms, &report.lake_ms] {
        assert_eq!((latency.total.count, latency.unseen), (report.records, 0), "{told}");
        assert!(latency.total.p50 > 0.0 && latency.total.p50 <= latency.total.max, "{latency:?}");
        assert_eq!(latency.by_second.iter().map(|second| second.count).sum::<u64>(), report.records);
    }
    assert!(report.window_ms.total.p50 < report.lake_ms.total.p50, "{told}");
    assert_eq!(report.commits.iter().map(|commit| commit.rows).sum::<u64>(), report.verdict.rows);

    // Each process has used something, and of each shard is known how far behind it was.
    let cpu = report.cpu;
    assert!(cpu.pintail > 0.0 && cpu.kinesis > Some(0.0) && cpu.s3 > 0.0 && cpu.producer > 0.0, "{cpu:?}");
    let shards: BTreeSet<&String> = report.samples.iter().flat_map(|sample| sample.behind_s.keys()).collect();
    assert_eq!(shards.into_iter().collect::<Vec<_>>(), ["geo 0", "geo 1", "pin 0", "pin 1"]);
    assert!(report.rss_peak_bytes > report.rss_idle_bytes / 2 && report.build.commit.len() > 5);

    // The page is whole, and nothing of it comes from elsewhere.
    let html = std::fs::read_to_string(folder.path().join("report.html"))?;
    assert!(html.ends_with("</html>\n") && html.contains("every promise held") && html.contains("data-plot=\"lag\""));
    assert!(!html.contains("src=") && !html.contains("@import") && !html.contains("href="), "it needs another file");

    let guide = include_str!("../../README.md");
    let json: Value = serde_json::to_value(&report)?;
    let parts = ["/profile", "/verdict", "/cpu", "/machine", "/build", "/samples/0", "/commits/0", "/window_ms"];
    let parts = parts.into_iter().filter_map(|part| json.pointer(part)?.as_object());
    for field in parts.chain(json.as_object()).flat_map(|object| object.keys()) {
        assert!(guide.contains(&format!("`{field}`")), "{field} is not explained in the README");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn against_quotas_it_catches_up_without_being_refused_and_loses_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // Some twelve megabytes of a shard that gives two a second: more than a first answer holds.
    let profile = "about = \"records against quotas\"\nduration = \"1s\"\nrate = 100\nshards = 1\n\
                   streams = { pin = 1 }\nrecord_bytes = \"4KiB\"\nbehind = \"30s\"\nquotas = true\n\
                   flush_interval = \"500ms\"\n";
    let (told, report, code) = run(folder.path(), profile, &[]).await?;
    let report = report.with_context(|| told.clone())?;
    assert!(code == 0 && report.is_clean() && report.verdict.lost == 0, "{told}");
    let quota = report.quota.with_context(|| told.clone())?;
    assert!(quota.shards == 1 && quota.share > 0.0 && quota.share <= 1.0 + 1e-6, "{quota:?}");
    assert!(quota.share_min == quota.share && quota.committed_share > Some(0.0), "{quota:?}");
    assert!(quota.calls > 2 && quota.refused * 10 <= quota.calls, "{quota:?}");
    assert!(report.backlog.is_some_and(|backlog| backlog.records == 3_000), "{told}");

    let guide = include_str!("../../README.md");
    let json = serde_json::to_value(quota)?;
    for field in json.as_object().context("an object")?.keys() {
        assert!(guide.contains(&format!("`{field}`")), "{field} is not explained in the README");
    }
    assert!(std::fs::read_to_string(folder.path().join("report.html"))?.contains("of the shards' quota"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_somebody_elses_kinesis_streams_are_asked_for_and_deleted_again() -> anyhow::Result<()> {
    let (folder, theirs) = (tempfile::tempdir()?, EmbeddedKinesis::start(&["theirs-pin"], 1).await?);
    let endpoint = theirs.endpoint();
    let profile = TINY.replace("\"3s\"", "\"1s\"");
    let is_left = |stream: &'static str| theirs.exists(stream);

    let (told, report, code) = run(folder.path(), &profile, &["--endpoint", &endpoint]).await?;
    ensure!(code == 1 && report.is_none() && told.contains("`--yes`"), "without a yes: {told}");
    assert!(told.contains("load-test-7-pin, 2 shards") && told.contains("load-test-7-geo"), "{told}");
    assert!(!is_left("load-test-7-pin").await?, "nobody has agreed");

    let (told, report, code) = run(folder.path(), &profile, &["--endpoint", &endpoint, "--yes"]).await?;
    ensure!(code == 0, "{told}");
    let report = report.context("a report")?;
    assert!(report.is_clean() && report.target == endpoint && report.cpu.kinesis.is_none(), "{told}");
    assert!(told.contains("deleted stream load-test-7-pin"), "{told}");

    let metered = format!("quotas = true\n{profile}");
    let (told, _, code) = run(folder.path(), &metered, &["--endpoint", &endpoint, "--yes"]).await?;
    assert!(code == 1 && told.contains("needs the harness's own Kinesis"), "{told}");

    let arguments = ["--endpoint", &endpoint, "--yes", "--prefix", "theirs-"];
    let (told, _, code) = run(folder.path(), &profile, &arguments).await?;
    assert!(code == 1 && told.contains("is there already and somebody's"), "{told}");
    assert!(is_left("theirs-pin").await?, "what was there before stays");
    for kind in Kind::ALL {
        assert!(!theirs.exists(&format!("load-test-7-{}", kind.name())).await?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_told_to_stop_deletes_what_it_has_created() -> anyhow::Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (folder, theirs) = (tempfile::tempdir()?, EmbeddedKinesis::start(&[], 1).await?);
        let mut harness = Command::new(HARNESS)
            .args(["run", "--seed", "7", "--duration", "1h", "--rate", "50", "--yes", "--endpoint", &theirs.endpoint()])
            .arg("--report")
            .arg(folder.path())
            .envs([("AWS_ACCESS_KEY_ID", "made-up"), ("AWS_SECRET_ACCESS_KEY", "made-up")])
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        until("a stream was created", async || {
            ensure!(harness.try_wait()?.is_none(), "the harness has ended by itself");
            Ok(theirs.exists("load-test-7-pin").await?.then_some(()))
        })
        .await?;
        let pid = Pid::from_raw(i32::try_from(harness.id().context("it runs")?)?);
        kill(pid, signal)?;
        assert_eq!(harness.wait().await?.code(), Some(1), "there is no verdict");
        for kind in Kind::ALL {
            let name = format!("load-test-7-{}", kind.name());
            // Kinesis takes a moment for it, after it has said yes.
            let gone = until("a deleted stream is gone", async || Ok((!theirs.exists(&name).await?).then_some(())));
            gone.await.with_context(|| format!("{signal}: {name} is left"))?;
        }
    }
    Ok(())
}
