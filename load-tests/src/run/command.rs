//! `load-tests run` on the command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::{Plan, Profile, Target, page, run};
use crate::cli;

/// `load-tests run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A shipped profile, or the path of a TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "canonical", value_parser = profile)]
    profile: Profile,
    /// Folder for report.json and report.html; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "load-test-report")]
    report: PathBuf,
    /// How long to post [default: the profile's]
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    duration: Option<Duration>,
    /// Records a second over all streams [default: the profile's]
    #[arg(long, value_name = "N", value_parser = cli::rate)]
    rate: Option<f64>,
    /// Draws times and records [default: a fresh one, which is printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Another Kinesis than one of our own, with the credentials of the environment; asks before it creates streams
    #[arg(long, value_name = "URL", conflicts_with = "aws")]
    endpoint: Option<String>,
    /// Amazon's Kinesis, with the credentials of the environment; asks before it spends. The lake stays here
    #[arg(long)]
    aws: bool,
    /// The region of --aws or --endpoint [default: the environment's]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// What the names of the streams begin with [default at somebody else's: load-test-SEED-]
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Creates without asking
    #[arg(long)]
    yes: bool,
}

fn profile(name: &str) -> Result<Profile, String> {
    Profile::load(name).map_err(|error| format!("{error:#}"))
}

/// Runs it, and writes the reports; whether every promise held.
pub async fn command(
    args: RunArgs,
    program: &str,
    stop: impl Future<Output = anyhow::Result<anyhow::Error>>,
) -> anyhow::Result<bool> {
    let mut profile = args.profile;
    if let Some(duration) = args.duration {
        profile.duration_ms = u64::try_from(duration.as_millis())?;
    }
    profile.rate = args.rate.unwrap_or(profile.rate);
    std::fs::create_dir_all(&args.report).with_context(|| args.report.display().to_string())?;
    let (json, html) = (args.report.join("report.json"), args.report.join("report.html"));
    cli::check_writable(&json)?;
    let seed = cli::seed_of(args.seed);
    let target = match (args.endpoint, args.aws) {
        (Some(endpoint), _) => Some(Target::Endpoint { endpoint, region: args.region }),
        (None, true) => Some(Target::Aws { region: args.region }),
        (None, false) => None,
    };
    let prefix = match (args.prefix, &target) {
        (Some(prefix), _) => prefix,
        (None, Some(_)) => format!("load-test-{}-", seed.value()),
        (None, None) => String::new(),
    };
    let plan = Plan { profile, seed, target, prefix, yes: args.yes, progress: true };
    let report = run(program, &plan, stop).await?;
    cli::publish(&json, &report)?;
    std::fs::write(&html, page(&report)?).with_context(|| html.display().to_string())?;
    eprintln!("for people: {}", html.display());
    println!("{}", report.summary());
    cli::tell_verdict(&report.violations);
    Ok(report.is_clean())
}
