//! The live page: one answer that needs no other file, so that it works wherever the binary does.
//!
//! Its policy lets only the page's own script and style run, named by a number that no earlier answer held, and
//! lets the script ask only this server. Text from records therefore could not become code even if it were
//! put into the page as markup, which the page never does.

use axum::http::header;
use axum::response::{Html, IntoResponse};
use uuid::Uuid;

const PAGE: &str = concat!(
    include_str!("page/head.html"),
    include_str!("page/page.css"),
    include_str!("page/body.html"),
    include_str!("page/base.js"),
    include_str!("page/streams.js"),
    include_str!("page/windows.js"),
    include_str!("page/sealed.js"),
    include_str!("page/rejects.js"),
    include_str!("page/shards.js"),
    include_str!("page/live.js"),
    include_str!("page/end.html"),
);
const NONCE: &str = "__NONCE__";

/// `/`.
pub async fn page() -> impl IntoResponse {
    let nonce = Uuid::new_v4().simple().to_string();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(PAGE.replace(NONCE, &nonce)))
}
