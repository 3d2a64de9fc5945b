//! What a user gets wrong: told all at once, before anything is opened.

use std::path::Path;

use load_tests::Scene;
use load_tests::kinesis_proxy::{Fault, Operation, Request};
use pintail::demo::Kind;
use tokio::process::Command;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");

/// `file:LINE: `, where the file's line is the one that holds `marker`.
fn place(file: &Path, marker: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().position(|line| line.contains(marker)).map_or(0, |index| index + 1);
    Ok(format!("{}:{line}: ", file.display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_wrong_is_said_with_file_and_line_and_nothing_is_opened() -> anyhow::Result<()> {
    let scene = Scene::new(1).await?;
    scene.edit_contract(Kind::Pin, "type = \"integer\"\nrequired", "type = \"intiger\"\nrequired")?;
    scene.edit_contract(Kind::Pin, "by = [\"category\"]", "by = [\"categories\"]")?;
    std::fs::remove_file(scene.contract(Kind::User))?;
    let good = std::fs::read_to_string(scene.configure()?)?;
    let bad = good
        .replace("flush_interval = \"250ms\"", "flush_interval = \"1ms\"")
        .replace("reads_per_second = 5", "reads_per_seconds = 5")
        .replace("start = \"trim_horizon\"", "start = \"oldest\"");
    let config = scene.write("broken.toml", &bad)?;

    let mut child = scene.spawn_quietly(PINTAIL, &config)?;
    let status = child.ended().await?;
    let said = child.stderr()?;
    assert_eq!(status.code(), Some(64), "{said}");
    let pin = scene.contract(Kind::Pin);
    let sayings = [
        (place(&config, "flush_interval")?, "\"1ms\""),
        (place(&config, "reads_per_seconds")?, "did you mean `reads_per_second`"),
        (place(&config, "oldest")?, "trim_horizon"),
        (place(&pin, "intiger")?, "did you mean \"integer\""),
        (place(&pin, "categories")?, "categories"),
        (place(&config, "user.toml")?, "cannot be read"),
    ];
    for (place, part) in &sayings {
        let line = said.lines().find(|line| line.starts_with(place.as_str()) && line.contains(part));
        assert!(line.is_some(), "no line begins with {place:?} and says {part:?}:\n{said}");
    }
    assert!(said.contains(&format!("{} problems to mend", sayings.len())), "{said}");
    assert!(!scene.lake().exists(), "a lake was made");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_there_is_one_line_and_a_failure() -> anyhow::Result<()> {
    let scene = Scene::new(1).await?;
    let good = std::fs::read_to_string(scene.configure()?)?;
    let config = scene.write("missing.toml", &good.replace("name = \"geo\"", "name = \"goe\""))?;
    let mut child = scene.spawn_quietly(PINTAIL, &config)?;
    let status = child.ended().await?;
    let said = child.stderr()?;
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("pintail: stream goe: stream goe does not exist; check its name"), "{said}");
    Ok(())
}

const CREDENTIALS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local")];

/// `pintail check` as a newcomer calls it: with credentials, and whatever else `environment` says.
async fn check(config: &Path, environment: &[(&str, &str)]) -> anyhow::Result<(Option<i32>, String)> {
    call("check", config, &[&CREDENTIALS, environment].concat()).await
}

/// Calls a command that ends by itself, in this environment and nothing else.
async fn call(command: &str, config: &Path, environment: &[(&str, &str)]) -> anyhow::Result<(Option<i32>, String)> {
    let mut program = Command::new(PINTAIL);
    program.args(["pintail", command, "--config"]).arg(config).env_clear().kill_on_drop(true);
    program.envs([("AWS_EC2_METADATA_DISABLED", "true")]).envs(environment.iter().copied());
    let output = program.output().await?;
    let said = String::from_utf8(output.stdout)? + std::str::from_utf8(&output.stderr)?;
    Ok((output.status.code(), said))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_check_shows_the_tables_that_will_be_made_and_says_when_it_is_ready() -> anyhow::Result<()> {
    let scene = Scene::new(1).await?;
    let (code, said) = check(&scene.configure()?, &[("AWS_REGION", "us-east-1")]).await?;
    let made = said.lines().filter(|line| line.starts_with("  table ") && line.ends_with(" will be created"));
    assert_eq!((code, made.count()), (Some(0), 16), "{said}");
    assert!(said.trim_end().lines().last().is_some_and(|line| line.starts_with("ready for `pintail run")), "{said}");
    assert!(!scene.lake().exists(), "a lake was made");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_without_a_region_says_so_once_for_each_service_and_goes_on() -> anyhow::Result<()> {
    let scene = Scene::new(1).await?;
    let good = std::fs::read_to_string(scene.configure()?)?;
    let without: String =
        good.lines().filter(|line| !line.starts_with("region")).map(|line| format!("{line}\n")).collect();
    let (code, said) = check(&scene.write("regionless.toml", &without)?, &[]).await?;
    assert_eq!((code, said.matches("no region is set").count()), (Some(1), 1), "{said}");
    assert_eq!(said.matches(" will be created").count(), 17, "the lake and its tables: {said}");
    assert!(said.ends_with("not ready: 1 problem to mend before `pintail run`\n"), "{said}");

    let lake = format!("uri = {:?}", scene.lake());
    assert!(without.contains(&lake), "{without}");
    let on_s3 = without.replace(&lake, "uri = \"s3://bucket/lake\"");
    let (code, said) = check(&scene.write("on_s3.toml", &on_s3)?, &[]).await?;
    assert_eq!((code, said.matches("no region is set").count()), (Some(1), 2), "{said}");
    assert_eq!(said.matches("\nstream ").count(), Kind::ALL.len(), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_missing_are_told_at_length_once_and_not_once_for_each_stream() -> anyhow::Result<()> {
    let scene = Scene::new(1).await?;
    let (code, said) = call("run", &scene.configure()?, &[]).await?;
    assert_eq!((code, said.matches("no credentials found in chain").count()), (Some(1), 1), "{said}");
    assert!(said.contains("check credentials, region and endpoint"), "{said}");
    assert!(said.matches("failed for the same reason").count() < Kind::ALL.len(), "{said}");
    let (code, said) = call("check", &scene.configure()?, &[]).await?;
    assert_eq!((code, said.matches("no credentials found in chain").count()), (Some(1), 1), "{said}");
    assert!(said.ends_with("not ready: 3 problems to mend before `pintail run`\n"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_is_not_ready_for_a_lake_that_is_a_file_or_below_one_and_leaves_no_trace_in_one_that_can_be()
-> anyhow::Result<()> {
    let scene = Scene::new(1).await?;
    let check = async || -> anyhow::Result<(Option<i32>, String)> {
        let mut child = scene.call(PINTAIL, &["check"])?;
        Ok((child.ended().await?.code(), child.stdout()?))
    };
    let (code, said) = check().await?;
    assert!(code == Some(0) && said.contains("will be created") && !scene.lake().exists(), "{said}");
    std::fs::write(scene.lake(), "not a folder")?;
    let (code, said) = check().await?;
    assert!(code == Some(1) && said.contains("PROBLEM: lake uri") && said.contains("is a file"), "{said}");
    std::fs::remove_file(scene.lake())?;
    std::fs::create_dir(scene.lake())?;
    let (code, said) = check().await?;
    assert_eq!((code, std::fs::read_dir(scene.lake())?.count()), (Some(0), 0), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_is_not_ready_where_shards_may_be_listed_and_not_read_and_throttled_is_no_answer() -> anyhow::Result<()> {
    let mut scene = Scene::new(1).await?;
    let proxy = scene.interpose().await?;
    let config = scene.configure()?;
    let region = [("AWS_REGION", "us-east-1")];
    let reads = |call: &Request| call.operation == Operation::GetRecords;
    let denied = proxy.faults().add(reads, Fault::access_denied(), None);
    let (code, said) = check(&config, &region).await?;
    let problems = said.lines().filter(|line| line.contains("PROBLEM") && line.contains("AccessDenied"));
    assert_eq!((code, problems.count()), (Some(1), Kind::ALL.len()), "{said}");

    proxy.faults().remove(denied);
    proxy.faults().add(reads, Fault::throttled(), None);
    let (code, said) = check(&config, &region).await?;
    assert_eq!(code, Some(0), "{said}");
    Ok(())
}
