//! Records beyond 1 MiB, around ferrokinesis's front door, and reads that hold no more than Kinesis's 10 MiB.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ferrokinesis::store::Store;
use ferrokinesis::types::StoredRecordRef;
use ferrokinesis::{sequence, shard_iterator};
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio::task::spawn_blocking;

use super::BODY_BYTES_MAX;
use crate::checkpoint::{SequenceNumber, ShardId};
use crate::limits::READ_BYTES_MAX;

const TARGET: &str = "x-amz-target";
const GET_RECORDS: &str = "Kinesis_20131202.GetRecords";

/// Ferrokinesis's store, and whether it holds a large record.
pub struct LargeRecords {
    store: Store,
    any: AtomicBool,
    /// Held for writing from a large record's number to its place in the store, for reading by every read: one that
    /// passed the number in between would never see the record.
    storing: RwLock<()>,
}

impl std::fmt::Debug for LargeRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LargeRecords")
    }
}

impl LargeRecords {
    pub fn new(store: Store) -> Self {
        Self { store, any: AtomicBool::new(false), storing: RwLock::new(()) }
    }

    /// `Err`: ferrokinesis's reason.
    pub async fn put(
        &self,
        stream: &str,
        partition_key: &str,
        hash_key: u128,
        data: &[u8],
    ) -> Result<(ShardId, SequenceNumber), String> {
        self.any.store(true, Ordering::Relaxed);
        let data = data.to_vec();
        let encoded = spawn_blocking(move || base64_simd::STANDARD.encode_to_string(data)).await;
        let data = encoded.map_err(|error| error.to_string())?;
        let _storing = self.storing.write().await;
        let place = self.store.allocate_sequence(stream, &hash_key).await.map_err(|error| format!("{error:?}"))?;
        let number = SequenceNumber::parse(&place.seq_num).map_err(|error| error.to_string())?;
        let approximate_arrival_timestamp = (place.now / 1000) as f64;
        let record = StoredRecordRef { partition_key, data: &data, approximate_arrival_timestamp };
        let put = self.store.put_record(stream, &place.stream_key, &record).await;
        put.map_err(|error| format!("{error:?}"))?;
        Ok((ShardId::new(place.shard_id), number))
    }

    /// How many records from this iterator on fit an answer, at most `limit`; a single one always does.
    async fn fitting(&self, iterator: &str, limit: u64) -> Option<u64> {
        let (_, stream, shard, number) = shard_iterator::decode_shard_iterator(iterator).ok()?;
        let index: i64 = shard.strip_prefix("shardId-")?.parse().ok()?;
        let from = format!("{}/{number}", sequence::shard_ix_to_hex(index));
        let to = sequence::shard_ix_to_hex(index + 1);
        let mut asked = 1;
        loop {
            let records = self.store.get_records_range_limited(&stream, &from, &to, asked as usize).await;
            let mut bytes = 0;
            let fits = records.iter().take_while(|(_, record)| {
                bytes += record.data.len() as u64 / 4 * 3;
                // Base64 ends in up to two bytes that are none.
                bytes <= READ_BYTES_MAX + 2
            });
            let fits = fits.count() as u64;
            if fits < asked || asked >= limit {
                return Some(fits.clamp(1, limit));
            }
            asked = (asked * 2).min(limit);
        }
    }
}

/// Gives a GetRecords call the limit that its answer can keep. Other calls, and all while there is no large record,
/// go through as they are.
pub async fn cut(State(large): State<Arc<LargeRecords>>, request: Request, next: Next) -> Response {
    let is_read = request.headers().get(TARGET).is_some_and(|target| target == GET_RECORDS);
    if !is_read {
        return next.run(request).await;
    }
    let _storing = large.storing.read().await;
    if !large.any.load(Ordering::Relaxed) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else { return StatusCode::BAD_REQUEST.into_response() };
    let mut call: Value = serde_json::from_slice(&body).unwrap_or_default();
    let limit = call.get("Limit").and_then(Value::as_u64).unwrap_or(10_000).max(1);
    let fitting = match call.get("ShardIterator").and_then(Value::as_str) {
        Some(iterator) => large.fitting(iterator, limit).await,
        None => None,
    };
    let Some(fitting) = fitting else { return next.run(Request::from_parts(parts, Body::from(body))).await };
    call["Limit"] = json!(fitting);
    // The length is that of another body.
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    next.run(Request::from_parts(parts, Body::from(call.to_string()))).await
}
