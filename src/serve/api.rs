//! The handlers: ask the sources, shape the answer. All short, except a look at the windows, which copies cells and
//! so runs beside the async threads, a few at a time.

use axum::Json;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::csv::{csv, sealed_csv};
use super::error::RequestError;
use super::history::Samples;
use super::line::Line;
use super::questions::{AllOfIt, Format, RejectsQuestion, WindowsQuestion};
use super::views::{Readiness, Rejects, Shards, Summary, Tables};
use super::{Shared, Sources};
use crate::clock::now_ms;
use crate::metrics::{Scraped, WindowGauges};

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON_TYPE: &str = "application/json";
const CSV_TYPE: &str = "text/csv; charset=utf-8";

/// What this server answers, for machines.
pub const OPENAPI: &str = include_str!("openapi.json");

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
pub async fn summary(State(shared): State<Shared>, _: AllOfIt) -> Json<Summary> {
    Json(Summary::of(&shared.sources, now_ms()))
}

/// `/api/shards`.
pub async fn shards(State(shared): State<Shared>, _: AllOfIt) -> Json<Shards> {
    Json(Shards::of(shared.sources.status.snapshot(), now_ms()))
}

/// `/api/tables`.
pub async fn tables(State(shared): State<Shared>, _: AllOfIt) -> Json<Tables> {
    Json(Tables::of(shared.sources.status.snapshot(), now_ms()))
}

/// `/api/history`.
pub async fn history(State(shared): State<Shared>, _: AllOfIt) -> Json<Samples> {
    Json(shared.history.samples(now_ms()))
}

/// `/api/rejects`.
pub async fn rejects(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Result<Json<Rejects>, RequestError> {
    let question = RejectsQuestion::parse(query.as_deref().unwrap_or_default(), &shared.sources)?;
    let status = &shared.sources.status;
    Ok(Json(Rejects::of(status, question.stream.as_deref(), question.reason.as_deref(), now_ms())))
}

/// `/api/windows`.
pub async fn windows(
    State(shared): State<Shared>,
    ConnectInfo(line): ConnectInfo<Line>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, RequestError> {
    answer(shared, line, query, &headers, WindowsQuestion::look, csv).await
}

/// `/api/sealed`.
pub async fn sealed(
    State(shared): State<Shared>,
    ConnectInfo(line): ConnectInfo<Line>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, RequestError> {
    answer(shared, line, query, &headers, WindowsQuestion::look_back, sealed_csv).await
}

async fn answer<T: Serialize + 'static>(
    shared: Shared,
    line: Line,
    query: Option<String>,
    headers: &HeaderMap,
    look: fn(&WindowsQuestion, &Sources) -> Vec<T>,
    csv: fn(&T) -> String,
) -> Result<Response, RequestError> {
    let question = WindowsQuestion::parse(query.as_deref().unwrap_or_default(), headers, &shared.sources, now_ms())?;
    // The semaphore is never closed.
    let _look = shared.looks.acquire().await.ok();
    let (sources, format) = (shared.sources.clone(), question.format);
    let body = tokio::task::spawn_blocking(move || {
        let found = look(&question, &sources);
        match format {
            Format::Json => serde_json::to_vec(&found),
            Format::Csv => Ok(found.iter().map(csv).collect::<String>().into_bytes()),
        }
    });
    let content_type = match format {
        Format::Json => JSON_TYPE,
        Format::Csv => CSV_TYPE,
    };
    let body = body.await??;
    shared.large.let_out(body.len(), &line)?;
    Ok(([(header::CONTENT_TYPE, content_type), (header::VARY, "Accept")], body).into_response())
}

/// `/api/stream`.
pub async fn stream(
    State(shared): State<Shared>,
    ConnectInfo(line): ConnectInfo<Line>,
    _: AllOfIt,
) -> Result<Response, RequestError> {
    let body = shared.feed.join(line)?;
    Ok(([(header::CONTENT_TYPE, "text/event-stream"), (header::CONNECTION, "close")], body).into_response())
}

/// `/api/openapi.json`.
pub async fn openapi(_: AllOfIt) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, JSON_TYPE)], OPENAPI)
}

/// Every other path.
pub async fn not_found(uri: Uri) -> RequestError {
    RequestError::NotFound { path: uri.path().to_owned() }
}
