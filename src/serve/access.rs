//! Who may look: anybody on loopback, elsewhere whoever holds the token.
//!
//! Scripts send it as `Authorization: Bearer`. A browser sends it once, as `/?token=`, and gets a cookie that no
//! script can read and no other site can use. The answer to that is a page which goes on to `/` by itself and not a
//! redirect: after a redirect a browser still takes the request for the other site's whose link it followed, and
//! would leave the cookie out. The token is in no log, no error and no page.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use axum::response::{Html, IntoResponse, Response};
use subtle::ConstantTimeEq;
use url::form_urlencoded;

use super::error::RequestError;
use crate::limits::{SERVE_TOKEN_LETTERS_MAX, SERVE_TOKEN_LETTERS_MIN};

/// A secret of letters that need no quoting in headers, cookies and addresses. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// The text without the line's end; `None` unless it is of `A-Z a-z 0-9 - . _ ~` and neither short nor long.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let long_enough = (SERVE_TOKEN_LETTERS_MIN..=SERVE_TOKEN_LETTERS_MAX).contains(&text.len());
        (long_enough && text.bytes().all(allowed)).then(|| Self(text.into()))
    }

    /// Takes as long for a guess that is nearly right as for one that is all wrong.
    fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// `[serve]`, but for the address.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Needed for the page and the API.
    pub token: Option<Token>,
    /// Needed for metrics and health too.
    pub protect_metrics: bool,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Admission {
    /// It is answered.
    Welcome,
    /// It brought the token in its address and gets a cookie for it.
    Cookie(Token),
}

impl Access {
    /// Whether the request shows the token, if its path needs one.
    pub fn check(&self, request: &Request, local_addr: SocketAddr) -> Result<Admission, RequestError> {
        let Some(token) = &self.token else { return Ok(Admission::Welcome) };
        let open = matches!(request.uri().path(), "/metrics" | "/livez" | "/readyz");
        if open && !self.protect_metrics || shows(request, token, &cookie_name(local_addr)) {
            return Ok(Admission::Welcome);
        }
        let query = request.uri().query().unwrap_or_default();
        let mut given = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "token");
        match given.next() {
            Some((_, given)) if request.uri().path() == "/" && token.is(&given) => Ok(Admission::Cookie(token.clone())),
            Some(_) | None => Err(RequestError::TokenNeeded),
        }
    }
}

fn shows(request: &Request, token: &Token, cookie: &str) -> bool {
    let headers = request.headers();
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    if bearer.is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("bearer") && token.is(given.trim())) {
        return true;
    }
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.any(|(name, given)| name == cookie && token.is(given))
}

/// Cookies do not know ports; two Pintails on one machine must not take each other's.
fn cookie_name(local_addr: SocketAddr) -> String {
    format!("pintail_{}", local_addr.port())
}

/// Sets the cookie and goes on to the page.
pub fn welcome(token: &Token, local_addr: SocketAddr) -> Response {
    let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", cookie_name(local_addr), token.0);
    let page = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"0;url=/\">\
                <title>Pintail</title><p><a href=\"/\">Go on to the live page</a></p></html>";
    ([(SET_COOKIE, cookie)], Html(page)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_needs_no_quoting_and_is_never_shown() {
        let secret = "A-Za-z0-9._~0123456789";
        assert!(format!("{:?}", Token::parse(secret).unwrap()).find("0123").is_none());
        assert!(Token::parse(&format!("{secret}\n")).unwrap().is(secret));
        for wrong in ["", "short", "with a space in it.", "semicolon;semicolon", &"x".repeat(257)] {
            assert!(Token::parse(wrong).is_none(), "{wrong}");
        }
        assert!(!Token::parse(secret).unwrap().is(&secret[1..]));
    }
}
