//! The handlers: ask the sources, shape the answer. All short, except a look at the windows, which copies cells and
//! so runs beside the async threads, a few at a time.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use url::form_urlencoded;

use super::error::RequestError;
use super::history::Samples;
use super::views::{Readiness, Shards, Summary, Tables};
use super::{Shared, Sources};
use crate::clock::now_ms;
use crate::limits::SERVE_ROWS_DEFAULT;
use crate::metrics::{Scraped, WindowGauges};
use crate::window::{LiveFilter, LiveWindow};

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON_TYPE: &str = "application/json";

/// `/metrics`. The windows' gauges are a look like any other.
pub async fn metrics(State(shared): State<Shared>) -> Result<Response, RequestError> {
    // The semaphore is never closed.
    let _look = shared.looks.acquire().await.ok();
    let sources = shared.sources;
    let text = tokio::task::spawn_blocking(move || {
        let now_us = now_ms().saturating_mul(1000);
        let windows = sources.windows.iter();
        let gauges: Vec<WindowGauges> =
            windows.flat_map(|windows| windows.gauges(now_us, sources.window_series_max)).collect();
        let process = Scraped { pipeline: &sources.pipeline, started_ms: sources.started_ms };
        sources.registry.scrape(process, &gauges)
    });
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text.await?).into_response())
}

/// `/livez`.
pub async fn livez() -> impl IntoResponse {
    Json(json!({ "live": true }))
}

/// `/readyz`.
pub async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    let readiness = Readiness::of(&shared.sources.status.snapshot());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

/// `/api/summary`.
pub async fn summary(State(shared): State<Shared>) -> Json<Summary> {
    Json(Summary::of(&shared.sources, now_ms()))
}

/// `/api/shards`.
pub async fn shards(State(shared): State<Shared>) -> Json<Shards> {
    Json(Shards::of(shared.sources.status.snapshot(), now_ms()))
}

/// `/api/tables`.
pub async fn tables(State(shared): State<Shared>) -> Json<Tables> {
    Json(Tables::of(shared.sources.status.snapshot(), now_ms()))
}

/// `/api/history`.
pub async fn history(State(shared): State<Shared>) -> Json<Samples> {
    Json(shared.history.samples(now_ms()))
}

/// `/api/windows`.
pub async fn windows(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, RequestError> {
    let query = WindowsQuery::parse(query.as_deref().unwrap_or_default())?;
    query.check_window(&shared.sources)?;
    // The semaphore is never closed.
    let _look = shared.looks.acquire().await.ok();
    let sources = shared.sources;
    let body = tokio::task::spawn_blocking(move || serde_json::to_vec(&query.look(&sources))).await??;
    Ok(([(header::CONTENT_TYPE, JSON_TYPE)], body).into_response())
}

#[derive(Debug)]
struct WindowsQuery {
    filter: LiveFilter,
    rows_max: usize,
}

impl WindowsQuery {
    fn parse(query: &str) -> Result<Self, RequestError> {
        let mut parsed = Self { filter: LiveFilter::default(), rows_max: SERVE_ROWS_DEFAULT };
        for (parameter, value) in form_urlencoded::parse(query.as_bytes()) {
            match parameter.as_ref() {
                "window" => parsed.filter.window = Some(value.into_owned()),
                "starts" => parsed.filter.starts_max = Some(whole_number("starts", &value)?),
                "rows" => parsed.rows_max = whole_number("rows", &value)?,
                other => {
                    let parameter = other.to_owned();
                    return Err(RequestError::UnknownParameter { parameter, expected: "window, starts and rows" });
                }
            }
        }
        Ok(parsed)
    }

    fn check_window(&self, sources: &Sources) -> Result<(), RequestError> {
        let Some(window) = &self.filter.window else { return Ok(()) };
        let names: Vec<String> =
            sources.windows.iter().flat_map(|windows| windows.names()).map(str::to_owned).collect();
        if names.contains(window) {
            return Ok(());
        }
        Err(RequestError::UnknownWindow { window: window.clone(), names })
    }

    fn look(&self, sources: &Sources) -> Vec<LiveWindow> {
        let mut live: Vec<LiveWindow> = sources.windows.iter().flat_map(|windows| windows.live(&self.filter)).collect();
        live.iter_mut().flat_map(|window| &mut window.starts).for_each(|start| start.rows.truncate(self.rows_max));
        live
    }
}

fn whole_number(parameter: &'static str, value: &str) -> Result<usize, RequestError> {
    value.parse().map_err(|_| RequestError::NotANumber { parameter, value: value.to_owned() })
}

/// Every other path.
pub async fn not_found(uri: Uri) -> RequestError {
    RequestError::NotFound { path: uri.path().to_owned() }
}
