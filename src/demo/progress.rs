//! What a person watches while records flow: a line a stream on a terminal, a plain line now and then elsewhere.
//! It goes to standard error, so that the reckoning on standard output stands alone.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::report::grouped;

use crate::say::complain;

const REDRAW: Duration = Duration::from_millis(200);
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Records are posted.
    Posting,
    /// The processor is catching up.
    Draining,
    /// The tables are read back.
    ReadingBack,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Posting => "posting",
            Self::Draining => "draining",
            Self::ReadingBack => "reading the tables back",
        }
    }
}

/// One moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What is going on.
    pub phase: Phase,
    /// Since the start.
    pub elapsed: Duration,
    /// How long posting goes on; `None` without an end.
    pub total: Option<Duration>,
    /// Median from the Put call to the live window, of the latest records.
    pub window_p50_ms: Option<f64>,
    /// Each stream.
    pub streams: Vec<StreamProgress>,
}

/// One stream at one moment.
#[derive(Debug, Clone, Default)]
pub struct StreamProgress {
    /// Its name.
    pub stream: String,
    /// Records acknowledged by Kinesis.
    pub posted: u64,
    /// What the processor has made of it, if there is one.
    pub processed: Option<Processed>,
}

/// The processor's side of a stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Processed {
    /// Records read.
    pub read: u64,
    /// Rows committed.
    pub rows: u64,
    /// Rejects committed.
    pub rejects: u64,
    /// The furthest behind of its shards; `None` before the first read.
    pub behind_ms: Option<i64>,
}

/// Shows `snapshot` until `ended`; returns with the lines removed from the terminal.
pub async fn show(snapshot: impl Fn() -> Snapshot, ended: CancellationToken) {
    let terminal = std::io::stderr().is_terminal();
    let mut painter = if terminal { Painter::Lines(Lines::new(&snapshot())) } else { Painter::Plain };
    let every = if terminal { REDRAW } else { PLAIN_EVERY };
    let mut before = snapshot();
    loop {
        tokio::select! {
            () = ended.cancelled() => break,
            () = tokio::time::sleep(every) => {}
        }
        let now = snapshot();
        match &mut painter {
            Painter::Lines(lines) => lines.paint(&before, &now),
            Painter::Plain => complain!("{}", plain(&before, &now)),
        }
        before = now;
    }
    if let Painter::Lines(lines) = painter {
        lines.clear();
    }
}

enum Painter {
    Lines(Lines),
    Plain,
}

struct Lines {
    all: MultiProgress,
    head: ProgressBar,
    streams: Vec<ProgressBar>,
    /// Posted a second, smoothed: a redraw's own count jumps with the slices.
    rates: Vec<f64>,
}

impl Lines {
    fn new(first: &Snapshot) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let length = first.total.map_or(0, |total| total.as_millis() as u64);
        let head = all.add(ProgressBar::new(length));
        let template = if length > 0 { "{spinner} {bar:32} {msg}" } else { "{spinner} {msg}" };
        head.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let line = |_| {
            let line = all.add(ProgressBar::no_length());
            line.set_style(ProgressStyle::with_template("  {msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
            line
        };
        let streams: Vec<ProgressBar> = first.streams.iter().map(line).collect();
        let rates = vec![0.0; streams.len()];
        Self { all, head, streams, rates }
    }

    fn paint(&mut self, before: &Snapshot, now: &Snapshot) {
        self.head.set_position(now.elapsed.as_millis() as u64);
        self.head.set_message(headline(now));
        self.head.tick();
        for (index, stream) in now.streams.iter().enumerate() {
            if let (Some(rate), Some(line)) = (self.rates.get_mut(index), self.streams.get(index)) {
                *rate += (rate_of(before, now, index) - *rate) / 8.0;
                line.set_message(stream_line(stream, *rate));
                line.tick();
            }
        }
    }

    fn clear(self) {
        self.head.finish_and_clear();
        self.streams.iter().for_each(ProgressBar::finish_and_clear);
        if let Err(error) = self.all.clear() {
            tracing::debug!(%error, "progress lines not cleared");
        }
    }
}

fn rate_of(before: &Snapshot, now: &Snapshot, index: usize) -> f64 {
    let posted = |snapshot: &Snapshot| snapshot.streams.get(index).map_or(0, |stream| stream.posted);
    let seconds = now.elapsed.saturating_sub(before.elapsed).as_secs_f64();
    if seconds > 0.0 { posted(now).saturating_sub(posted(before)) as f64 / seconds } else { 0.0 }
}

fn headline(now: &Snapshot) -> String {
    let total = now.total.map_or_else(String::new, |total| format!(" of {} s", total.as_secs()));
    let window = now.window_p50_ms.map_or_else(String::new, |ms| format!(", live after {ms:.0} ms (p50)"));
    format!("{} {} s{total}{window}", now.phase.as_str(), now.elapsed.as_secs())
}

fn stream_line(stream: &StreamProgress, rate: f64) -> String {
    let posted = format!("{:<6} posted {:>10} {rate:>7.0}/s", stream.stream, grouped(stream.posted));
    let Some(processed) = stream.processed else { return posted };
    let behind = processed.behind_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let (read, rows) = (grouped(processed.read), grouped(processed.rows));
    let rejects = grouped(processed.rejects);
    format!("{posted}   read {read:>10}   in the lake {rows:>10} rows {rejects:>6} rejects   behind {behind}")
}

fn plain(before: &Snapshot, now: &Snapshot) -> String {
    let line = |(index, stream)| stream_line(stream, rate_of(before, now, index));
    let streams: Vec<String> = now.streams.iter().enumerate().map(line).collect();
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}; {}", headline(now), streams.iter().map(|line| squeezed(line)).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_everything_at_once() {
        let snapshot = |elapsed, posted| Snapshot {
            phase: Phase::Posting,
            elapsed: Duration::from_secs(elapsed),
            total: Some(Duration::from_secs(30)),
            window_p50_ms: Some(180.0),
            streams: vec![StreamProgress {
                stream: "pin".to_owned(),
                posted,
                processed: Some(Processed { read: 2_100, rows: 2_000, rejects: 5, behind_ms: Some(0) }),
            }],
        };
        assert_eq!(
            plain(&snapshot(5, 1_000), &snapshot(10, 2_200)),
            "posting 10 s of 30 s, live after 180 ms (p50); pin posted 2,200 240/s read 2,100 in the lake 2,000 rows \
             5 rejects behind 0 ms"
        );
    }

    #[tokio::test]
    async fn showing_ends_when_told() {
        let ended = CancellationToken::new();
        ended.cancel();
        let snapshot = || Snapshot {
            phase: Phase::Draining,
            elapsed: Duration::ZERO,
            total: None,
            window_p50_ms: None,
            streams: Vec::new(),
        };
        show(snapshot, ended).await;
    }
}
