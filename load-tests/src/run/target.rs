//! Which Kinesis: one of our own, any endpoint, or AWS.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use pintail::demo::kinesis::local_config;
use serde::{Deserialize, Serialize};

use super::profile::Profile;

/// What a shard of a provisioned stream costs in us-east-1, so that somebody who pays has an idea.
const SHARD_HOUR_USD: f64 = 0.015;

/// The region of everything that is not AWS.
const LOCAL_REGION: &str = "us-east-1";

/// Where records are posted to and read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A Kinesis in a process of the harness.
    Own {
        /// Its endpoint.
        endpoint: String,
    },
    /// Another one, by its endpoint.
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// The region that requests are signed for.
        region: Option<String>,
    },
    /// Amazon's, with the credentials of the environment.
    Aws {
        /// The region, if not the environment's.
        region: Option<String>,
    },
}

impl Target {
    /// The SDK's configuration that leads there.
    pub async fn sdk_config(&self) -> SdkConfig {
        let (endpoint, region) = match self {
            Self::Own { endpoint } => return local_config(endpoint),
            Self::Endpoint { endpoint, region } => (Some(endpoint), region.as_deref().or(Some(LOCAL_REGION))),
            Self::Aws { region } => (None, region.as_deref()),
        };
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(endpoint) = endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        loader.load().await
    }

    /// Its endpoint, unless it is AWS's own.
    pub fn endpoint(&self) -> Option<String> {
        match self {
            Self::Own { endpoint } | Self::Endpoint { endpoint, .. } => Some(endpoint.clone()),
            Self::Aws { .. } => None,
        }
    }

    /// Whether streams there are somebody's, and have to be asked for and cleaned up.
    pub fn is_foreign(&self) -> bool {
        !matches!(self, Self::Own { .. })
    }

    /// For the report, without anything secret.
    pub fn name(&self) -> String {
        match self {
            Self::Own { .. } => "own".to_owned(),
            Self::Endpoint { endpoint, .. } => endpoint.clone(),
            Self::Aws { region } => format!("AWS {}", region.as_deref().unwrap_or("(the environment's region)")),
        }
    }
}

/// Says what will be created, and asks. `Ok` means yes.
pub fn ask(target: &Target, streams: &[String], profile: &Profile, yes: bool) -> anyhow::Result<()> {
    let shards = profile.shards as usize * streams.len();
    let minutes = profile.duration_ms.div_ceil(60_000) + 5;
    eprintln!("On {} these streams are created, and deleted at the end, also after Ctrl-C:", target.name());
    for stream in streams {
        eprintln!("  {stream}, {} shards", profile.shards);
    }
    if matches!(target, Target::Aws { .. }) {
        // Every hour that has begun is paid.
        let usd = shards as f64 * SHARD_HOUR_USD * minutes.div_ceil(60) as f64;
        eprintln!("About {minutes} minutes of {shards} shards: some {usd:.2} USD, and PUT units and reads beside.");
        if profile.reshard_every_ms.is_some() {
            eprintln!("Splits make up to {} shards.", 6 * streams.len());
        }
        eprintln!("If this process is killed with SIGKILL, the streams stay: delete them by hand.");
    }
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    ensure!(stdin.is_terminal(), "nobody is there to say yes; `--yes` says it beforehand");
    eprint!("Go on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).context("the answer")?;
    ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was created");
    Ok(())
}
