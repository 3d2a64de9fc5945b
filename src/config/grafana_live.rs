//! `[grafana_live]`: absent unless somebody wants it.

use std::path::Path;
use std::time::Duration;

use super::{resolve, text};
use crate::serve::GrafanaLiveConfig;
use crate::toml_doc::{At, Cut, DurationMs, Problems, Section};

pub(super) fn read(mut section: Section<'_>, folder: &Path, problems: &Problems) -> Option<GrafanaLiveConfig> {
    let (url, token) = (text(&mut section, "url"), text(&mut section, "token_file"));
    let interval = section.optional::<DurationMs>("interval");
    let (place, both) = (section.place(), section.has("url") && section.has("token_file"));
    section.finish();
    if url.is_none() && token.is_none() && interval.is_none() {
        return None;
    }
    if let Some(At { value: DurationMs(ms), place }) = &interval
        && !(100..=60_000).contains(ms)
    {
        problems
            .note(place, format_args!("`grafana_live.interval` = {}; expected \"100ms\" to \"60s\"", DurationMs(*ms)));
    }
    let (Some(url), Some(token)) = (url, token) else {
        if !both {
            problems.note(&place, "`grafana_live` needs both `url` and `token_file`");
        }
        return None;
    };
    let token_file = resolve(folder, &token.value);
    if let Err(error) = std::fs::File::open(&token_file) {
        let value = Cut(&token.value);
        problems.note(&token.place, format_args!("`grafana_live.token_file` = {value:?} cannot be read: {error}"));
    }
    // What stands in an address is logged with it.
    let usable = |url: &url::Url| {
        let has_secret = !url.username().is_empty() || url.password().is_some();
        matches!(url.scheme(), "http" | "https") && !has_secret && url.query().or(url.fragment()).is_none()
    };
    let parsed = url.value.parse().ok().filter(usable);
    if parsed.is_none() {
        let expected = "expected Grafana's address, like http://127.0.0.1:3000, without a user, a password, a ? or a #";
        problems.note(&url.place, format_args!("`grafana_live.url` is not one; {expected}"));
    }
    let interval = Duration::from_millis(interval.map_or(250, |interval| interval.value.0));
    Some(GrafanaLiveConfig { url: parsed?, token_file, interval })
}
