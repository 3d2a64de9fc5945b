//! The reckoning at the end of a demo, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Map, Value, json};

use super::latency::LatencyMs;
use super::readback::{Reckoning, StreamTables, Tally};

/// What this process has used so far, the emulation and the embedded Kinesis included.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// User and system time.
    pub cpu_seconds: f64,
    /// The most memory that was resident at once.
    pub rss_peak_bytes: u64,
}

impl Usage {
    /// Asks the kernel.
    pub fn of_this_process() -> nix::Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        let kib = u64::try_from(usage.max_rss()).unwrap_or_default();
        Ok(Self { cpu_seconds: seconds(usage.user_time()) + seconds(usage.system_time()), rss_peak_bytes: kib * 1024 })
    }
}

/// A demo, reckoned up.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Where the tables are.
    pub lake: PathBuf,
    /// Each stream's tables and what was found in them.
    pub streams: Vec<(StreamTables, Reckoning)>,
    /// Transport damage that was undone, by stream and kind.
    pub repairs: BTreeMap<String, BTreeMap<String, u64>>,
    /// From the send of the Put call.
    pub latency_ms: LatencyMs,
    /// How long was posted.
    pub posted_s: f64,
    /// Whether everything that was posted was committed before the processor was told to stop.
    pub caught_up: bool,
    /// What it took.
    pub usage: Usage,
}

impl Report {
    /// Nothing lost, nothing twice, nothing altered, nothing out of order.
    pub fn is_clean(&self) -> bool {
        self.total().is_clean()
    }

    /// The report file.
    pub fn to_json(&self) -> Value {
        let by_stream = |value: &dyn Fn(&Reckoning) -> Value| -> Value {
            let entries = self.streams.iter().map(|(tables, reckoning)| (tables.stream.clone(), value(reckoning)));
            Value::Object(entries.collect::<Map<_, _>>())
        };
        let total = self.total();
        json!({
            "posted": by_stream(&|reckoning| json!(reckoning.total().accepted)),
            "rows": by_stream(&|reckoning| json!(reckoning.rows)),
            "rejects": by_stream(&|reckoning| json!(reckoning.rejects)),
            "repairs": self.repairs,
            "lost": total.lost,
            "duplicated": total.duplicated,
            "altered": total.altered,
            "out_of_order": total.out_of_order,
            "unexpected": total.unexpected,
            "latency_ms": self.latency_ms,
            "posted_seconds": self.posted_s,
            "caught_up": self.caught_up,
            "cpu_seconds": self.usage.cpu_seconds,
            "rss_peak_bytes": self.usage.rss_peak_bytes,
            "lake": self.lake.display().to_string(),
        })
    }

    fn total(&self) -> Tally {
        self.streams.iter().fold(Tally::default(), |sum, (_, reckoning)| sum.plus(reckoning.total()))
    }

    fn write_verdict(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let total = self.total();
        let (records, seconds) = (grouped(total.accepted), self.posted_s);
        write!(f, "{records} records posted in {seconds:.1} s: ")?;
        if total.is_clean() {
            writeln!(f, "none lost, none duplicated, none altered")?;
        } else {
            let (lost, duplicated, altered) = (total.lost, total.duplicated, total.altered);
            let counts = [lost, duplicated, altered, total.out_of_order].map(grouped);
            let [lost, duplicated, altered, disordered] = counts;
            writeln!(f, "{lost} LOST, {duplicated} DUPLICATED, {altered} ALTERED, {disordered} OUT OF ORDER")?;
        }
        if !self.caught_up {
            writeln!(f, "The processor had stopped making progress before everything was in the lake.")?;
        }
        Ok(())
    }

