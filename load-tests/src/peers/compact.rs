//! `pintail maintain` against `optimize.compact` of delta-rs: small files of a Delta table into large ones.
//!
//! The service makes two tables of the same pins, one with the files of a catch-up and one with small ones. Then both
//! compactors get equal copies of each in a folder, in turns, each in a process of its own and with both cores. Both are
//! told to write files of the same size under the same codec. Nobody's turn counts before the table was read back.
//!
//! The contract is without windows and the pins without lines that are no JSON, so that there is no other table whose
//! files Pintail would have to look at.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use pintail::demo::Kind;
use pintail::demo::contracts::shipped;
use serde::Serialize;
use tokio::time::Instant;

use super::clock::{cpu_s, rss_peak_bytes};
use super::data::Lines;
use super::ours::Work;
use super::process::command;
use super::profile::Profile;
use super::service::{committed, put};
use super::{engines, process, remove};
use crate::rooms::Rooms;
use crate::scene::{Instance, Scene};
use crate::tables::Snapshot;

/// Fewer pins are too few for several files of a catch-up.
pub const PINS_MIN: u32 = 100_000;

/// What a file should grow to, for both: Pintail's default.
pub const TARGET_BYTES: u64 = 128 << 20;

/// So few files are worth it to Pintail, which by default waits for sixteen: delta-rs waits for no more than two either.
const COMPACT_FILES: u32 = 2;

const TABLE: Kind = Kind::Pin;

/// After how many bytes of records the service has written a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flush {
    /// Its default.
    Usual,
    /// Much sooner.
    Small,
}

impl Flush {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Usual, Self::Small];

    /// `lake.flush_bytes`, if not the default.
    fn bytes(self) -> Option<String> {
        match self {
            Self::Usual => None,
            Self::Small => Some("4MiB".to_owned()),
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usual => "files of a catch-up",
            Self::Small => "small files",
        }
    }
}

/// Who makes few files of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compactor {
    /// `pintail maintain`.
    Pintail,
    /// `DeltaTable.optimize.compact` of the Python package `deltalake`.
    DeltaRs,
}

impl Compactor {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pintail, Self::DeltaRs];

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pintail => "Pintail",
            Self::DeltaRs => "delta-rs",
        }
    }
}

/// Active files of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Files {
    /// How many.
    pub count: usize,
    /// How large, all together.
    pub bytes: u64,
}

/// One turn of one of them.
#[derive(Debug, Clone, Serialize)]
pub struct Compacted {
    /// From 0.
    pub round: usize,
    /// Which table.
    pub flush: Flush,
    /// Whose.
    pub who: Compactor,
    /// What it took. Of Pintail it is the whole process, its start included; of delta-rs what came after its imports.
    pub work: Work,
    /// Before.
    pub before: Files,
    /// Afterwards.
    pub after: Files,
    /// How the table differs from what it was.
    pub differences: Vec<String>,
}

/// All rounds; the tables are made of the first `count` lines of a file that has valid ones only. What was done before
/// something failed is in `turns`.
pub async fn rounds(
    (program, python): (&str, &str),
    (shards, rounds): (u32, usize),
    (lines, count): (&Lines, u64),
    turns: &mut Vec<Compacted>,
) -> anyhow::Result<()> {
    let mut scene = Scene::new(shards).await?;
    let (_, contract) = shipped(TABLE);
    std::fs::write(scene.contract(TABLE), contract.split("[[window]]").next().unwrap_or_default())?;
    scene.settings.streams = vec![TABLE];
    scene.settings.flush_interval_ms = 5_000;
    scene.settings.sections = format!(
        "[maintenance]\nenabled = false\ncompact_files = {COMPACT_FILES}\ntarget_file_bytes = \"{}MiB\"\n",
        TARGET_BYTES >> 20
    );
    let count = count.min(lines.records);
    put(&scene, TABLE, &lines.valid, count).await?;
    for flush in Flush::ALL {
        scene.settings.flush_bytes = flush.bytes();
        let tables = Tables::make(program, python, &scene, count).await.with_context(|| flush.name())?;
        for round in 0..rounds {
            let mut order = Compactor::ALL;
            order.rotate_left(round % Compactor::ALL.len());
            for who in order {
                let (work, after) =
                    tables.turn(who).await.with_context(|| format!("{}, {}", who.name(), flush.name()))?;
                let differences = tables.found.profile.differences(&after.profile);
                let (before, after) = (tables.found.files, after.files);
                turns.push(Compacted { round, flush, who, work, before, after, differences });
            }
            eprintln!("compaction, {}: round {} of {rounds} done", flush.name(), round + 1);
        }
    }
    Ok(())
}

