//! The report for people.
use super::report::Report;
/// x
pub fn page(report: &Report) -> anyhow::Result<String> {
    Ok(format!("<html>{}</html>", report.records))
}
