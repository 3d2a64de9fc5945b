//! What a browser or Prometheus would ask a running Pintail.

use std::net::SocketAddr;

use anyhow::Context;
use serde_json::Value;

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {}", self.body))
    }
}

/// Asks one server over and over, by connections that stay.
#[derive(Debug, Clone)]
pub struct Asker {
    client: reqwest::Client,
    address: SocketAddr,
}

impl Asker {
    /// Asks the server at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { client: reqwest::Client::new(), address }
    }

    /// GETs a path.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let url = format!("http://{}{path}", self.address);
        let answer = self.client.get(&url).send().await.with_context(|| format!("GET {url}"))?;
        let status = answer.status().as_u16();
        let body = answer.text().await.with_context(|| format!("the body of {url}"))?;
        Ok(Answer { status, body })
    }
}

/// GETs a path once.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    Asker::new(address).get(path).await
}

/// The samples of a metric in Prometheus text: labels as they are written, and the value.
pub fn samples<'t>(text: &'t str, name: &str) -> impl Iterator<Item = (&'t str, f64)> {
    text.lines().filter_map(move |line| {
        let (series, value) = line.rsplit_once(' ')?;
        let labels = series.strip_prefix(name)?;
        let is_it = labels.is_empty() || labels.starts_with('{');
        is_it.then_some(labels).zip(value.parse().ok())
    })
}

/// The sum of a metric's samples in Prometheus text, over all labels that contain `label`; `None` without a sample.
pub fn metric(text: &str, name: &str, label: &str) -> Option<f64> {
    let samples = samples(text, name).filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value);
    samples.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_over_others_of_its_prefix() {
        let text = "# HELP a_total x\na_total{stream=\"x\"} 1\na_total{stream=\"y\"} 2\na_totals 40\nb 8\n";
        assert_eq!(metric(text, "a_total", ""), Some(3.0));
        assert_eq!(metric(text, "a_total", "stream=\"y\""), Some(2.0));
        assert_eq!(metric(text, "b", ""), Some(8.0));
        assert_eq!(metric(text, "c", ""), None);
    }
}
