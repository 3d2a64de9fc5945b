//! Why a request has no answer, and the one place where that becomes a status.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::limits::{SERVE_LARGE_MAX, SERVE_URI_BYTES_MAX};
use crate::record::RejectReason;

/// What can be asked for, as listed in answers to unknown paths.
pub const ENDPOINTS: [&str; 13] = [
    "/",
    "/metrics",
    "/livez",
    "/readyz",
    "/api/summary",
    "/api/shards",
    "/api/tables",
    "/api/history",
    "/api/rejects?stream=NAME&reason=NAME",
    "/api/windows?window=NAME&key.NAME=VALUE&since=TIME&until=TIME&starts=N&rows=N&format=csv",
    "/api/sealed?window=NAME&key.NAME=VALUE&since=TIME&until=TIME&starts=N&rows=N&format=csv",
    "/api/stream",
    "/api/openapi.json",
];

/// A request that is refused or cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No such path.
    #[error("there is no {path} here; see `endpoints`")]
    NotFound {
        /// As asked for.
        path: String,
    },
    /// No such window.
    #[error("no contract declares a window {window:?}; see `windows`")]
    UnknownWindow {
        /// As asked for.
        window: String,
        /// Those that exist.
        names: Vec<String>,
    },
    /// A parameter that this endpoint does not have.
    #[error("{parameter:?} is not a parameter of this endpoint; it has {expected}")]
    UnknownParameter {
        /// As given.
        parameter: String,
        /// Those that exist.
        expected: &'static str,
    },
    /// Only one window fits a table.
    #[error("CSV is one window's: say which with window=NAME; see `windows`")]
    WindowNeeded {
        /// Those that exist.
        names: Vec<String>,
    },
    /// No window that is asked for has such a key.
    #[error("no window that is asked for is grouped by {key:?}; see `keys`")]
    UnknownKey {
        /// As asked for.
        key: String,
        /// Those that exist.
        names: Vec<String>,
    },
    /// No such stream.
    #[error("there is no stream {stream:?} here; see `streams`")]
    UnknownStream {
        /// As asked for.
        stream: String,
        /// Those that exist.
        names: Vec<String>,
    },
    /// No such reason.
    #[error("{reason:?} is no reason of a reject; see `reasons`")]
    UnknownReason {
        /// As asked for.
        reason: String,
    },
    /// No such way to write an answer.
    #[error("format={format:?} is neither json nor csv")]
    UnknownFormat {
        /// As asked for.
        format: String,
    },
    /// Which of them is meant?
    #[error("{parameter:?} is given more than once")]
    Repeated {
        /// Its name.
        parameter: String,
    },
    /// A parameter that must be a time.
    #[error(
        "{parameter}={value:?} is no time; right would be {parameter}=2026-01-31T08:00:00Z, or epoch milliseconds{hint}"
    )]
    NotATime {
        /// Its name.
        parameter: &'static str,
        /// As given.
        value: String,
        /// What is most likely wrong, if that is known.
        hint: &'static str,
    },
    /// Beyond loopback, or where a token is configured.
    #[error("send the token of [serve] as `Authorization: Bearer TOKEN`, or open /?token=TOKEN once in a browser")]
    TokenNeeded,
    /// Every page that is fed holds a connection.
    #[error("too many pages are fed already; close one, or ask /api/summary and /api/windows instead")]
    TooManyPages,
    /// Others read theirs slowly.
    #[error(
        "{SERVE_LARGE_MAX} large answers are on their way; ask for less (window, key.NAME, since, until, starts, rows) or later"
    )]
    TooManyLarge,
    /// A parameter that must be a number.
    #[error("{parameter}={value:?} is not a whole number; right would be {parameter}=10")]
    NotANumber {
        /// Its name.
        parameter: &'static str,
        /// As given.
        value: String,
    },
    /// Nothing here can be changed over HTTP.
    #[error("only GET and HEAD are answered")]
    Method,
    /// No endpoint reads one.
    #[error("requests have no body here; ask without one")]
    Body,
    /// No endpoint needs that much.
    #[error("path and query exceed {SERVE_URI_BYTES_MAX} bytes")]
    UriTooLong,
    /// A page of another site, under a name that it points at this machine.
    #[error(
        "bound to loopback, so only requests to localhost, 127.0.0.1 or [::1] are answered, not to {host:?}; \
         to serve other names, bind another address with `[serve] listen`"
    )]
    Host {
        /// As asked for.
        host: String,
    },
    /// The process is stopping, or a look at the windows failed.
    #[error("the live windows could not be read; ask again")]
    Interrupted(#[from] tokio::task::JoinError),
    /// A defect: the answer is no JSON.
    #[error("the answer could not be written as JSON")]
    Encode(#[from] serde_json::Error),
}

impl RequestError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } | Self::UnknownWindow { .. } | Self::UnknownStream { .. } => StatusCode::NOT_FOUND,
            Self::UnknownParameter { .. }
            | Self::NotANumber { .. }
            | Self::NotATime { .. }
            | Self::UnknownFormat { .. }
            | Self::UnknownKey { .. }
            | Self::UnknownReason { .. }
            | Self::WindowNeeded { .. }
            | Self::Repeated { .. } => StatusCode::BAD_REQUEST,
            Self::TokenNeeded => StatusCode::UNAUTHORIZED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Body => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::Host { .. } => StatusCode::FORBIDDEN,
            Self::Interrupted(_) | Self::TooManyPages | Self::TooManyLarge => StatusCode::SERVICE_UNAVAILABLE,
            Self::Encode(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl RequestError {
    /// What could have been asked for instead.
    fn right(&self) -> Option<(&'static str, Value)> {
        match self {
            Self::NotFound { .. } => Some(("endpoints", json!(ENDPOINTS))),
            Self::UnknownWindow { names, .. } | Self::WindowNeeded { names } => Some(("windows", json!(names))),
            Self::UnknownKey { names, .. } => Some(("keys", json!(names))),
            Self::UnknownStream { names, .. } => Some(("streams", json!(names))),
            Self::UnknownReason { .. } => Some(("reasons", json!(RejectReason::ALL.map(RejectReason::as_str)))),
            Self::UnknownParameter { .. }
            | Self::UnknownFormat { .. }
            | Self::Repeated { .. }
            | Self::NotATime { .. }
            | Self::NotANumber { .. }
            | Self::TokenNeeded
            | Self::TooManyPages
            | Self::TooManyLarge
            | Self::Method
            | Self::Body
            | Self::UriTooLong
            | Self::Host { .. }
            | Self::Interrupted(_)
            | Self::Encode(_) => None,
        }
    }
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        let status = self.status();
        // Whoever opens too many pages is told, and could fill the log.
        if status.is_server_error() && !matches!(self, Self::TooManyPages | Self::TooManyLarge) {
            tracing::warn!(error = &self as &dyn std::error::Error, "a request could not be answered");
        }
        let mut body = json!({ "error": self.to_string() });
        if let Some((what, names)) = self.right() {
            body[what] = names;
        }
        let mut response = (status, Json(body)).into_response();
        if let Self::Method = self {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if let Self::TokenNeeded = self {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pintail\""));
        }
        if let Self::TooManyPages | Self::TooManyLarge = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
        }
        response
    }
}
