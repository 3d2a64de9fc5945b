//! Made-up reports with planted differences.

use super::*;
use crate::run::{FORMAT, Latency, Percentiles, Sample};
use crate::seed::Seed;

/// A run of a minute whose figures are these, give or take `noise`.
fn report(seed: u64, window_ms: f64, cpu_s: f64, noise: f64) -> Report {
    let mut seed = Seed::from(seed);
    let mut around = |value: f64| value * (1.0 + noise * (seed.below(2_000) as f64 / 1e3 - 1.0));
    let of =
        |p50: f64| Percentiles { count: 2_000, p50, p90: p50 * 1.5, p99: p50 * 2.0, p999: p50 * 3.0, max: p50 * 4.0 };
    let mut report = Report { format: FORMAT, rate_achieved: 2_000.0, ..Report::default() };
    let by_second: Vec<Percentiles> = (0..60).map(|_| of(around(window_ms))).collect();
    let mean = by_second.iter().map(|second| second.p50).sum::<f64>() / 60.0;
    report.window_ms = Latency { total: of(mean), by_second, unseen: 0 };
    report.rss_peak_bytes = 100 << 20;
    let mut cpu = 0.0;
    for second in 0..=60_u64 {
        let mut sample = Sample { read: second * 2_000, commits: second, ..Sample::default() };
        sample.cpu.pintail = cpu;
        report.samples.push(sample);
        cpu += around(cpu_s) * 2_000.0 / 1e6;
    }
    report.cpu_s_per_million = report.samples[60].cpu.pintail / 120_000.0 * 1e6;
    report
}

fn runs(window_ms: f64, cpu_s: f64, noise: f64) -> Vec<Report> {
    (0..5).map(|run| report(run + (window_ms * 1e3) as u64, window_ms, cpu_s, noise)).collect()
}

fn judged(before: &[Report], after: &[Report], name: &str) -> Judgement {
    let comparison = Comparison::of(before, after);
    comparison.lines.iter().find(|line| line.name == name).unwrap().judgement
}

const CPU: &str = "CPU per million records";
const WINDOW: &str = "to live window, p50";

#[test]
fn a_planted_regression_is_found_and_named_and_the_rest_is_not() {
    let (before, after) = (runs(100.0, 5.0, 0.02), runs(100.0, 6.0, 0.02));
    let comparison = Comparison::of(&before, &after);
    assert!(!comparison.is_fine());
    let told = comparison.to_string();
    assert!(told.contains(&format!("worse: {CPU}\nbetter: nothing")), "{told}");
    let back = Comparison::of(&after, &before);
    assert!(back.is_fine() && back.to_string().contains(&format!("better: {CPU}")), "{back}");
}

#[test]
fn one_run_each_is_judged_by_its_tenths() {
    let (before, after) = ([report(1, 100.0, 5.0, 0.05)], [report(2, 100.0, 6.5, 0.05)]);
    assert_eq!(judged(&before, &after, CPU), Judgement::Worse);
    assert_eq!(judged(&after, &before, CPU), Judgement::Better);
    assert_ne!(judged(&before, &[report(3, 100.0, 5.0, 0.05)], CPU), Judgement::Worse);
    // What a run has only once is shown and not judged.
    let mut fat = before.clone();
    fat[0].rss_peak_bytes *= 3;
    assert_eq!(judged(&before, &fat, "memory, peak"), Judgement::Unclear);
}

#[test]
fn what_the_noise_hides_is_unclear_and_what_it_would_not_hide_is_the_same() {
    assert_eq!(judged(&runs(100.0, 5.0, 0.6), &runs(103.0, 5.0, 0.6), WINDOW), Judgement::Unclear);
    assert_eq!(judged(&runs(100.0, 5.0, 0.004), &runs(101.0, 5.0, 0.004), WINDOW), Judgement::Same);
}

#[test]
fn a_failed_run_is_worse_however_fast_it_was() {
    let (before, mut after) = (runs(100.0, 5.0, 0.02), runs(50.0, 2.0, 0.02));
    after[1].violations.push("pin: shardId-000000000000: 1 lost".to_owned());
    let comparison = Comparison::of(&before, &after);
    assert!(!comparison.is_fine() && comparison.to_string().contains("VIOLATED in B: pin"), "{comparison}");
}

#[test]
fn reports_of_another_load_or_machine_are_told() {
    let (before, mut after) = (runs(100.0, 5.0, 0.02), runs(100.0, 5.0, 0.02));
    for report in &mut after {
        report.profile.rate = 500.0;
        report.machine.cores = 64;
    }
    let told = Comparison::of(&before, &after).to_string();
    assert!(told.contains("NOT THE SAME: machine") && told.contains("profile, rate: 0.0 / 500.0"), "{told}");
}

#[test]
fn reports_are_read_from_a_file_a_folder_and_folders_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: PathBuf, run: u64| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, serde_json::to_vec(&report(run, 100.0, 5.0, 0.1)).unwrap()).unwrap();
        path
    };
    let one = write(folder.path().join("one/report.json"), 1);
    write(folder.path().join("two/report.json"), 2);
    assert_eq!(read(&one).unwrap().len(), 1);
    assert_eq!(read(&folder.path().join("two")).unwrap().len(), 1);
    assert_eq!(read(folder.path()).unwrap().len(), 2);
    std::fs::write(&one, "{\"format\": 99}").unwrap();
    let error = format!("{:#}", read(&one).unwrap_err());
    assert!(error.contains("one/report.json") && error.contains("\"format\": 1"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(read(empty.path()).unwrap_err().to_string().contains("no report.json"));
}
