//! What a proxy must know of shards: whose an iterator is, where a listing's page ends, when a shard is locked.
//!
//! Iterators and tokens carry the stream and the shard in front of what the Kinesis behind gave, so that nothing need
//! be remembered of them.

use serde_json::{Value, json};

/// Stands between the parts of a token; in no stream's and no shard's name.
const SEPARATOR: char = '|';

/// An iterator or a token that says whose it is.
pub fn wrap(stream: &str, shard: &str, inner: &str) -> String {
    format!("{stream}{SEPARATOR}{shard}{SEPARATOR}{inner}")
}

/// (stream, shard, what was wrapped); of what nobody wrapped, the last only.
pub fn unwrap(token: &str) -> (&str, &str, &str) {
    let mut parts = token.splitn(3, SEPARATOR);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(stream), Some(shard), Some(inner)) => (stream, shard, inner),
        _ => ("", "", token),
    }
}

/// Payload bytes of a record as the wire has it.
pub fn payload_bytes(record: &Value) -> usize {
    let text = record["Data"].as_str().unwrap_or_default();
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

/// Cuts an answer's records where they exceed so many bytes, but not before the second; the number of the last one
/// left if any had to go.
pub fn cut(answer: &mut Value, bytes_max: usize) -> Option<String> {
    let records = answer["Records"].as_array_mut()?;
    let mut bytes = 0;
    let fitting = records.iter().take_while(|record| {
        bytes += payload_bytes(record);
        bytes <= bytes_max
    });
    let kept = fitting.count().max(1);
    if kept >= records.len() {
        return None;
    }
    records.truncate(kept);
    records.last()?["SequenceNumber"].as_str().map(str::to_owned)
}

/// One page of a listing, from this shard on, with the token of the next if there is one.
pub fn page(listing: &Value, stream: &str, from: usize, count: usize) -> Value {
    let shards = listing["Shards"].as_array().map(Vec::as_slice).unwrap_or_default();
    let end = from.saturating_add(count).min(shards.len());
    let mut page = json!({"Shards": shards.get(from..end).unwrap_or_default()});
    if end < shards.len() {
        page["NextToken"] = json!(wrap(stream, "", &end.to_string()));
    }
    page
}

/// The children of a shard as `GetRecords` names them at its end; from a listing.
pub fn children(listing: &Value, shard: &str) -> Value {
    let shards = listing["Shards"].as_array().map(Vec::as_slice).unwrap_or_default();
    let children = shards.iter().filter_map(|child| {
        let parents: Vec<&Value> = [&child["ParentShardId"], &child["AdjacentParentShardId"]]
            .into_iter()
            .filter(|id| id.is_string())
            .collect();
        parents.iter().any(|parent| **parent == shard).then(
            || json!({"ShardId": child["ShardId"], "ParentShards": parents, "HashKeyRange": child["HashKeyRange"]}),
        )
    });
    children.collect()
}
