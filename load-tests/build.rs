//! Writes down what is built, for the reports: the commit, and whether the sources were as committed.

use std::process::Command;

fn main() {
    for watched in ["src", "profiles", "../src", "../schemas", "../Cargo.lock", "../.git/HEAD", "../.git/logs/HEAD"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changed = git(&["status", "--porcelain", "--", "..", "."]).is_some_and(|files| !files.is_empty());
    println!("cargo::rustc-env=LOAD_TESTS_COMMIT={commit}{}", if changed { " with changes" } else { "" });
}

/// What it answers; `None` without git, or outside of a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let answer = Command::new("git").args(arguments).output().ok().filter(|answer| answer.status.success())?;
    Some(String::from_utf8(answer.stdout).ok()?.trim().to_owned())
}
