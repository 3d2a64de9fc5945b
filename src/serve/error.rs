//! Why a request has no answer, and the one place where that becomes a status.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::limits::SERVE_URI_BYTES_MAX;

/// What can be asked for, as listed in answers to unknown paths.
pub const ENDPOINTS: [&str; 9] = [
    "/",
    "/metrics",
    "/livez",
    "/readyz",
    "/api/summary",
    "/api/shards",
    "/api/tables",
    "/api/history",
    "/api/windows?window=NAME&starts=N&rows=N",
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
            Self::NotFound { .. } | Self::UnknownWindow { .. } => StatusCode::NOT_FOUND,
            Self::UnknownParameter { .. } | Self::NotANumber { .. } => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Body => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::Host { .. } => StatusCode::FORBIDDEN,
            Self::Interrupted(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Encode(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::warn!(error = &self as &dyn std::error::Error, "a request could not be answered");
        }
        let mut body = json!({ "error": self.to_string() });
        if let Self::UnknownWindow { names, .. } = &self {
            body["windows"] = json!(names);
        }
        if let Self::NotFound { .. } = self {
            body["endpoints"] = json!(ENDPOINTS);
        }
        let mut response = (status, Json(body)).into_response();
        if let Self::Method = self {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