    fn write_streams(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let heads = ["posted", "unanswered", "rows", "rejects", "lost", "duplicated"];
        write!(f, "\n{:<10}", "stream")?;
        heads.iter().try_for_each(|head| write!(f, "{head:>12}"))?;
        writeln!(f)?;
        for (tables, it) in &self.streams {
            let total = it.total();
            let rejects = it.rejects.values().sum();
            let counts = [total.accepted, total.unexpected, it.rows, rejects, total.lost, total.duplicated];
            write!(f, "{:<10}", tables.stream)?;
            counts.iter().try_for_each(|count| write!(f, "{:>12}", grouped(*count)))?;
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_reasons(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let empty = BTreeMap::new();
        for (tables, it) in &self.streams {
            let repairs = self.repairs.get(&tables.stream).unwrap_or(&empty);
            for (what, counts) in [("rejected", &it.rejects), ("repaired", repairs)] {
                if !counts.is_empty() {
                    let shown: Vec<_> =
                        counts.iter().map(|(why, count)| format!("{why} {}", grouped(*count))).collect();
                    writeln!(f, "{:<10}{what:<10}{}", tables.stream, shown.join(", "))?;
                }
            }
        }
        let unexpected = self.total().unexpected;
        if unexpected > 0 {
            let count = grouped(unexpected);
            writeln!(
                f,
                "unanswered: {count} records are in the tables beyond those whose put was answered. Either somebody else \
                 posts to these streams, or Kinesis took them and the answer to their put was an error or never came."
            )?;
        }
        Ok(())
    }

    fn write_latencies(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let it = &self.latency_ms;
        writeln!(f, "\n{:<24}{:>12}{:>12}", "from the Put call", "p50", "p99")?;
        for (what, p50, p99) in
            [("to the live window", it.window_p50, it.window_p99), ("to the lake", it.lake_p50, it.lake_p99)]
        {
            writeln!(f, "{what:<24}{:>12}{:>12}", shown_ms(p50), shown_ms(p99))?;
        }
        let (cpu, rss) = (self.usage.cpu_seconds, self.usage.rss_peak_bytes / (1024 * 1024));
        writeln!(f, "\n{cpu:.1} s of CPU and {rss} MiB at the peak, the emulation and the embedded Kinesis included")
    }

    fn write_commands(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nThe tables are in {}. Look at them with DuckDB or Polars:", self.lake.display())?;
        writeln!(f, "  (`INSTALL delta` fetches DuckDB's extension from the internet; once is enough)")?;
        for (tables, reckoning) in &self.streams {
            writeln!(f, "  {}", duckdb("SELECT * FROM", &self.lake.join(&tables.rows), "LIMIT 5"))?;
            writeln!(f, "  {}", polars(&self.lake.join(&tables.rows)))?;
            if !reckoning.rejects.is_empty() {
                let rejects = self.lake.join(&tables.rejects);
                writeln!(f, "  {}", duckdb("SELECT reason, detail, payload FROM", &rejects, "LIMIT 5"))?;
            }
        }
        Ok(())
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write_verdict(f)?;
        self.write_streams(f)?;
        self.write_reasons(f)?;
        self.write_latencies(f)?;
        self.write_commands(f)
    }
}

fn duckdb(select: &str, table: &Path, rest: &str) -> String {
    let path = table.display().to_string().replace('\'', "''");
    shell("duckdb -c", &format!("INSTALL delta; LOAD delta; {select} delta_scan('{path}') {rest}"))
}

fn polars(table: &Path) -> String {
    let path = table.display().to_string().replace('\\', "\\\\").replace('\'', "\\'");
    shell("python3 -c", &format!("import polars as pl; print(pl.scan_delta('{path}').head(5).collect())"))
}

/// A command with one argument in double quotes, so that the argument may hold single ones.
fn shell(command: &str, argument: &str) -> String {
    let escaped = argument.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('`', "\\`");
    format!("{command} \"{escaped}\"")
}

fn shown_ms(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 1_000.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.2} s", ms / 1_000.0),
    }
}

