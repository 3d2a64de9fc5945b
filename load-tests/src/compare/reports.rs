//! The reports of one side, and whether both sides are comparable at all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::run::{FORMAT, Report};

const FILE: &str = "report.json";

/// A report; those of a folder; or those of the folders in it.
pub fn read(path: &Path) -> anyhow::Result<Vec<Report>> {
    let files = files(path).with_context(|| path.display().to_string())?;
    ensure!(!files.is_empty(), "{}: no {FILE} in it, nor in a folder in it", path.display());
    files.iter().map(|file| report(file).with_context(|| file.display().to_string())).collect()
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = vec![path.join(FILE)];
    for entry in std::fs::read_dir(path)? {
        files.push(entry?.path().join(FILE));
    }
    files.retain(|file| file.is_file());
    files.sort_unstable();
    Ok(files)
}

fn report(file: &Path) -> anyhow::Result<Report> {
    let json: Value = serde_json::from_slice(&std::fs::read(file)?).context("not JSON")?;
    let format = json.get("format").and_then(Value::as_u64);
    let right = format == Some(u64::from(FORMAT));
    ensure!(right, "a report of `load-tests run` with \"format\": {FORMAT} is expected, this has {format:?}");
    serde_json::from_value(json).context("not a report of `load-tests run`")
}

/// What should be the same in all reports and is not, in words.
pub fn differing(before: &[Report], after: &[Report]) -> Vec<String> {
    let all = || before.iter().chain(after);
    let told = |what: &str, of: &dyn Fn(&Report) -> String| {
        let values: BTreeSet<String> = all().map(of).collect();
        (values.len() > 1).then(|| format!("{what}: {}", values.into_iter().collect::<Vec<_>>().join(" / ")))
    };
    let machine = |report: &Report| {
        let machine = &report.machine;
        format!("{}, {} cores, kernel {}", machine.cpu, machine.cores, machine.kernel)
    };
    let kind = |report: &Report| if report.build.release { "release" } else { "debug" }.to_owned();
    let mut differing: Vec<String> =
        [told("machine", &machine), told("build", &kind), told("Kinesis", &|report| report.target.clone())]
            .into_iter()
            .flatten()
            .collect();
    let profiles: Vec<Value> = all().filter_map(|report| serde_json::to_value(&report.profile).ok()).collect();
    let keys: BTreeSet<&String> = profiles.iter().filter_map(Value::as_object).flat_map(|keys| keys.keys()).collect();
    for key in keys.into_iter().filter(|key| !["name", "about"].contains(&key.as_str())) {
        let values: BTreeSet<String> = profiles.iter().map(|profile| profile[key].to_string()).collect();
        if values.len() > 1 {
            differing.push(format!("profile, {key}: {}", values.into_iter().collect::<Vec<_>>().join(" / ")));
        }
    }
    differing
}
