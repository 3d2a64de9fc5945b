//! One entry of a Delta log: written one action a line, and read tolerantly, line by line as plain JSON, keeping only
//! what a writer needs to know.
//!
//! Files are passed over, so an entry that adds a million of them costs nothing to keep. A kind of action that this
//! program has never heard of is noted by name and left to the caller.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::commit::Proposal;

const ENGINE: &str = concat!("pintail/", env!("CARGO_PKG_VERSION"));

/// What of an entry is kept beside its metadata.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep<'a> {
    /// Application transactions whose id starts with this.
    pub prefix: &'a str,
    /// Removals of these files.
    pub removals: Option<&'a HashSet<String>>,
}

impl<'a> Keep<'a> {
    /// Files left out.
    pub fn txns(prefix: &'a str) -> Self {
        Self { prefix, removals: None }
    }
}

/// What one log entry says, files left out but for those that were asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LogEntry {
    /// Its `commitInfo`.
    pub commit_info: Option<Map<String, Value>>,
    /// Its application transactions: (app id, version), only those that were asked for.
    pub txns: Vec<(String, i64)>,
    /// Its `metaData`.
    pub metadata: Option<Metadata>,
    /// Its `protocol`.
    pub protocol: Option<Protocol>,
    /// Paths that it removes, only those that were asked for.
    pub removed: Vec<String>,
    /// Kinds of action that we do not know.
    pub unknown: Vec<String>,
}

/// A table's `metaData` action.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metadata {
    pub id: String,
    pub schema_string: String,
    pub partition_columns: Vec<String>,
    pub configuration: BTreeMap<String, String>,
    /// The whole action, for repeating it with one thing changed.
    pub raw: Value,
}

/// A table's `protocol` action.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub reader: i64,
    pub writer: i64,
    pub features: Vec<String>,
}

impl LogEntry {
    /// Parses newline-delimited actions.
    pub fn parse(bytes: &[u8], keep: Keep<'_>) -> Result<Self, String> {
        let mut entry = Self::default();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let actions: Map<String, Value> =
                serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", index + 1))?;
            // A checkpoint's row has every kind of action, all but one null.
            for (kind, action) in actions.into_iter().filter(|(_, action)| !action.is_null()) {
                entry.take(kind, action, keep).map_err(|reason| format!("line {}: {reason}", index + 1))?;
            }
        }
        Ok(entry)
    }

    fn take(&mut self, kind: String, action: Value, keep: Keep<'_>) -> Result<(), String> {
        match kind.as_str() {
            "add" | "cdc" => {}
            "remove" => {
                if let Some(watched) = keep.removals {
                    let path = plain_path(&text(&action, "path")?);
                    self.removed.extend(watched.contains(&path).then_some(path));
                }
            }
            "commitInfo" => self.commit_info = action.as_object().cloned(),
            "txn" => {
                let app_id = text(&action, "appId")?;
                if app_id.starts_with(keep.prefix) {
                    self.txns.push((app_id, integer(&action, "version")?));
                }
            }
            "metaData" => self.metadata = Some(Metadata::read(action)?),
            "protocol" => self.protocol = Some(Protocol::read(&action)?),
            _ => self.unknown.push(kind),
        }
        Ok(())
    }

    /// The id under which Pintail made this commit.
    pub fn commit_id(&self) -> Option<&str> {
        self.commit_info.as_ref()?.get("commitId")?.as_str()
    }
}

/// The entry as it is written: one action a line, `commitInfo` first.
pub(crate) fn entry_bytes(proposal: &Proposal, commit_id: &str, now_ms: i64) -> Bytes {
    let appends_only = proposal.actions.iter().all(|action| action.get("metaData").is_none());
    let mut info = json!({
        "timestamp": now_ms,
        "operation": proposal.operation,
        "operationParameters": { "outputMode": "Append" },
        "isBlindAppend": appends_only,
        "engineInfo": ENGINE,
        "commitId": commit_id,
    });
    if let Some(info) = info.as_object_mut() {
        info.extend(proposal.info.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    }
    let mut lines = json!({ "commitInfo": info }).to_string();
    for (app_id, version) in &proposal.txns {
        let txn = json!({ "txn": { "appId": app_id, "version": version, "lastUpdated": now_ms } });
        lines.push('\n');
        lines.push_str(&txn.to_string());
    }
    for action in &proposal.actions {
        lines.push('\n');
        lines.push_str(&action.to_string());
    }
    lines.push('\n');
    Bytes::from(lines)
}

impl Metadata {
    fn read(mut action: Value) -> Result<Self, String> {
        if let Some(fields) = action.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        let partition_columns = match action.get("partitionColumns").and_then(Value::as_array) {
            Some(columns) => columns.iter().filter_map(|column| column.as_str().map(str::to_owned)).collect(),
            None => Vec::new(),
        };
        let configuration = match action.get("configuration").and_then(Value::as_object) {
            Some(properties) => properties
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
                .collect(),
            None => BTreeMap::new(),
        };
        Ok(Self {
            id: text(&action, "id")?,
            schema_string: text(&action, "schemaString")?,
            partition_columns,
            configuration,
            raw: action,
        })
    }

    /// Whether both describe the same table, however they are written down.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let parts = |metadata: &Self| {
            let Self { id, schema_string, partition_columns, configuration, raw: _ } = metadata.clone();
            (id, schema_string, partition_columns, configuration)
        };
        parts(self) == parts(other)
    }
}

