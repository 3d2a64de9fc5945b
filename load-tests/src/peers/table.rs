//! The report for people: a table for each job.

use std::fmt::Write as _;

use super::arithmetic::Spread;
use super::compact::Files;
use super::compactions::CompactionLine;
use super::ours::Job;
use super::report::{Input, Line, Report};
use super::service::Reader;
use super::services::ServiceLine;

/// All of it, as plain text.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let (cores, core, (begin, end)) = (report.cores, report.core, report.load);
    let machine = &report.machine;
    push(
        &mut text,
        format_args!("{machine}, core {core} of {cores}; load {begin:.1} at the begin, {end:.1} at the end"),
    );
    push(
        &mut text,
        format_args!(
            "medians of {} rounds [least, most]; CPU is user and system time of the work alone",
            report.rounds
        ),
    );
    report.left_out.iter().for_each(|engine| push(&mut text, format_args!("{engine}")));
    let mut heading = None;
    for line in &report.lines {
        if heading != Some((line.kind, line.job)) {
            heading = Some((line.kind, line.job));
            begin_table(&mut text, report, line);
        }
        row(&mut text, report, line);
    }
    let mut mix = None;
    for line in &report.services {
        if mix != Some(line.mix) {
            mix = Some(line.mix);
            let what = "Kinesis -> Delta tables on S3";
            push(&mut text, format_args!("\n{}: {what}, the process alone, both cores", line.mix.name()));
            columns(&mut text, "k records a CPU second");
        }
        service(&mut text, line);
    }
    let mut flush = None;
    for line in &report.compactions {
        if flush != Some(line.flush) {
            flush = Some(line.flush);
            let (what, size) =
                ("small files of a Delta table -> large ones in a folder, both cores", sized(line.before));
            push(&mut text, format_args!("\npin: {what} ({}: {size})", line.flush.name()));
            columns(&mut text, "CPU seconds");
        }
        compaction(&mut text, line);
    }
    for scaling in &report.scalings {
        let (kind, threads) = (scaling.kind.name(), scaling.threads);
        let (by_wall, by_cpu) = (scaled(scaling.by_wall, 1.0, 2), scaled(scaling.by_cpu, 1.0, 2));
        push(
            &mut text,
            format_args!(
                "\n{kind}: JSON to Parquet and windows in one process, {threads} threads: {by_wall} times one by the \
                 clock, {by_cpu} by what a record costs"
            ),
        );
    }
    text
}

fn service(text: &mut String, line: &ServiceLine) {
    let rate = scaled(line.records_per_cpu_s, 1_000.0, 0);
    let times = line.times_pintail.map(|times| scaled(times, 1.0, 2)).unwrap_or_default();
    let (name, notes) = match line.who {
        Reader::Pintail => ("Pintail", "the truth; with the shipped windows".to_owned()),
        Reader::Consumer => ("Python consumer", differences(&line.differences)),
        Reader::Spark => ("Spark", "from files to Parquet, one core: no Kinesis, S3, commits or windows".to_owned()),
    };
    let name = format!("{name} {}", if line.who == Reader::Consumer { "" } else { line.version.as_str() });
    push(text, format_args!("  {name:<20} {rate:<22} {times:<28} {:>8}  {notes}", line.rss_peak_bytes >> 20));
    if let (Some(times), Some(parts)) = (line.times_parts, line.parts) {
        let us = |ns: f64| ns / 1e3;
        push(
            text,
            format_args!(
                "    {} times its parts, {:.2} µs a record: {:.2} to read a body, {:.2} to clean, for windows and \
                 Parquet, {:.2} to put the files; not measured apart: the wire of the reads, commits, rejects, tasks",
                scaled(times, 1.0, 2),
                us(parts.sum_ns()),
                us(parts.read_ns),
                us(parts.work_ns),
                us(parts.put_ns),
            ),
        );
    }
}

fn compaction(text: &mut String, line: &CompactionLine) {
    let name = format!("{} {}", line.who.name(), line.version);
    let cpu_s = scaled(line.cpu_s, 1.0, 2);
    let times = line.times_pintail.map(|times| scaled(times, 1.0, 2)).unwrap_or_default();
    let notes = format!("{} -> {}; {}", line.before.count, sized(line.after), differences(&line.differences));
    push(text, format_args!("  {name:<20} {cpu_s:<22} {times:<28} {:>8}  {notes}", line.rss_peak_bytes >> 20));
}

fn sized(files: Files) -> String {
    let Files { count, bytes } = files;
    format!("{count} file{}, {:.1} MiB", if count == 1 { "" } else { "s" }, bytes as f64 / f64::from(1 << 20))
}

