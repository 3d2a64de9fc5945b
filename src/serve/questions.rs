//! What may be asked, read from a query: every parameter is known, has a usable value and is given once.

use std::collections::BTreeSet;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::http::request::Parts;
use chrono::DateTime;
use url::form_urlencoded;

use super::Sources;
use super::error::RequestError;
use crate::limits::{SERVE_ROWS_DEFAULT, SERVE_ROWS_MAX};
use crate::record::RejectReason;
use crate::window::{LiveFilter, LiveWindow, SealedWindow};

const KEY: &str = "key.";

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Everything.
    Json,
    /// One line a row, of one window.
    Csv,
}

/// What has nothing to choose from. A parameter that does nothing would look as if it did.
#[derive(Debug)]
pub struct AllOfIt;

impl<S: Sync> FromRequestParts<S> for AllOfIt {
    type Rejection = RequestError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, RequestError> {
        match form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).next() {
            None => Ok(Self),
            Some((parameter, _)) => {
                Err(RequestError::UnknownParameter { parameter: parameter.into_owned(), expected: "none" })
            }
        }
    }
}

/// `/api/windows` and `/api/sealed`
#[derive(Debug)]
pub struct WindowsQuestion {
    filter: LiveFilter,
    /// How it is answered.
    pub format: Format,
}

impl WindowsQuestion {
    /// A question that these sources can answer at `now_ms` (epoch ms). `format` in the query goes before what the client would accept.
    pub fn parse(query: &str, headers: &HeaderMap, sources: &Sources, now_ms: i64) -> Result<Self, RequestError> {
        let mut filter = LiveFilter { rows_max: Some(SERVE_ROWS_DEFAULT), ..LiveFilter::default() };
        let mut format = accepted(headers);
        let mut given = BTreeSet::new();
        for (parameter, value) in form_urlencoded::parse(query.as_bytes()) {
            if !given.insert(parameter.to_string()) {
                return Err(RequestError::Repeated { parameter: parameter.into_owned() });
            }
            match parameter.as_ref() {
                "window" => filter.window = Some(value.into_owned()),
                "since" => filter.since_ms = Some(time_ms("since", &value)?),
                "until" => filter.until_ms = Some(time_ms("until", &value)?),
                "starts" => filter.starts_max = Some(whole_number("starts", &value)?),
                "rows" => filter.rows_max = Some(whole_number("rows", &value)?),
                "format" => format = format_named(&value)?,
                other => match other.strip_prefix(KEY) {
                    Some(key) => filter.keys.push((key.to_owned(), value.into_owned())),
                    None => {
                        let expected = "window, key.NAME, since, until, starts, rows and format";
                        return Err(RequestError::UnknownParameter { parameter: other.to_owned(), expected });
                    }
                },
            }
        }
        filter.now_ms = Some(now_ms);
        let windows: usize = sources.windows.iter().map(|windows| windows.asked_for(&filter)).sum();
        filter.rows_in_all_max = Some(SERVE_ROWS_MAX / windows.max(1));
        let question = Self { filter, format };
        question.check(sources)?;
        Ok(question)
    }

    fn check(&self, sources: &Sources) -> Result<(), RequestError> {
        let window = self.filter.window.as_deref();
        let names = || sources.windows.iter().flat_map(|windows| windows.names()).map(str::to_owned).collect();
        if let Some(window) = window {
            let names: Vec<String> = names();
            if !names.iter().any(|name| name == window) {
                return Err(RequestError::UnknownWindow { window: window.to_owned(), names });
            }
        } else if self.format == Format::Csv {
            return Err(RequestError::WindowNeeded { names: names() });
        }
        let keys: BTreeSet<&str> = sources.windows.iter().flat_map(|windows| windows.key_names(window)).collect();
        match self.filter.keys.iter().find(|(name, _)| !keys.contains(name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let names = keys.into_iter().map(str::to_owned).collect();
                Err(RequestError::UnknownKey { key: name.clone(), names })
            }
        }
    }

    /// The answer: live windows.
    pub fn look(&self, sources: &Sources) -> Vec<LiveWindow> {
        look(sources, &self.filter)
    }

    /// The answer: sealed windows.
    pub fn look_back(&self, sources: &Sources) -> Vec<SealedWindow> {
        look_back(sources, &self.filter)
    }
}

