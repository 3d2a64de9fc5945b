//! What a user gets wrong: told all at once, before anything is opened.

use load_tests::Scene;
use pintail::demo::Kind;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");

/// `file:LINE: `, where the file's line is the one that holds `marker`.
fn place(file: &std::path::Path, marker: &str) -> anyhow::Result<String> {
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
        (place(&config, "flush_interval")?, "1 ms"),
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