fn columns(text: &mut String, rate: &str) {
    let times = "Pintail is .. times as fast";
    push(text, format_args!("  {:<20} {rate:<22} {times:<28} {:>8}  its table", "", "peak MiB"));
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    writeln!(text, "{line}").unwrap_or_default();
}

fn begin_table(text: &mut String, report: &Report, first: &Line) {
    let what = match first.job {
        Job::Clean => "JSON lines -> cleaned columns in memory",
        Job::Parquet => "JSON lines -> Parquet, zstd 1",
    };
    let files = report.files.get(first.kind.name());
    let size = files.map(|lines| format!("{} lines, {} MB", lines.lines, lines.bytes / 1_000_000)).unwrap_or_default();
    push(text, format_args!("\n{}: {what} ({size})", first.kind.name()));
    columns(text, "k lines a CPU second");
}

fn row(text: &mut String, report: &Report, line: &Line) {
    let rate = scaled(line.lines_per_cpu_s, 1_000.0, 0);
    let times = line.times_pintail.map(|times| scaled(times, 1.0, 2)).unwrap_or_default();
    let name = format!("{} {}", line.who.map_or("Pintail", |engine| engine.name()), line.version);
    let notes = match line.who {
        None => ceiling(line),
        Some(engine) => {
            report.terms.get(&(line.kind, engine)).map(|terms| differences(&terms.differences)).unwrap_or_default()
        }
    };
    let star = if line.input == Input::Valid { " *" } else { "" };
    push(text, format_args!("  {:<20} {rate:<22} {times:<28} {:>8}  {notes}", name + star, line.rss_peak_bytes >> 20));
    if let (Some(engine), true) = (line.who, line.input == Input::Valid) {
        let excuse =
            report.terms.get(&(line.kind, engine)).and_then(|terms| terms.excuse.as_deref()).unwrap_or_default();
        push(text, format_args!("    * without the lines that are no JSON; with them: {}", shortened(excuse)));
    }
}

fn scaled(spread: Spread, unit: f64, decimals: usize) -> String {
    let Spread { median, min, max, .. } = spread;
    format!("{:.decimals$} [{:.decimals$}, {:.decimals$}]", median / unit, min / unit, max / unit)
}

fn ceiling(line: &Line) -> String {
    match line.of_ceiling.zip(line.ceiling_lines_per_cpu_s) {
        None => "the truth".to_owned(),
        Some((share, ceiling)) => {
            format!("the truth; {} % of the ceiling, {}", scaled(share, 0.01, 0), scaled(ceiling, 1_000.0, 0))
        }
    }
}

fn differences(differences: &[String]) -> String {
    if differences.is_empty() { "the same".to_owned() } else { format!("differs: {}", differences.join("; ")) }
}

