//! The process itself, under the names that every Prometheus client uses, so that ready-made panels find them.
//!
//! Asked for at a scrape. What a system does not tell (there is no `/proc` but on Linux) is left out.

use std::fmt::Write;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};

use super::Scraped;
use crate::allocator::allocated_bytes;

/// The process as Prometheus text.
pub fn render(scraped: Scraped<'_>) -> String {
    let mut text = String::new();
    let (pipeline, version) = (scraped.pipeline, env!("CARGO_PKG_VERSION"));
    let build = format!("pintail_build_info{{pipeline=\"{pipeline}\",version=\"{version}\"}}");
    metric(&mut text, "pintail_build_info", "gauge", "Which Pintail this is", &build, Some(1.0));
    let allocated_bytes = allocated_bytes().map(|bytes| bytes as f64);
    let numbers = [
        ("pintail_allocated_bytes", "gauge", "Memory in use, as the allocator counts it", allocated_bytes),
        (
            "process_start_time_seconds",
            "gauge",
            "Start of the process, epoch seconds",
            Some(scraped.started_ms as f64 / 1e3),
        ),
        ("process_cpu_seconds_total", "counter", "User and system time", cpu_seconds()),
        ("process_resident_memory_bytes", "gauge", "Resident memory", resident_bytes()),
        ("process_open_fds", "gauge", "Open file descriptors", open_files()),
        ("process_max_fds", "gauge", "Most file descriptors", most_files()),
    ];
    for (name, kind, help, value) in numbers {
        metric(&mut text, name, kind, help, name, value);
    }
    text
}

fn metric(into: &mut String, name: &str, kind: &str, help: &str, series: &str, value: Option<f64>) {
    if let Some(value) = value {
        // Writing to a String cannot fail.
        writeln!(into, "# HELP {name} {help}\n# TYPE {name} {kind}\n{series} {value}\n").ok();
    }
}

fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let times = [usage.user_time(), usage.system_time()];
    Some(times.iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum())
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

fn open_files() -> Option<f64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

fn most_files() -> Option<f64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_told_under_everybodys_names() {
        let text = render(Scraped { pipeline: "p", started_ms: 1_700_000_000_500 });
        assert!(text.contains("\npintail_build_info{pipeline=\"p\",version=\""), "{text}");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).parse::<f64>().unwrap()
        };
        assert_eq!(value("process_start_time_seconds"), 1_700_000_000.5);
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("pintail_allocated_bytes") > 0.0);
        assert!(value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
