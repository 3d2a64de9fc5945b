//! `pintail post`: the posting emulation against any Kinesis, real or emulated.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::args::PostArgs;
use super::pinterest::{Emulation, Kind, Population};
use super::producer::{Counters, Pace, Plan, client, produce};
use super::progress::{Phase, Snapshot, StreamProgress, show};
use super::report::grouped;

/// So long the last calls may take once it is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostSummary {
    /// Each stream and the records that it acknowledged.
    pub acknowledged: [(String, u64); 3],
    /// Their payload bytes.
    pub bytes: u64,
    /// Records that had to be sent again.
    pub sent_again: u64,
    /// Records of calls without an answer; they may be in the stream once more.
    pub unanswered: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Told to stop, it did before Kinesis had taken what was sent last.
    pub is_cut_off: bool,
}

impl Display for PostSummary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let streams = self.acknowledged.iter().map(|(stream, count)| format!("{} to {stream}", grouped(*count)));
        let (seconds, streams) = (self.elapsed.as_secs_f64(), streams.collect::<Vec<_>>().join(", "));
        write!(f, "posted in {seconds:.1} s: {streams}; {} bytes", grouped(self.bytes))?;
        if self.sent_again > 0 {
            write!(f, "; {} sent again", grouped(self.sent_again))?;
        }
        if self.unanswered > 0 {
            write!(f, "; {} without an answer, so perhaps twice in the stream", grouped(self.unanswered))?;
        }
        if self.is_cut_off {
            let seconds = STOP_PATIENCE.as_secs();
            write!(f, "; told to stop, and Kinesis had not taken what was sent last within {seconds} s")?;
        }
        Ok(())
    }
}

/// Posts until `shutdown` resolves, the time is over or the records are posted.
pub async fn post(args: PostArgs, shutdown: impl Future<Output = ()>) -> anyhow::Result<PostSummary> {
    post_to(&sdk_config(&args).await, args, shutdown).await
}

async fn post_to(
    config: &SdkConfig,
    args: PostArgs,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<PostSummary> {
    let client = client(config);
    let plan = Plan {
        streams: [args.pin.clone(), args.geo.clone(), args.user.clone()],
        pace: args.rate.map_or(Pace::Course, Pace::Rate),
        duration: args.duration,
        records: args.records,
    };
    let counters = Arc::new(Counters::default());
    let actions = Emulation::new(Arc::new(Population::new()), args.emulation.options());
    let started = Instant::now();
    let shown = CancellationToken::new();
    let stop = CancellationToken::new();
    let posting = async {
        let posted = tokio::select! {
            posted = produce(&client, actions, &plan, &counters, None, stop.cancelled()) => posted.map(|()| false),
            () = give_up(shutdown, &stop) => Ok(true),
        };
        shown.cancel();
        posted
    };
    let snapshot = || snapshot(&plan, &counters, started);
    let (posted, ()) = tokio::join!(posting, show(snapshot, shown.clone()));
    let is_cut_off = posted.context("posting stopped")?;
    Ok(PostSummary {
        acknowledged: Kind::ALL.map(|kind| (plan.streams[kind as usize].clone(), counters.acknowledged(kind))),
        bytes: counters.bytes(),
        sent_again: counters.sent_again(),
        unanswered: counters.unanswered(),
        elapsed: started.elapsed(),
        is_cut_off,
    })
}

/// Says that it is to stop, and ends a moment later: an endpoint that does not answer is tried again for minutes.
async fn give_up(shutdown: impl Future<Output = ()>, stop: &CancellationToken) {
    shutdown.await;
    stop.cancel();
    tokio::time::sleep(STOP_PATIENCE).await;
}

async fn sdk_config(args: &PostArgs) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = &args.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &args.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader.load().await
}

fn snapshot(plan: &Plan, counters: &Counters, started: Instant) -> Snapshot {
    let streams = Kind::ALL.map(|kind| StreamProgress {
        stream: plan.streams[kind as usize].clone(),
        posted: counters.acknowledged(kind),
        processed: None,
    });
    Snapshot {
        phase: Phase::Posting,
        elapsed: started.elapsed(),
        total: plan.duration,
        window_p50_ms: None,
        streams: streams.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::config::{Credentials, SharedCredentialsProvider};
    use clap::{Command, FromArgMatches};

    use super::super::kinesis::EmbeddedKinesis;
    use super::*;

    #[tokio::test]
    async fn the_records_asked_for_go_to_the_streams_named() {
        let kinesis = EmbeddedKinesis::start(&["a-pin", "a-geo", "a-user"], 1).await.unwrap();
        let command = <PostArgs as clap::Args>::augment_args(Command::new("post").no_binary_name(true));
        let line = "--pin a-pin --geo a-geo --user a-user --rate 5000/s --records 300 --clean";
        let args = PostArgs::from_arg_matches(&command.get_matches_from(line.split_whitespace())).unwrap();
        let summary = post_to(&kinesis.sdk_config(), args, std::future::pending()).await.unwrap();
        assert_eq!(summary.acknowledged, ["a-pin", "a-geo", "a-user"].map(|stream| (stream.to_owned(), 100)));
    }

    #[tokio::test]
    async fn told_to_stop_it_does_also_where_nobody_answers() {
        let command = <PostArgs as clap::Args>::augment_args(Command::new("post").no_binary_name(true));
        // It takes calls, and says nothing.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = format!("--endpoint http://{} --region us-east-1", silent.local_addr().unwrap());
        let args = PostArgs::from_arg_matches(&command.get_matches_from(line.split_whitespace())).unwrap();
        let credentials = Credentials::new("local", "local", None, None, "local");
        let config = sdk_config(&args).await.into_builder();
        let config = config.credentials_provider(SharedCredentialsProvider::new(credentials)).build();
        let is_called = async {
            silent.accept().await.unwrap();
        };
        let stopped = tokio::time::timeout(Duration::from_secs(60), post_to(&config, args, is_called)).await;
        let told = stopped.expect("it stops").unwrap().to_string();
        assert!(told.ends_with("; told to stop, and Kinesis had not taken what was sent last within 3 s"), "{told}");
    }

    #[test]
    fn the_summary_names_the_streams_and_what_is_uncertain() {
        let summary = PostSummary {
            acknowledged: [("a-pin".to_owned(), 1_200), ("a-geo".to_owned(), 1_190), ("a-user".to_owned(), 1_185)],
            bytes: 1_234_567,
            sent_again: 3,
            unanswered: 0,
            elapsed: Duration::from_millis(2_500),
            is_cut_off: false,
        };
        assert_eq!(
            summary.to_string(),
            "posted in 2.5 s: 1,200 to a-pin, 1,190 to a-geo, 1,185 to a-user; 1,234,567 bytes; 3 sent again"
        );
    }
}