/// An engine's message may be a page long.
fn shortened(message: &str) -> String {
    const LETTERS: usize = 160;
    let mut letters = message.chars();
    let mut short: String = letters.by_ref().take(LETTERS).collect();
    if letters.next().is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use pintail::demo::Kind;

    use super::*;
    use crate::peers::ceiling::Ceiling;
    use crate::peers::compact::{Compacted, Compactor, Flush};
    use crate::peers::data::Lines;
    use crate::peers::engines::LeftOut;
    use crate::peers::ours::Work;
    use crate::peers::parts::{OnThreads, Parts};
    use crate::peers::report::{Ceilings, Terms, Threads, Turn};
    use crate::peers::service::{Mix, PartsTurn, Served};
    use crate::peers::{Engine, Plan};

    fn turn(round: usize, who: Option<Engine>, cpu_s: f64) -> Turn {
        let reading_s = who.is_none().then_some(0.5);
        let work =
            Work { rows: None, cpu_s, wall_s: cpu_s, reading_s, rss_peak_bytes: 50 << 20, version: "1.2".to_owned() };
        Turn { round, kind: Kind::Pin, job: Job::Clean, who, work: Some(work), failure: None }
    }

    fn plan() -> Plan {
        Plan {
            shards: 2,
            rounds: 3,
            engines: vec![Engine::Duckdb, Engine::Polars],
            jobs: vec![Job::Clean],
            served: 0,
            compacted: 0,
            cores: false,
            lines: vec![(Kind::Pin, 1_000)],
            seed: 1,
            core: None,
            folder: PathBuf::new(),
        }
    }

    fn report() -> Report {
        let plan = plan();
        let lines = Lines { whole: "w".into(), valid: "v".into(), lines: 1_000, records: 500, bytes: 700_000_000 };
        let mut report = Report::new(&plan, 1, &BTreeMap::from([(Kind::Pin, lines)])).unwrap();
        let whole = Terms { input: Some(Input::Whole), excuse: None, differences: Vec::new() };
        let valid = Terms {
            input: Some(Input::Valid),
            excuse: Some("a line is malformed".to_owned()),
            differences: vec!["title: 0 nulls instead of 7".to_owned()],
        };
        report.terms = BTreeMap::from([((Kind::Pin, Engine::Duckdb), whole), ((Kind::Pin, Engine::Polars), valid)]);
        for (round, ours_s) in [1.0, 2.0, 4.0].into_iter().enumerate() {
            let theirs = [turn(round, Some(Engine::Duckdb), 3.0 * ours_s), turn(round, Some(Engine::Polars), ours_s)];
            report.turns.extend([turn(round, None, ours_s)].into_iter().chain(theirs));
            let ceiling = Ceiling { parse_ns: 400_000.0, copy_ns: 100_000.0, codec_ns: 0.0, payload_bytes: 0.0 };
            report.ceilings.push(Ceilings { round, kind: Kind::Pin, ceiling });
        }
        report.conclude(&plan).unwrap();
        report
    }

    #[test]
    fn ratios_are_by_line_and_round_and_the_ceiling_does_not_read_the_file() {
        let report = report();
        let [ours, duckdb, polars] = report.lines.as_slice() else { panic!("{:?}", report.lines) };
        assert_eq!((ours.lines_per_cpu_s.median, duckdb.times_pintail.unwrap().median), (500.0, 3.0));
        // Half the lines in the same time.
        assert_eq!((polars.times_pintail.unwrap().min, polars.times_pintail.unwrap().max), (2.0, 2.0));
        // 0.5 ms a line of the 1.5 ms that are not for reading.
        assert!((ours.of_ceiling.unwrap().median - 1.0 / 3.0).abs() < 1e-12, "{:?}", ours.of_ceiling);
        assert_eq!(report.violations, [""; 0]);
    }

    #[test]
    fn the_table_says_who_had_it_easier_and_who_differs() {
        let table = render(&report());
        assert!(table.contains("pin: JSON lines -> cleaned columns in memory (1000 lines, 700 MB)"), "{table}");
        assert!(table.contains("DuckDB 1.2") && table.contains("3.00 [3.00, 3.00]"), "{table}");
        assert!(table.contains("Polars 1.2 *") && table.contains("with them: a line is malformed"), "{table}");
        assert!(table.contains("differs: title: 0 nulls instead of 7"), "{table}");
        assert!(table.contains("33 [14, 100] % of the ceiling"), "{table}");
    }

    #[test]
    fn the_service_is_told_by_its_streams_with_the_ratio_of_each_round() {
        let mut report = report();
        report.lines.clear();
        let served = |round, who, cpu_s, differences: &[&str]| Served {
            round,
            mix: Mix::Pins,
            who,
            records: 100_000,
            work: Work { cpu_s, reading_s: None, ..turn(round, None, cpu_s).work.unwrap() },
            differences: differences.iter().map(|how| (*how).to_owned()).collect(),
        };
        report.served = vec![
            served(0, Reader::Pintail, 1.0, &[]),
            served(0, Reader::Consumer, 10.0, &["pin 7 rows instead of 8"]),
            served(1, Reader::Consumer, 24.0, &["pin 7 rows instead of 8"]),
            served(1, Reader::Pintail, 2.0, &[]),
        ];
        let parts = |round, read_ns| PartsTurn { round, mix: Mix::Pins, parts: Parts { read_ns, ..Parts::default() } };
        report.parts = vec![parts(0, 8_000.0), parts(1, 16_000.0)];
        let on = |round, threads, records_per_s, cpu_ns| Threads {
            round,
            kind: Kind::Pin,
            threads,
            found: OnThreads { records_per_s, cpu_ns },
        };
        report.threads =
            vec![on(0, 1, 100.0, 90.0), on(0, 2, 180.0, 100.0), on(1, 2, 90.0, 100.0), on(1, 1, 50.0, 90.0)];
        report.conclude(&plan()).unwrap();
        let table = render(&report);
        // 10 and 20 µs a record.
        assert!(table.contains("1.25 [1.25, 1.25] times its parts, 12.00 µs a record: 12.00 to read"), "{table}");
        assert!(table.contains("2 threads: 1.80 [1.80, 1.80] times one by the clock, 1.80 [1.80, 1.80] by"), "{table}");
        assert!(
            table.contains("pins alone: Kinesis -> Delta tables on S3") && !table.contains("equal numbers"),
            "{table}"
        );
        assert!(table.contains("75 [50, 100]") && table.contains("11.00 [10.00, 12.00]"), "{table}");
        assert_eq!(table.matches("differs: pin 7 rows instead of 8").count(), 1, "{table}");
    }

    #[test]
    fn spark_from_files_stands_beside_the_service_if_it_had_a_turn_at_every_stream_of_the_mix() {
        let served = |round, mix: Mix, cpu_s| Served {
            round,
            mix,
            who: Reader::Pintail,
            records: 1_000,
            work: Work { reading_s: None, ..turn(round, None, cpu_s).work.unwrap() },
            differences: Vec::new(),
        };
        let parquet = |round, cpu_s| Turn { job: Job::Parquet, ..turn(round, Some(Engine::Spark), cpu_s) };
        let mut report = report();
        let whole = Terms { input: Some(Input::Whole), excuse: None, differences: Vec::new() };
        report.terms.insert((Kind::Pin, Engine::Spark), whole);
        report.turns = vec![parquet(0, 8.0), parquet(1, 10.0), parquet(2, 40.0)];
        report.served = (0..3).map(|round| served(round, Mix::Pins, [2.0, 4.0, 8.0][round])).collect();
        report.served.push(served(0, Mix::Even, 1.0));
        let plan = Plan { engines: vec![Engine::Spark], jobs: vec![Job::Parquet], ..plan() };
        report.lines.clear();
        report.conclude(&plan).unwrap();
        let found: Vec<_> = report.services.iter().map(|line| (line.mix, line.who)).collect();
        assert_eq!(found, [(Mix::Even, Reader::Pintail), (Mix::Pins, Reader::Pintail), (Mix::Pins, Reader::Spark)]);
        let spark = &report.services[2];
        assert_eq!((spark.records_per_cpu_s.median, spark.times_pintail.unwrap().median), (100.0, 4.0));
        assert!(render(&report).contains("from files to Parquet, one core: no Kinesis"), "{}", render(&report));
    }

    #[test]
    fn compaction_is_told_by_its_tables_and_a_lost_row_or_idle_turn_is_a_violation() {
        let mut report = report();
        report.lines.clear();
        let files = |count, mib: u64| Files { count, bytes: mib << 20 };
        let turned = |round, who, cpu_s| Compacted {
            round,
            flush: Flush::Usual,
            who,
            work: Work { cpu_s, reading_s: None, ..turn(round, None, cpu_s).work.unwrap() },
            before: files(13, 98),
            after: files(1, 97),
            differences: Vec::new(),
        };
        let (ours, theirs) = (Compactor::Pintail, Compactor::DeltaRs);
        report.compacted =
            vec![turned(0, ours, 1.0), turned(0, theirs, 3.0), turned(1, theirs, 10.0), turned(1, ours, 2.0)];
        report.conclude(&plan()).unwrap();
        assert_eq!(report.violations, [""; 0]);
        let table = render(&report);
        assert!(table.contains("in a folder, both cores (files of a catch-up: 13 files, 98.0 MiB)"), "{table}");
        assert!(table.contains("1.50 [1.00, 2.00]") && table.contains("4.00 [3.00, 5.00]"), "{table}");
        assert_eq!(table.matches("50  13 -> 1 file, 97.0 MiB; the same").count(), 2, "{table}");

        let small = |who| Compacted { flush: Flush::Small, ..turned(2, who, 1.0) };
        report.compacted = vec![
            Compacted { after: files(13, 98), ..small(ours) },
            Compacted { differences: vec!["7 rows instead of 8".to_owned()], ..small(theirs) },
        ];
        report.conclude(&plan()).unwrap();
        let idle = "Pintail, small files, round 3: 13 files are left of 13; expected fewer, and 3 at most";
        assert_eq!(report.violations, [idle, "delta-rs, small files, round 3: 7 rows instead of 8"]);
        assert!(
            render(&report).contains("13 -> 1 file, 97.0 MiB; differs: 7 rows instead of 8"),
            "{}",
            render(&report)
        );
    }

    #[test]
    fn who_was_left_out_is_named_and_no_violation() {
        let mut report = report();
        report.left_out.push(LeftOut { engine: Engine::Spark, why: "it needs Java".to_owned() });
        report.conclude(&plan()).unwrap();
        assert!(render(&report).contains("\nSpark is left out: it needs Java\n"), "{}", render(&report));
        assert_eq!(report.violations, [""; 0]);
    }

    #[test]
    fn an_engine_that_failed_is_no_line_and_a_violation() {
        let mut report = report();
        report.lines.clear();
        for turn in report.turns.iter_mut().filter(|turn| turn.who == Some(Engine::Polars)) {
            (turn.work, turn.failure) = (None, Some("out of memory".to_owned()));
        }
        report.conclude(&plan()).unwrap();
        assert_eq!(report.lines.len(), 2);
        assert_eq!(report.violations.len(), 3);
        assert_eq!(report.violations[0], "Polars pin clean, round 1: out of memory");
    }
}
