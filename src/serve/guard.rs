//! What holds for every request and every answer, whatever the endpoint.
//!
//! A server on loopback is still reachable by any web page that its user visits: a site can point a name of its own
//! at 127.0.0.1 and read the answers as its own. Such a request carries the foreign name, so on loopback only the
//! machine's own names are answered. No answer allows another site to read or to frame it.

use std::net::{IpAddr, SocketAddr};

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::{self, Access, Admission};
use super::error::RequestError;
use crate::limits::SERVE_URI_BYTES_MAX;

/// Headers of every answer that does not set its own.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What must hold, given where the server listens.
#[derive(Debug, Clone)]
pub struct Guard {
    local_addr: SocketAddr,
    access: Access,
}

impl Guard {
    /// For a server that listens here.
    pub fn of(local_addr: SocketAddr, access: Access) -> Self {
        Self { local_addr, access }
    }

    fn check(&self, request: &Request) -> Result<Admission, RequestError> {
        if self.local_addr.ip().is_loopback() {
            check_host(request)?;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(RequestError::Method);
        }
        if !request.body().is_end_stream() {
            return Err(RequestError::Body);
        }
        let uri_bytes = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        if uri_bytes > SERVE_URI_BYTES_MAX {
            return Err(RequestError::UriTooLong);
        }
        self.access.check(request, self.local_addr)
    }
}

/// Refuses what does not belong here and completes the answer's headers.
pub async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match guard.check(&request) {
        Ok(Admission::Welcome) => next.run(request).await,
        Ok(Admission::Cookie(token)) => access::welcome(&token, guard.local_addr),
        Err(refused) => refused.into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The `Host` header and the authority of the URI, whichever are there, must name this machine; one must be there.
fn check_host(request: &Request) -> Result<(), RequestError> {
    let refused = |host: &str| RequestError::Host { host: host.to_owned() };
    let mut named = false;
    if let Some(authority) = request.uri().authority() {
        named = true;
        if !is_local(authority.as_str()) {
            return Err(refused(authority.as_str()));
        }
    }
    for host in request.headers().get_all(header::HOST) {
        named = true;
        let host = host.to_str().unwrap_or("(not text)");
        if !is_local(host) {
            return Err(refused(host));
        }
    }
    if named { Ok(()) } else { Err(refused("")) }
}

/// `localhost` or a loopback address, with any port or none.
fn is_local(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machines_own_names_are_local() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9464", "[::1]", "[::1]:80"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]:1"] {
            assert!(!is_local(host), "{host}");
        }
        for host in ["evil.example@localhost", "localhost@evil.example", "(not text)", "localhost/.evil.example"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
