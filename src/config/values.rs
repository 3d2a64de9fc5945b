//! Values of the configuration that are words or addresses of their own.

use std::net::SocketAddr;

use crate::source::{ForeignRecords, OnDataLoss, StartPosition};
use crate::toml_doc::FromToml;

impl FromToml for StartPosition {
    const EXPECTED: &'static str =
        "\"trim_horizon\" (oldest), \"latest\", or a time with its zone like \"2026-01-31T08:00:00Z\"";

    fn from_value(value: &toml_edit::Value) -> Option<Self> {
        match value.as_datetime() {
            Some(datetime) => Self::from_text(&datetime.to_string()),
            None => Self::from_text(value.as_str()?),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "trim_horizon" => Some(Self::TrimHorizon),
            "latest" => Some(Self::Latest),
            time => {
                let ms = chrono::DateTime::parse_from_rfc3339(time).ok()?.timestamp_millis();
                // 0 means "from the beginning" in the ledger.
                (ms > 0).then_some(Self::At(ms))
            }
        }
    }
}

impl FromToml for OnDataLoss {
    const EXPECTED: &'static str = "\"fail\" or \"continue\"";

    fn from_value(value: &toml_edit::Value) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "fail" => Some(Self::Fail),
            "continue" => Some(Self::Continue),
            _other => None,
        }
    }
}

impl FromToml for ForeignRecords {
    const EXPECTED: &'static str = "\"keep\", \"reject\" or \"strict\"";

    fn from_value(value: &toml_edit::Value) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "keep" => Some(Self::Keep),
            "reject" => Some(Self::Reject),
            "strict" => Some(Self::Strict),
            _other => None,
        }
    }
}

impl FromToml for SocketAddr {
    const EXPECTED: &'static str = "an address and a port, like \"127.0.0.1:9464\"";

    fn from_value(value: &toml_edit::Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}