/// `12345` as `12,345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    groups.iter().map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::pinterest::Kind;
    use super::*;
    use crate::checkpoint::ShardId;

    fn report(lost: u64) -> Report {
        let tables = |stream: &str| StreamTables {
            stream: stream.to_owned(),
            kind: Kind::Pin,
            rows: stream.to_owned(),
            rejects: format!("{stream}_rejects"),
        };
        let shard = |tally| BTreeMap::from([(ShardId::new("shardId-000000000000"), tally)]);
        let pin = Reckoning {
            rows: 12_340,
            rejects: BTreeMap::from([("empty".to_owned(), 5 - lost)]),
            shards: shard(Tally { accepted: 12_345, lost, ..Tally::default() }),
            ..Reckoning::default()
        };
        let geo =
            Reckoning { rows: 10, shards: shard(Tally { accepted: 10, ..Tally::default() }), ..Reckoning::default() };
        Report {
            lake: PathBuf::from("/tmp/it's a lake"),
            streams: vec![(tables("pin"), pin), (tables("geo"), geo)],
            repairs: BTreeMap::from([("pin".to_owned(), BTreeMap::from([("base64".to_owned(), 3)]))]),
            latency_ms: LatencyMs { window_p50: Some(120.4), window_p99: Some(1_500.0), ..LatencyMs::default() },
            posted_s: 30.0,
            caught_up: true,
            usage: Usage { cpu_seconds: 3.25, rss_peak_bytes: 100 << 20 },
        }
    }

    #[test]
    fn the_json_has_the_documented_shape() {
        let json = report(1).to_json();
        assert_eq!(json["posted"], json!({"pin": 12_345, "geo": 10}));
        assert_eq!(json["rows"], json!({"pin": 12_340, "geo": 10}));
        assert_eq!(json["rejects"], json!({"pin": {"empty": 4}, "geo": {}}));
        assert_eq!((&json["lost"], &json["duplicated"]), (&json!(1), &json!(0)));
        assert_eq!(
            json["latency_ms"],
            json!({"window_p50": 120.4, "window_p99": 1_500.0, "lake_p50": null, "lake_p99": null})
        );
        assert_eq!((&json["cpu_seconds"], &json["rss_peak_bytes"]), (&json!(3.25), &json!(104_857_600)));
    }

    #[test]
    fn the_summary_says_first_whether_anything_was_lost() {
        let clean = report(0);
        assert!(clean.is_clean());
        assert!(
            clean
                .to_string()
                .starts_with("12,355 records posted in 30.0 s: none lost, none duplicated, none altered\n")
        );
        let lossy = report(1);
        assert!(!lossy.is_clean());
        assert!(
            lossy
                .to_string()
                .starts_with("12,355 records posted in 30.0 s: 1 LOST, 0 DUPLICATED, 0 ALTERED, 0 OUT OF ORDER\n")
        );
    }

    #[test]
    fn what_kinesis_took_without_an_answer_is_in_the_table_beside_what_was_posted() {
        let mut report = report(0);
        let tally = report.streams[0].1.shards.values_mut().next().unwrap();
        tally.unexpected = 763;
        report.streams[0].1.rows += 763;
        let summary = report.to_string();
        let row = summary.lines().find(|line| line.starts_with("pin ")).unwrap();
        let numbers: Vec<&str> = row.split_whitespace().skip(1).collect();
        assert_eq!(numbers, ["12,345", "763", "13,103", "5", "0", "0"], "posted + unanswered = rows + rejects");
        assert!(
            summary.contains("\nunanswered: 763 records are in the tables beyond those whose put was answered."),
            "{summary}"
        );
    }

    #[test]
    fn commands_survive_a_quote_in_the_path() {
        let summary = report(0).to_string();
        assert!(summary.contains("delta_scan('/tmp/it''s a lake/pin') LIMIT 5\""), "{summary}");
        assert!(summary.contains(r"pl.scan_delta('/tmp/it\\'s a lake/pin')"), "{summary}");
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of_this_process().unwrap();
        assert!(usage.cpu_seconds > 0.0 && usage.rss_peak_bytes > 1 << 20, "{usage:?}");
    }
}
