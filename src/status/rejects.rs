//! The last few rejects of every reason, so that whoever sees a count can see what it counts.
//!
//! Payloads come from whoever may write to the stream: only their first bytes are kept, as text in which nothing is
//! a control character, so few that all of them together are no burden to anybody.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use serde::Serialize;

use crate::checkpoint::{SequenceNumber, ShardId};
use crate::limits::{REJECT_DETAIL_BYTES_MAX, REJECT_SAMPLE_BYTES_MAX, REJECT_SAMPLES_MAX};
use crate::record::{Reject, RejectReason};

/// One reject, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectSample {
    /// Its shard.
    pub shard: ShardId,
    /// Its number; text, since it exceeds every number type.
    pub sequence_number: String,
    /// Its index in an aggregated record; 0 for a plain one.
    pub sub_sequence_number: i64,
    /// Its arrival, epoch ms.
    pub arrived_ms: i64,
    /// What exactly is wrong.
    pub detail: String,
    /// The payload's first bytes. `\xNN` is a byte that is no text, `\u{N}` a character that would not show.
    pub payload: String,
    /// How long the payload is.
    pub payload_bytes: usize,
}

/// Samples by reason, newest first.
pub type RejectSamples = BTreeMap<&'static str, VecDeque<RejectSample>>;

/// Keeps samples of a batch's rejects, and as many of the earlier ones as there is room for.
pub fn keep(samples: &mut RejectSamples, shard: &ShardId, rejects: &[Reject]) {
    for reason in RejectReason::ALL {
        let newest = rejects.iter().rev().filter(|reject| reject.reason == reason).take(REJECT_SAMPLES_MAX);
        let newest: Vec<&Reject> = newest.collect();
        if newest.is_empty() {
            continue;
        }
        let kept = samples.entry(reason.as_str()).or_default();
        for reject in newest.into_iter().rev() {
            kept.truncate(REJECT_SAMPLES_MAX - 1);
            kept.push_front(sample(shard, reject));
        }
    }
}

fn sample(shard: &ShardId, reject: &Reject) -> RejectSample {
    let record = &reject.record;
    RejectSample {
        shard: shard.clone(),
        sequence_number: SequenceNumber::to_string(&record.sequence_number),
        sub_sequence_number: record.sub_sequence_number,
        arrived_ms: record.arrived_at_us.div_euclid(1000),
        detail: shown(reject.detail.as_bytes(), REJECT_DETAIL_BYTES_MAX),
        payload: shown(&record.data, REJECT_SAMPLE_BYTES_MAX),
        payload_bytes: record.data.len(),
    }
}

/// The first bytes as text that is what it looks like.
fn shown(bytes: &[u8], bytes_max: usize) -> String {
    let mut text = String::new();
    for chunk in bytes[..bytes.len().min(bytes_max)].utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '"' | '\'') {
                text.push(c);
            } else {
                text.extend(c.escape_debug());
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            write!(text, "\\x{byte:02x}").ok();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RawRecord;

    fn reject(number: u32, data: &[u8]) -> Reject {
        let record = RawRecord {
            data: data.to_vec().into(),
            sequence_number: SequenceNumber::parse(&number.to_string()).unwrap(),
            sub_sequence_number: 0,
            arrived_at_us: 5_000,
            refused: None,
        };
        Reject { record, reason: RejectReason::InvalidJson, detail: "at 3".to_owned() }
    }

    #[test]
    fn the_newest_of_a_reason_are_kept_newest_first() {
        let (mut samples, shard) = (RejectSamples::new(), ShardId::new("a"));
        keep(&mut samples, &shard, &[reject(1, b"{"), reject(2, b"{")]);
        let many: Vec<Reject> = (3..3 + REJECT_SAMPLES_MAX as u32).map(|number| reject(number, b"[")).collect();
        keep(&mut samples, &shard, &many[..many.len() - 1]);
        let numbers = |samples: &RejectSamples| -> Vec<String> {
            samples["invalid_json"].iter().map(|sample| sample.sequence_number.clone()).collect()
        };
        let expected = |newest: usize| -> Vec<String> {
            (0..REJECT_SAMPLES_MAX).map(|back| (newest - back).to_string()).collect()
        };
        assert_eq!(numbers(&samples), expected(1 + REJECT_SAMPLES_MAX));
        keep(&mut samples, &shard, &many);
        assert_eq!(numbers(&samples), expected(2 + REJECT_SAMPLES_MAX));
    }

    #[test]
    fn a_payload_is_cut_and_nothing_in_it_acts() {
        let (mut samples, shard) = (RejectSamples::new(), ShardId::new("a"));
        let nasty = "{\"a\":\"ä\u{202e}\u{1b}[31m\\\n".bytes().chain([0xff]).collect::<Vec<u8>>();
        let long = vec![b'x'; 10 * REJECT_SAMPLE_BYTES_MAX];
        keep(&mut samples, &shard, &[reject(1, &nasty), reject(2, &long)]);
        let kept = &samples["invalid_json"];
        assert_eq!(kept[1].payload, "{\"a\":\"ä\\u{202e}\\u{1b}[31m\\\\\\n\\xff");
        assert_eq!((kept[0].payload.len(), kept[0].payload_bytes), (REJECT_SAMPLE_BYTES_MAX, long.len()));
    }
}
