//! The command lines of `pintail demo` and `pintail post`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::pinterest::EmulationOptions;
use crate::toml_doc::{DurationMs, FromToml};

/// Beyond this the emulation's own generator would be what is measured.
const RATE_MAX: f64 = 1_000_000.0;

/// `pintail demo`
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How long to post; then everything is drained and reckoned up. Ctrl-C ends it early, with the same reckoning
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub duration: Duration,
    /// Records a second over all three streams
    #[arg(long, value_name = "N/s", default_value = "500/s", value_parser = rate)]
    pub rate: f64,
    /// Shards of each stream
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub shards: u32,
    /// Folder for the tables; must be empty or not exist yet [default: a fresh one under the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub lake: Option<PathBuf>,
    /// Port of the live page, the API and the metrics on 127.0.0.1 [default: any free one]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Write the reckoning to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub emulation: EmulationArgs,
}

/// `pintail post`
#[derive(Debug, Clone, Args)]
pub struct PostArgs {
    /// Where Kinesis is, if not at AWS; an emulator takes any credentials, but needs some in the environment
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    pub endpoint: Option<String>,
    /// AWS region [default: the environment's or the profile's]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Stream that gets the pin records
    #[arg(long, value_name = "NAME", default_value = "pin")]
    pub pin: String,
    /// Stream that gets the geo records
    #[arg(long, value_name = "NAME", default_value = "geo")]
    pub geo: String,
    /// Stream that gets the user records
    #[arg(long, value_name = "NAME", default_value = "user")]
    pub user: String,
    /// Records a second over all three streams [default: the course's pace, 0 or 1 s between actions]
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub rate: Option<f64>,
    /// Stop after this time [default: at Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Stop after this many records over all three streams
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub records: Option<u64>,
    #[command(flatten)]
    pub emulation: EmulationArgs,
}

/// What both post.
#[derive(Debug, Clone, Args)]
pub struct EmulationArgs {
    /// Seed of the row sequence; 100 is the one that every student of the course posts
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub seed: u64,
    /// Actions that are followed by the same bytes of an earlier one: 1%, or 0.01
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    pub duplicates: f64,
    /// Actions that are cut short, so that the user or the geo and user records are missing
    #[arg(long, value_name = "SHARE", default_value = "2.7%", value_parser = share)]
    pub orphans: f64,
    /// Records that are accompanied by a payload that is no record: HTML, cut-off JSON, nothing at all, ...
    #[arg(long, value_name = "SHARE", default_value = "0.5%", value_parser = share)]
    pub garbage: f64,
    /// Records damaged on their way: wrapped in a list, a string or base64, compressed, in the wrong stream, ...
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    pub damage: f64,
    /// No dirt but what the rows themselves have: no duplicates, orphans, garbage or damage, ISO timestamps only
    #[arg(long, conflicts_with_all = ["duplicates", "orphans", "garbage", "damage"])]
    pub clean: bool,
}

impl EmulationArgs {
    /// As the emulation takes them.
    pub fn options(&self) -> EmulationOptions {
        if self.clean {
            return EmulationOptions::clean(self.seed);
        }
        EmulationOptions {
            seed: self.seed,
            duplicates: self.duplicates,
            orphans: self.orphans,
            garbage: self.garbage,
            damage: self.damage,
            mixed_timestamps: true,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = DurationMs::from_text(text).filter(|parsed| parsed.0 > 0);
    parsed.map(|parsed| Duration::from_millis(parsed.0)).ok_or_else(|| format!("expected {}", DurationMs::EXPECTED))
}

fn endpoint(text: &str) -> Result<String, String> {
    let usable = url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    usable.then(|| text.to_owned()).ok_or_else(|| "expected http://host:port or https://host".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim().parse::<f64>().ok();
    let expected = || format!("expected records a second, like 500/s, above 0 and at most {RATE_MAX:.0}/s");
    number.filter(|rate| *rate > 0.0 && *rate <= RATE_MAX).ok_or_else(expected)
}

fn share(text: &str) -> Result<f64, String> {
    let number = match text.strip_suffix('%') {
        Some(percent) => format!("{}e-2", percent.trim()).parse::<f64>().ok(),
        None => text.trim().parse::<f64>().ok(),
    };
    let expected = || "expected a share between 0 and 1, like 0.5% or 0.005".to_owned();
    number.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parsed<A: Args + FromArgMatches>(line: &str) -> Result<A, String> {
        let command = A::augment_args(Command::new("pintail").no_binary_name(true));
        let matches = command.try_get_matches_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        A::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let demo: DemoArgs = parsed("").unwrap();
        assert_eq!((demo.duration, demo.rate, demo.shards), (Duration::from_secs(30), 500.0, 2));
        assert_eq!(demo.emulation.options(), EmulationOptions::default());
        let post: PostArgs = parsed("").unwrap();
        assert_eq!((post.rate, post.duration, post.records), (None, None, None));
    }

    #[test]
    fn clean_means_no_dirt_at_all() {
        let demo: DemoArgs = parsed("--clean --seed 7 --rate 20000/s").unwrap();
        assert_eq!(demo.emulation.options(), EmulationOptions::clean(7));
        assert_eq!(demo.rate, 20_000.0);
        assert!(parsed::<DemoArgs>("--clean --garbage 1%").is_err());
    }

    #[test]
    fn what_is_wrong_says_what_would_be_right() {
        let refused = |line: &str| parsed::<DemoArgs>(line).unwrap_err();
        assert!(refused("--duration 30").contains("a duration with its unit"));
        assert!(refused("--rate fast").contains("like 500/s"));
        assert!(refused("--rate 0/s").contains("above 0"));
        assert!(refused("--garbage 5").contains("between 0 and 1"));
    }
}
