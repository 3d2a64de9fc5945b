//! A second start with another contract: what is taken over, and what is refused with nothing touched.

use std::collections::BTreeMap;
use std::path::Path;

use load_tests::{Poster, Scene, Seed, Snapshot};
use pintail::demo::Kind;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const COORDINATES: &str = "[[column]]\nname = \"coordinates\"\n";
const LAND: &str = "[[column]]\nname = \"land\"\nfrom = \"country\"\ntype = \"string\"\n\n";

async fn scene() -> anyhow::Result<(Scene, Poster)> {
    let seed = Seed::announced();
    let mut scene = Scene::new(1).await?;
    scene.settings.streams = vec![Kind::Geo];
    let poster = scene.poster(seed.value());
    Ok((scene, poster))
}

/// Posts, runs Pintail until everything is in the table, and reads it.
async fn post_and_run(scene: &Scene, poster: &mut Poster) -> anyhow::Result<Snapshot> {
    poster.post(600, 6_000.0).await?;
    let mut pintail = scene.start().await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    scene.table("geo").await
}

/// Every file below a folder, with its size.
fn files_below(folder: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else {
            found.insert(path.display().to_string(), path.metadata()?.len());
        }
    }
    Ok(found)
}

fn present(nulls: &[bool]) -> usize {
    nulls.iter().filter(|null| !**null).count()
}

/// Changes the contract; the next start must end with exit code 1, say all of this, and leave every file as it was.
async fn assert_refused(change: (&str, &str), sayings: &[&str]) -> anyhow::Result<()> {
    let (scene, mut poster) = scene().await?;
    post_and_run(&scene, &mut poster).await?;
    let before = files_below(&scene.lake())?;

    scene.edit_contract(Kind::Geo, change.0, change.1)?;
    let mut child = scene.spawn_quietly(PINTAIL, &scene.configure()?)?;
    let status = child.ended().await?;
    let said = child.stderr()?;
    assert_eq!(status.code(), Some(1), "{said}");
    for saying in sayings {
        assert!(said.contains(saying), "{saying:?} is not in:\n{said}");
    }
    assert_eq!(files_below(&scene.lake())?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_nullable_column_is_added_and_older_rows_have_null_there() -> anyhow::Result<()> {
    let (scene, mut poster) = scene().await?;
    let before = post_and_run(&scene, &mut poster).await?;
    scene.edit_contract(Kind::Geo, "[[window]]", &format!("{LAND}[[window]]"))?;
    let after = post_and_run(&scene, &mut poster).await?;

    let (old, new) = (present(&before.nulls("country")?), present(&after.nulls("country")?));
    assert_eq!(present(&after.nulls("land")?), new - old);
    assert!(new > old + 100, "the second start read {} countries", new - old);
    let (country, land) = (after.texts("country")?, after.texts("land")?);
    assert!(country.iter().zip(&land).all(|(country, land)| land.is_none() || land == country));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_column_stays_in_the_table_and_new_rows_have_null_there() -> anyhow::Result<()> {
    let (scene, mut poster) = scene().await?;
    let before = post_and_run(&scene, &mut poster).await?;
    let contract = std::fs::read_to_string(scene.contract(Kind::Geo))?;
    let from = contract.find(COORDINATES).unwrap_or_default();
    let until = contract[from + 1..].find("[[column]]").unwrap_or_default() + from + 1;
    scene.edit_contract(Kind::Geo, &contract[from..until], "")?;
    let after = post_and_run(&scene, &mut poster).await?;

    assert_eq!(after.columns, before.columns);
    assert_eq!(present(&after.nulls("coordinates")?), present(&before.nulls("coordinates")?));
    assert!(present(&before.nulls("coordinates")?) > 100 && after.rows() > before.rows() + 100);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_type_is_refused_with_both_types_and_nothing_is_touched() -> anyhow::Result<()> {
    let change = ("type = \"integer\"", "type = \"long\"");
    assert_refused(change, &["geo", "column \"ind\" is \"integer\" in the table and \"long\" in the contract"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_by_another_key_is_refused_and_nothing_is_touched() -> anyhow::Result<()> {
    let change = ("by = [\"country\"]", "by = [\"ind\"]");
    let sayings = [
        "table posts_by_country_partials: ",
        "`by` or `measure` differs: it has the columns (country, ",
        "the contract asks for (ind, ",
        "give the changed window a new name",
    ];
    assert_refused(change, &sayings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_of_another_size_is_refused_and_nothing_is_touched() -> anyhow::Result<()> {
    let change = ("every = \"1m\"", "every = \"2m\"");
    assert_refused(change, &["the columns are the same (country, ", "so `every`, `hop`, `time` or `where` differs"])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_by_a_contract_that_does_not_fit_names_the_stream() -> anyhow::Result<()> {
    let (scene, mut poster) = scene().await?;
    post_and_run(&scene, &mut poster).await?;
    scene.edit_contract(Kind::Geo, "type = \"integer\"", "type = \"long\"")?;
    let mut child = scene.call(PINTAIL, &["replay", "--rejects"])?;
    assert_eq!(child.ended().await?.code(), Some(1));
    let said = child.stderr()?;
    assert!(said.contains("pintail: stream geo: the tables do not fit the contract"), "{said}");
    Ok(())
}
