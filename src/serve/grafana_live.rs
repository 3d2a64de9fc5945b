//! Windows pushed to Grafana Live, so that panels move between two scrapes. Off unless it is configured.
//!
//! Every push is the picture of that moment: the running start of each window, as many keys as the metrics show.
//! Nothing waits in a queue, so a Grafana that is away or slow costs one request at a time, a counter and one line in
//! the log, and misses what nobody looked at. A window is only sent when it has changed, or when it was not sent for
//! some seconds: Grafana keeps nothing for those who come later.
//!
//! The token is read from its file when it is needed, marked as a secret for the HTTP client and shown nowhere.

mod line;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::error_chain::chain;
use crate::limits::{
    CONFIG_FILE_BYTES_MAX, GRAFANA_LIVE_REPEAT, GRAFANA_LIVE_RETRY, GRAFANA_LIVE_TIMEOUT, GRAFANA_LIVE_WORK_SHARE,
};
use crate::metrics::{GrafanaLiveMetrics, StartGauges, StartState, WindowGauges};
use crate::window::StreamWindows;

/// The stream's name in Grafana: panels find a window as `stream/pintail/{window}`.
const STREAM_ID: &str = "pintail";

/// `[grafana_live]`
#[derive(Debug, Clone)]
pub struct GrafanaLiveConfig {
    /// Grafana's own address, without a path of the API.
    pub url: Url,
    /// A service account's token, alone in a file.
    pub token_file: PathBuf,
    /// How often the windows are looked at.
    pub interval: Duration,
}

/// Why a push did not arrive.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("the token file {} cannot be read", path.display())]
    TokenFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the token file {} holds no token: one line of printable characters is expected", path.display())]
    NoToken { path: PathBuf },
    #[error("Grafana cannot be reached")]
    Request(#[source] reqwest::Error),
    #[error("Grafana answers {status}{}", hint(*status))]
    Refused { status: reqwest::StatusCode },
}

fn hint(status: reqwest::StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => ": the token must be of a service account that may publish to Live (role Admin)",
        404 => ": `grafana_live.url` must be Grafana's own address",
        _other => "",
    }
}

/// The pusher. It decides nothing and holds up nobody.
#[derive(Debug)]
pub struct GrafanaLive {
    client: Client,
    push_url: Url,
    config: GrafanaLiveConfig,
    windows: Vec<Arc<StreamWindows>>,
    keys_max: usize,
    metrics: GrafanaLiveMetrics,
    /// By stream and window, what was sent last and when.
    sent: HashMap<(String, String), (StartGauges, Instant)>,
    away: bool,
}

impl GrafanaLive {
    /// Reads nothing and connects to nobody yet. Fails if this machine has no TLS roots to trust.
    pub fn new(
        config: GrafanaLiveConfig,
        windows: Vec<Arc<StreamWindows>>,
        keys_max: usize,
        metrics: GrafanaLiveMetrics,
    ) -> reqwest::Result<Self> {
        // Neither body nor token goes anywhere but to the configured address.
        let client = Client::builder().redirect(Policy::none()).timeout(GRAFANA_LIVE_TIMEOUT).build()?;
        let mut push_url = config.url.clone();
        let path = format!("{}/api/live/push/{STREAM_ID}", push_url.path().trim_end_matches('/'));
        push_url.set_path(&path);
        Ok(Self { client, push_url, config, windows, keys_max, metrics, sent: HashMap::new(), away: false })
    }

    /// Pushes until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.config.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let Some(pause) = stop.run_until_cancelled(self.push()).await else { return };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// One look and, if there is news, one request. Says how long to leave it at that: after a failure for seconds,
    /// after a look at many keys so long that looking stays a small part of a core's time.
    async fn push(&mut self) -> Duration {
        let began = Instant::now();
        let (windows, keys_max) = (self.windows.clone(), self.keys_max);
        let look = tokio::task::spawn_blocking(move || {
            let now_us = now_ms().saturating_mul(1000);
            windows.iter().flat_map(|windows| windows.gauges(now_us, keys_max)).collect()
        });
        // A look that panicked has aborted the process; one that was cancelled is of a runtime that ends.
        let gauges: Vec<WindowGauges> = look.await.unwrap_or_default();
        let pause = began.elapsed() * GRAFANA_LIVE_WORK_SHARE;
        let news = self.news(gauges);
        if news.is_empty() {
            return pause;
        }
        let lines: String = news.iter().map(|(key, start)| line::lines(&key.0, &key.1, start, now_ms())).collect();
        match self.send(lines).await {
            Ok(()) => {
                self.metrics.pushed();
                if std::mem::take(&mut self.away) {
                    tracing::info!(url = %self.config.url, "Grafana Live takes the windows again");
                }
                let now = Instant::now();
                self.sent.extend(news.into_iter().map(|(key, start)| (key, (start, now))));
                pause
            }
            Err(error) => {
                self.metrics.failed();
                if !std::mem::replace(&mut self.away, true) {
                    let error = chain(&error);
                    tracing::warn!(url = %self.config.url, error, "Grafana Live does not take the windows, trying on");
                }
                GRAFANA_LIVE_RETRY
            }
        }
    }

    fn news(&self, gauges: Vec<WindowGauges>) -> Vec<((String, String), StartGauges)> {
        let running = gauges.into_iter().filter_map(|window| {
            let start = window.starts.into_iter().find(|start| start.state == StartState::Running)?;
            Some(((window.stream, window.window), start))
        });
        let is_old = |key: &(String, String), start: &StartGauges| {
            let sent = self.sent.get(key);
            sent.is_some_and(|(sent, at)| sent == start && at.elapsed() < GRAFANA_LIVE_REPEAT)
        };
        running.filter(|(key, start)| !start.values.is_empty() && !is_old(key, start)).collect()
    }

    async fn send(&self, lines: String) -> Result<(), PushError> {
        let token = token(&self.config.token_file).await?;
        let request = self.client.post(self.push_url.clone()).header(AUTHORIZATION, token);
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")).body(lines);
        let answer = request.send().await.map_err(|error| PushError::Request(error.without_url()))?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(PushError::Refused { status }) }
    }
}

/// Read anew for each push: a token that was replaced is used at once, and none lies about in memory.
async fn token(path: &Path) -> Result<HeaderValue, PushError> {
    let read = async {
        let mut text = String::new();
        tokio::fs::File::open(path).await?.take(CONFIG_FILE_BYTES_MAX).read_to_string(&mut text).await?;
        Ok(text)
    };
    let text = read.await.map_err(|source| PushError::TokenFile { path: path.to_owned(), source })?;
    let no_token = || PushError::NoToken { path: path.to_owned() };
    let token = Some(text.trim()).filter(|token| !token.is_empty()).ok_or_else(no_token)?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_unprintable| no_token())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
