//! The report for people: one file that needs no other, so that it can be sent to somebody and opened in ten years.
//!
//! Figures and tables are in the page itself; a short script draws the plots from the report, which is in the page too.

use std::fmt::Write;

use super::latency::{Latency, Percentiles};
use super::report::Report;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The plots, in their order: what `page.js` calls each, and what it says.
const PLOTS: [(&str, &str, &str); 9] = [
    ("throughput", "Throughput", "records a second"),
    ("window", "PutRecord to live window", "ms from the intended send time, by the second in which it was due"),
    ("lake", "PutRecord to readable in Delta", "ms from the intended send time, by the second in which it was due"),
    ("lag", "Lag by shard", "seconds behind the newest record, at each shard's last read"),
    ("cpu", "CPU by process", "% of a core"),
    ("memory", "Pintail's memory", "MiB"),
    ("commits", "Flushes and commits", "ms each, the mean within a second"),
    ("files", "Files of the rows tables", "active files"),
    ("late", "Sends", "ms after the intended time, at most, within a second"),
];

/// The whole page.
pub fn page(report: &Report) -> anyhow::Result<String> {
    // Nothing in a script element ends it but this sign.
    let json = serde_json::to_string(report)?.replace('<', "\\u003c");
    let name = escaped(&report.profile.name);
    let mut html = String::new();
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>Pintail: {name}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<main>\n"
    )?;
    head(&mut html, report)?;
    figures(&mut html, report)?;
    latencies(&mut html, report)?;
    html.push_str("<section class=\"plots\">\n");
    for (id, title, unit) in PLOTS {
        writeln!(
            html,
            "<figure data-plot=\"{id}\"><figcaption><b>{title}</b> <small>{unit}</small></figcaption></figure>"
        )?;
    }
    html.push_str("</section>\n");
    tables(&mut html, report)?;
    write!(
        html,
        "</main>\n<script type=\"application/json\" id=\"report\">{json}</script>\n<script>\n{SCRIPT}</script>\n</body>\n\
         </html>\n"
    )?;
    Ok(html)
}

fn head(html: &mut String, report: &Report) -> std::fmt::Result {
    let (class, word) = match report.is_clean() {
        true => ("held", "every promise held"),
        false => ("failed", "FAILED"),
    };
    let when =
        chrono::DateTime::from_timestamp_millis(report.ended_ms).map(|time| time.format("%F %R UTC").to_string());
    let (name, about) = (escaped(&report.profile.name), escaped(&report.profile.about));
    let (when, commit) = (when.unwrap_or_default(), escaped(&report.build.commit));
    let kind = if report.build.release { "release" } else { "debug" };
    writeln!(
        html,
        "<header>\n<h1>{name} <span class=\"{class}\">{word}</span></h1>\n<p>{about}</p>\n<p class=\"quiet\">{when}, \
         commit {commit} ({kind}), seed {}</p>",
        report.seed
    )?;
    for violation in &report.violations {
        writeln!(html, "<p class=\"violation\">{}</p>", escaped(violation))?;
    }
    for note in &report.notes {
        writeln!(html, "<p class=\"note\">{}</p>", escaped(note))?;
    }
    html.push_str("</header>\n");
    Ok(())
}

fn figures(html: &mut String, report: &Report) -> std::fmt::Result {
    let verdict = &report.verdict;
    let mut figures = vec![
        ("records", grouped(report.records), format!("{:.0} a second", report.rate_achieved)),
        (
            "lost / duplicated",
            format!("{} / {}", verdict.lost, verdict.duplicated),
            format!("{} altered, {} unexpected", verdict.altered, verdict.unexpected),
        ),
        ("to live window", ms(report.window_ms.total.p50), format!("p99 {}", ms(report.window_ms.total.p99))),
        ("to Delta", ms(report.lake_ms.total.p50), format!("p99 {}", ms(report.lake_ms.total.p99))),
        (
            "CPU per million records",
            format!("{:.2} s", report.cpu_s_per_million),
            format!("Pintail's own, {:.1} s in all", report.cpu.pintail),
        ),
        ("memory", mib(report.rss_peak_bytes), format!("{} idle", mib(report.rss_idle_bytes))),
        ("commit", ms(report.commit_mean_ms), format!("flush {}", ms(report.flush_mean_ms))),
    ];
    if let Some(backlog) = &report.backlog {
        let records = format!("{} records in {:.1} s", grouped(backlog.records), backlog.caught_up_s);
        figures.push(("caught up", format!("{}/s", grouped(backlog.records_per_s as u64)), records));
    }
    if let Some(quota) = &report.quota {
        let percent = |share: f64| format!("{:.1} %", share * 1e2);
        let (least, calls) = (percent(quota.share_min), grouped(quota.calls + quota.refused));
        let more = format!("slowest shard {least}, {} of {calls} calls refused", grouped(quota.refused));
        figures.push(("of the shards' quota", percent(quota.share), more));
    }
    html.push_str("<section class=\"figures\">\n");
    for (name, value, more) in figures {
        writeln!(html, "<div><span>{name}</span><b>{value}</b><small>{more}</small></div>")?;
    }
    html.push_str("</section>\n");
    Ok(())
}

