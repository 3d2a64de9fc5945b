//! Writes down what is built, for the reports: the commit, whether the sources were as committed, and by which compiler.

use std::process::Command;

fn main() {
    for watched in ["src", "profiles", "../src", "../schemas", "../Cargo.lock", "../.git/HEAD", "../.git/logs/HEAD"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changed = git(&["status", "--porcelain", "--", "..", "."]).is_some_and(|files| !files.is_empty());
    println!("cargo::rustc-env=LOAD_TESTS_COMMIT={commit}{}", if changed { " with changes" } else { "" });
    println!("cargo::rustc-env=LOAD_TESTS_RUSTC={}", compiler().unwrap_or_else(|| "an unknown compiler".to_owned()));
}

/// Its name and version, as `rustc --version` has them.
fn compiler() -> Option<String> {
    let answer = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    Some(String::from_utf8(answer.stdout).ok()?.trim().to_owned())
}

/// What it answers; `None` without git, or outside of a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let answer = Command::new("git").args(arguments).output().ok().filter(|answer| answer.status.success())?;
    Some(String::from_utf8(answer.stdout).ok()?.trim().to_owned())
}
