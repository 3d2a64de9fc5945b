//! What is compared.

use crate::run::{Percentiles, Report, Sample};

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Latencies, costs.
    Less,
    /// Throughput.
    More,
}

/// One figure of a report.
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// Its value; `None` if the run has none.
    pub of: fn(&Report) -> Option<f64>,
    /// The same second by second, if it can be told: how restless it is within a run.
    pub over_time: Option<fn(&Report) -> Vec<f64>>,
}

/// All of them, in the order in which they are shown.
pub const FIGURES: [Figure; 13] = [
    Figure {
        name: "records posted",
        unit: "/s",
        better: Better::More,
        of: |report| Some(report.rate_achieved),
        over_time: None,
    },
    Figure {
        name: "records caught up",
        unit: "/s",
        better: Better::More,
        of: |report| report.backlog.map(|backlog| backlog.records_per_s),
        over_time: None,
    },
    Figure {
        name: "of the shards' quota",
        unit: "%",
        better: Better::More,
        of: |report| report.quota.map(|quota| quota.share * 1e2),
        over_time: None,
    },
    Figure {
        name: "to live window, p50",
        unit: "ms",
        better: Better::Less,
        of: |report| Some(report.window_ms.total.p50),
        over_time: Some(|report| seconds(&report.window_ms.by_second, |second| second.p50)),
    },
    Figure {
        name: "to live window, p99",
        unit: "ms",
        better: Better::Less,
        of: |report| Some(report.window_ms.total.p99),
        over_time: Some(|report| seconds(&report.window_ms.by_second, |second| second.p99)),
    },
    Figure {
        name: "to Delta, p50",
        unit: "ms",
        better: Better::Less,
        of: |report| Some(report.lake_ms.total.p50),
        over_time: Some(|report| seconds(&report.lake_ms.by_second, |second| second.p50)),
    },
    Figure {
        name: "to Delta, p99",
        unit: "ms",
        better: Better::Less,
        of: |report| Some(report.lake_ms.total.p99),
        over_time: Some(|report| seconds(&report.lake_ms.by_second, |second| second.p99)),
    },
    Figure {
        name: "CPU per million records",
        unit: "s",
        better: Better::Less,
        of: |report| Some(report.cpu_s_per_million),
        over_time: Some(|report| ratios(report, |sample| sample.cpu.pintail * 1e6, |sample| sample.read as f64)),
    },
    Figure {
        name: "memory, peak",
        unit: "MiB",
        better: Better::Less,
        of: |report| Some(mib(report.rss_peak_bytes)),
        over_time: None,
    },
    Figure {
        name: "memory, idle",
        unit: "MiB",
        better: Better::Less,
        of: |report| Some(mib(report.rss_idle_bytes)),
        over_time: None,
    },
    Figure {
        name: "commit, mean",
        unit: "ms",
        better: Better::Less,
        of: |report| Some(report.commit_mean_ms),
        over_time: Some(|report| ratios(report, |sample| sample.commit_seconds * 1e3, |sample| sample.commits as f64)),
    },
    Figure {
        name: "encode and upload, mean",
        unit: "ms",
        better: Better::Less,
        of: |report| Some(report.flush_mean_ms),
        over_time: Some(|report| ratios(report, |sample| sample.flush_seconds * 1e3, |sample| sample.commits as f64)),
    },
    Figure {
        name: "files of the rows tables",
        unit: "",
        better: Better::Less,
        of: |report| Some(report.files_active as f64),
        over_time: None,
    },
];

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn seconds(by_second: &[Percentiles], of: fn(&Percentiles) -> f64) -> Vec<f64> {
    by_second.iter().filter(|second| second.count > 0).map(of).collect()
}

/// How much one grew while the other grew by one, between two samples.
fn ratios(report: &Report, cost: fn(&Sample) -> f64, work: fn(&Sample) -> f64) -> Vec<f64> {
    let pairs =
        report.samples.windows(2).map(|pair| (cost(&pair[1]) - cost(&pair[0]), work(&pair[1]) - work(&pair[0])));
    pairs.filter(|(_, work)| *work > 0.0).map(|(cost, work)| cost / work).collect()
}