/// `pintail maintain` in this process, and what this process took for it.
pub fn maintain(config: &Path) -> anyhow::Result<Work> {
    let words = ["pintail", "maintain", "--config"].map(OsStr::new);
    let called = pintail::cli::Cli::try_parse_from(words.into_iter().chain([config.as_os_str()]))?;
    let started = Instant::now();
    ensure!(pintail::cli::run(called) == ExitCode::SUCCESS, "`pintail maintain` failed");
    Ok(Work {
        rows: None,
        cpu_s: cpu_s()?,
        wall_s: started.elapsed().as_secs_f64(),
        reading_s: None,
        rss_peak_bytes: rss_peak_bytes()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// A lake as the service has left it, for everybody to work on a copy.
struct Tables<'a> {
    program: &'a str,
    python: &'a str,
    scene: &'a Scene,
    kept: PathBuf,
    found: Found,
}

/// What the rows table holds.
struct Found {
    files: Files,
    profile: Profile,
}

impl<'a> Tables<'a> {
    async fn make(program: &'a str, python: &'a str, scene: &'a Scene, count: u64) -> anyhow::Result<Self> {
        let (lake, kept) = (scene.lake(), scene.folder().join("kept"));
        remove(&lake)?;
        remove(&kept)?;
        let mut child = scene.spawn(program)?;
        committed(&mut child, &[TABLE], count).await.with_context(|| child.story())?;
        let status = child.terminate().await?;
        ensure!(status.success(), "Pintail ended with {status}");
        let found = Found::of(scene).await?;
        let (rows, files) = (found.profile.rows, found.files.count);
        ensure!(rows == count, "Pintail made {rows} rows of the {count} records");
        ensure!(files > 1, "nothing can be compacted of {files} file; raise --served");
        std::fs::rename(&lake, &kept).with_context(|| lake.display().to_string())?;
        Ok(Self { program, python, scene, kept, found })
    }

    /// What it took, and what the table is then.
    async fn turn(&self, who: Compactor) -> anyhow::Result<(Work, Found)> {
        let lake = self.scene.lake();
        remove(&lake)?;
        copy_folder(&self.kept, &lake).with_context(|| lake.display().to_string())?;
        let work = match who {
            Compactor::Pintail => {
                let config = self.scene.configure()?;
                let words = [OsStr::new("peers-maintain"), config.as_os_str()];
                process::work(command(self.program, words), None).await?
            }
            Compactor::DeltaRs => {
                let (script, table) = (engines::script("compactor.py"), lake.join(TABLE.name()));
                let target = TARGET_BYTES.to_string();
                let words = [script.as_os_str(), table.as_os_str(), target.as_ref()];
                process::work(command(self.python, words), None).await?
            }
        };
        Ok((work, Found::of(self.scene).await?))
    }
}

impl Found {
    /// File by file: all rows of the table at once would need more memory than anybody who is measured.
    async fn of(scene: &Scene) -> anyhow::Result<Self> {
        let columns = Rooms::of(TABLE)?.data_columns();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let folder = scene.lake().join(TABLE.name());
        let (mut files, mut profile) = (Files { count: 0, bytes: 0 }, Profile::default());
        Snapshot::each_file(&scene.lake_url()?, TABLE.name(), &columns, |snapshot| {
            for file in &snapshot.files {
                files.count += 1;
                files.bytes += std::fs::metadata(folder.join(file))?.len();
            }
            snapshot.batches().iter().try_for_each(|batch| profile.add(batch))
        })
        .await?;
        Ok(Self { files, profile })
    }
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            std::fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compactor_of_the_others_has_its_script() {
        assert!(engines::script("compactor.py").exists());
    }

    #[test]
    fn a_copy_of_a_folder_has_all_that_is_below_it_and_leaves_it_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir_all(from.join("pin/_delta_log")).unwrap();
        std::fs::write(from.join("pin/_delta_log/0.json"), "{}").unwrap();
        std::fs::write(from.join("pin/a.parquet"), "PAR1").unwrap();
        copy_folder(&from, &to).unwrap();
        std::fs::write(to.join("pin/a.parquet"), "other").unwrap();
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(
            (read(to.join("pin/_delta_log/0.json")), read(from.join("pin/a.parquet"))),
            ("{}".into(), "PAR1".into())
        );
        assert!(copy_folder(&from, &to).is_err(), "a lake that is there already would be mixed with the copy");
    }
}