/// The live windows of all streams.
pub fn look(sources: &Sources, filter: &LiveFilter) -> Vec<LiveWindow> {
    sources.windows.iter().flat_map(|windows| windows.live(filter)).collect()
}

/// The sealed windows of all streams.
pub fn look_back(sources: &Sources, filter: &LiveFilter) -> Vec<SealedWindow> {
    sources.windows.iter().flat_map(|windows| windows.sealed(filter)).collect()
}

/// CSV only for whoever names it and not JSON: a browser accepts everything.
fn accepted(headers: &HeaderMap) -> Format {
    let accepts = |kind: &str| {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.split(';').next().is_some_and(|it| it.trim() == kind))
    };
    if accepts("text/csv") && !accepts("application/json") { Format::Csv } else { Format::Json }
}

fn format_named(value: &str) -> Result<Format, RequestError> {
    match value {
        "json" => Ok(Format::Json),
        "csv" => Ok(Format::Csv),
        other => Err(RequestError::UnknownFormat { format: other.to_owned() }),
    }
}

fn whole_number(parameter: &'static str, value: &str) -> Result<usize, RequestError> {
    value.parse().map_err(|_| RequestError::NotANumber { parameter, value: value.to_owned() })
}

/// Epoch milliseconds, or a time with its zone.
fn time_ms(parameter: &'static str, value: &str) -> Result<i64, RequestError> {
    let time = || DateTime::parse_from_rfc3339(value).ok().map(|time| time.timestamp_millis());
    let ms = value.parse().ok().or_else(time);
    ms.ok_or_else(|| {
        let plus = value.rsplit_once(' ').map(|(time, offset)| format!("{time}+{offset}"));
        let was_plus = plus.is_some_and(|value| DateTime::parse_from_rfc3339(&value).is_ok());
        let hint = if was_plus { "; in a query a + means a space, so write %2B for it" } else { "" };
        RequestError::NotATime { parameter, value: value.to_owned(), hint }
    })
}

/// `/api/rejects`
#[derive(Debug, Default)]
pub struct RejectsQuestion {
    /// Only this stream's.
    pub stream: Option<String>,
    /// Only of this reason.
    pub reason: Option<String>,
}

impl RejectsQuestion {
    /// A question that these sources can answer.
    pub fn parse(query: &str, sources: &Sources) -> Result<Self, RequestError> {
        let mut question = Self::default();
        for (parameter, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match parameter.as_ref() {
                "stream" => &mut question.stream,
                "reason" => &mut question.reason,
                other => {
                    let (parameter, expected) = (other.to_owned(), "stream and reason");
                    return Err(RequestError::UnknownParameter { parameter, expected });
                }
            };
            if slot.replace(value.into_owned()).is_some() {
                return Err(RequestError::Repeated { parameter: parameter.into_owned() });
            }
        }
        if let Some(stream) = &question.stream {
            let names: Vec<String> = sources.status.snapshot().into_keys().collect();
            if !names.contains(stream) {
                return Err(RequestError::UnknownStream { stream: stream.clone(), names });
            }
        }
        if let Some(reason) = &question.reason
            && !RejectReason::ALL.iter().any(|known| known.as_str() == reason)
        {
            return Err(RequestError::UnknownReason { reason: reason.clone() });
        }
        Ok(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_for_whoever_asks_for_it() {
        let format = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            accepted(&headers)
        };
        for accept in ["text/csv", "text/csv; q=0.9, */*", "text/plain,text/csv"] {
            assert_eq!(format(accept), Format::Csv, "{accept}");
        }
        for accept in ["*/*", "text/html,*/*", "application/json, text/csv", "text/csvx"] {
            assert_eq!(format(accept), Format::Json, "{accept}");
        }
    }

    #[test]
    fn a_time_is_epoch_milliseconds_or_has_a_zone() {
        assert_eq!(time_ms("since", "-5").unwrap(), -5);
        assert_eq!(time_ms("since", "1970-01-01T01:00:01+01:00").unwrap(), 1000);
        for wrong in ["", "now", "1970-01-01", "1970-01-01T00:00:00", "1.5"] {
            assert!(time_ms("since", wrong).is_err(), "{wrong}");
        }
    }
}
