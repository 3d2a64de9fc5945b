//! Who else can do the work: engines with a Python door, each a script in `load-tests/peers`.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde::Serialize;

use super::java;
use super::process::command;

/// Their scripts, and the one that installs them.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// An engine that cleans JSON lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// DuckDB.
    Duckdb,
    /// Polars, streaming.
    Polars,
    /// DataFusion: arrow-json, as in the engines that are built on it.
    Datafusion,
    /// ClickHouse, in process.
    Clickhouse,
    /// Spark on one core, warm.
    Spark,
}

impl Engine {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Duckdb => "DuckDB",
            Self::Polars => "Polars",
            Self::Datafusion => "DataFusion",
            Self::Clickhouse => "ClickHouse",
            Self::Spark => "Spark",
        }
    }

    /// Its program.
    pub fn script(self) -> PathBuf {
        let file = match self {
            Self::Duckdb => "duckdb_engine.py",
            Self::Polars => "polars_engine.py",
            Self::Datafusion => "datafusion_engine.py",
            Self::Clickhouse => "clickhouse_engine.py",
            Self::Spark => "spark_engine.py",
        };
        script(file)
    }

    /// What it needs and this machine has not, although `install` was here; and what to do about it.
    async fn lacks(self) -> Option<String> {
        match self {
            Self::Spark => java::lacking(&java::of_spark()).await,
            Self::Duckdb | Self::Polars | Self::Datafusion | Self::Clickhouse => None,
        }
    }
}

/// Those that can work on this machine, and why the others cannot.
pub async fn able(engines: &[Engine]) -> (Vec<Engine>, Vec<LeftOut>) {
    let (mut able, mut left_out) = (Vec::new(), Vec::new());
    for engine in engines.iter().copied() {
        match engine.lacks().await {
            None => able.push(engine),
            Some(why) => left_out.push(LeftOut { engine, why }),
        }
    }
    (able, left_out)
}

/// An engine that was asked for and cannot work here: that says nothing against anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Who.
    pub engine: Engine,
    /// What is to be installed.
    pub why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is left out: {}", self.engine.name(), self.why)
    }
}

/// One of the scripts beside the engines'.
pub fn script(file: &str) -> PathBuf {
    Path::new(SCRIPTS).join(file)
}

/// Installs the engines below a folder, unless they are there: the Python that has them.
pub async fn install(folder: &Path) -> anyhow::Result<String> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut command = command("bash", [format!("{SCRIPTS}/install")]);
    command.env("PINTAIL_PEERS_HOME", folder).stderr(std::process::Stdio::inherit());
    let ended = command.output().await.context("bash does not start")?;
    ensure!(ended.status.success(), "the engines cannot be installed: {}", ended.status);
    let python = String::from_utf8(ended.stdout)?.trim().to_owned();
    ensure!(Path::new(&python).exists(), "the engines' installation left no {python:?}");
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_its_script() {
        for engine in Engine::value_variants() {
            assert!(engine.script().exists(), "{}", engine.script().display());
        }
    }
}