fn latencies(html: &mut String, report: &Report) -> std::fmt::Result {
    html.push_str(
        "<section>\n<h2>Latency</h2>\n<div class=\"wide\"><table>\n<tr><th></th><th>p50</th><th>p90</th><th>p99</th>\
         <th>p99.9</th><th>max</th><th>records</th></tr>\n",
    );
    let mut row = |name: &str, Latency { total, .. }: &Latency| {
        let Percentiles { count, p50, p90, p99, p999, max } = *total;
        let cells: String = [p50, p90, p99, p999, max].iter().map(|value| format!("<td>{}</td>", ms(*value))).collect();
        writeln!(html, "<tr><th>{name}</th>{cells}<td>{}</td></tr>", grouped(count))
    };
    row("to live window", &report.window_ms)?;
    row("to Delta", &report.lake_ms)?;
    html.push_str(
        "</table></div>\n<p class=\"quiet\">From the moment when a record should have been sent, whenever it was. What \
         nobody has seen arrive is in no latency.</p>\n</section>\n",
    );
    Ok(())
}

fn tables(html: &mut String, report: &Report) -> std::fmt::Result {
    html.push_str("<section class=\"tables\">\n");
    let verdict = &report.verdict;
    let rejects: Vec<String> =
        verdict.rejects.iter().map(|(reason, count)| format!("{} {reason}", grouped(*count))).collect();
    table(
        html,
        "Verdict",
        &[
            ("records acknowledged", grouped(report.records)),
            ("rows", grouped(verdict.rows)),
            ("rejects", if rejects.is_empty() { "0".to_owned() } else { rejects.join(", ") }),
            ("lost", grouped(verdict.lost)),
            ("duplicated", grouped(verdict.duplicated)),
            ("altered", grouped(verdict.altered)),
            ("out of order", grouped(verdict.out_of_order)),
            ("unexpected", grouped(verdict.unexpected)),
            ("partials held against the rows", grouped(verdict.partials_checked)),
            ("sealed rows held against the rows", grouped(verdict.sealed_checked)),
        ],
    )?;
    let cpu = &report.cpu;
    let seconds = |seconds: f64| format!("{seconds:.2} s");
    table(
        html,
        "CPU by process",
        &[
            ("Pintail", seconds(cpu.pintail)),
            ("Kinesis", cpu.kinesis.map_or_else(|| "elsewhere".to_owned(), seconds)),
            ("S3", seconds(cpu.s3)),
            ("producer", seconds(cpu.producer)),
            ("harness", seconds(cpu.harness)),
        ],
    )?;
    let machine = &report.machine;
    table(
        html,
        "Machine",
        &[
            ("processor", machine.cpu.clone()),
            ("cores", machine.cores.to_string()),
            ("memory", mib(machine.memory_bytes)),
            ("kernel", machine.kernel.clone()),
            ("Kinesis", report.target.clone()),
        ],
    )?;
    let profile = serde_json::to_value(&report.profile).unwrap_or_default();
    let keys: Vec<(&str, String)> =
        profile.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value.to_string())).collect();
    table(html, "Profile", &keys)?;
    html.push_str("</section>\n");
    Ok(())
}

fn table(html: &mut String, title: &str, rows: &[(&str, String)]) -> std::fmt::Result {
    writeln!(html, "<section class=\"table\">\n<h2>{title}</h2>\n<table>")?;
    for (name, value) in rows {
        writeln!(html, "<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(value))?;
    }
    html.push_str("</table>\n</section>\n");
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn ms(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.1} s", value / 1e3),
        value if value >= 100.0 => format!("{value:.0} ms"),
        value => format!("{value:.1} ms"),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", grouped(bytes >> 20))
}

fn grouped(number: u64) -> String {
    pintail::demo::report::grouped(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_profile_is_called_cannot_leave_its_place() {
        assert_eq!(escaped("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }

    #[test]
    fn every_plot_is_drawn_by_the_script() {
        for (id, ..) in PLOTS {
            assert!(SCRIPT.contains(&format!("\n  {id}: ")), "{id}");
        }
    }
}