impl Protocol {
    fn read(action: &Value) -> Result<Self, String> {
        let lists = ["readerFeatures", "writerFeatures"].into_iter().filter_map(|key| action.get(key)?.as_array());
        let mut features: Vec<String> = lists.flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        features.sort();
        features.dedup();
        Ok(Self {
            reader: integer(action, "minReaderVersion")?,
            writer: integer(action, "minWriterVersion")?,
            features,
        })
    }
}

/// A path without URI escapes, however often it was escaped: two ways of writing one file are one path. Of a plain
/// name it is the name.
pub(crate) fn plain_path(path: &str) -> String {
    let mut plain = path.to_owned();
    while plain.contains('%') {
        match percent_encoding::percent_decode_str(&plain).decode_utf8() {
            Ok(decoded) if decoded != plain => plain = decoded.into_owned(),
            Ok(_) | Err(_) => break,
        }
    }
    plain
}

fn text(action: &Value, key: &str) -> Result<String, String> {
    let value = action.get(key).and_then(Value::as_str);
    value.map(str::to_owned).ok_or_else(|| format!("no text {key:?} in {action}"))
}

fn integer(action: &Value, key: &str) -> Result<i64, String> {
    action.get(key).and_then(Value::as_i64).ok_or_else(|| format!("no integer {key:?} in {action}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_what_a_writer_needs_and_names_what_it_does_not_know() {
        let entry = LogEntry::parse(
            concat!(
                r#"{"commitInfo":{"commitId":"c1","operation":"WRITE"}}"#,
                "\n",
                r#"{"add":{"path":"x","size":1}}"#,
                "\n\n",
                r#"{"txn":{"appId":"p/s@1/sh/0","version":7,"lastUpdated":1}}"#,
                "\n",
                r#"{"txn":{"appId":"other","version":7}}"#,
                "\n",
                r#"{"domainMetadata":{"domain":"d"}}"#,
                "\n",
                r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["a"],"writerFeatures":["b","a"]}}"#,
            )
            .as_bytes(),
            Keep::txns("p/"),
        )
        .unwrap();
        assert_eq!(entry.commit_id(), Some("c1"));
        assert_eq!(entry.txns, [("p/s@1/sh/0".to_owned(), 7)]);
        assert_eq!(entry.unknown, ["domainMetadata"]);
        let features = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(entry.protocol, Some(Protocol { reader: 3, writer: 7, features }));
    }

    #[test]
    fn a_line_that_is_no_action_is_an_error_with_its_number() {
        let error = LogEntry::parse(b"{\"add\":{}}\nnonsense", Keep::txns("")).unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
        let error = LogEntry::parse(b"{\"txn\":{\"appId\":\"a\"}}", Keep::txns("")).unwrap_err();
        assert!(error.contains("no integer \"version\""), "{error}");
    }

    #[test]
    fn only_removals_that_somebody_watches_are_kept_however_their_path_is_escaped() {
        let lines = concat!(
            r#"{"remove":{"path":"day%3D1/a%2520b.parquet"},"add":null}"#,
            "\n",
            r#"{"remove":{"path":"other.parquet"}}"#,
            "\n",
            r#"{"add":{"path":"day=1/a b.parquet"}}"#,
        );
        let watched = HashSet::from(["day=1/a b.parquet".to_owned()]);
        let keep = Keep { prefix: "", removals: Some(&watched) };
        assert_eq!(LogEntry::parse(lines.as_bytes(), keep).unwrap().removed, ["day=1/a b.parquet"]);
        assert!(LogEntry::parse(lines.as_bytes(), Keep::txns("")).unwrap().removed.is_empty());
        assert_eq!(plain_path("100%/%zz"), "100%/%zz");
    }
}
