//! What a replay of a time range takes of a shard, and when there is no more of it to come.
//!
//! Taken is what arrived in the range, to the millisecond. Arrivals may go backwards a little within a shard, so one
//! record beyond the range says nothing yet: a shard is done once a record arrived [`PATIENCE_MS`] beyond it, or once
//! Kinesis says, with a clock that far beyond it, that there is nothing more.

use super::stream::ReadReply;
use crate::checkpoint::TimeRange;

/// How far arrivals within one shard may go backwards. They are the clocks of the machines that accepted the records.
const PATIENCE_MS: i64 = 5_000;

/// Whether nothing more of the range can be in the shard, by this reply to a read of it. `now_ms` stands for
/// Kinesis's clock if the reply does not tell it.
pub(super) fn is_passed(range: TimeRange, reply: &ReadReply, now_ms: i64) -> bool {
    let beyond_ms = range.to_ms.saturating_add(PATIENCE_MS);
    let caught_up = reply.records.is_empty() && reply.behind_ms == 0;
    let beyond = reply.records.iter().any(|record| record.arrived_at_us.div_euclid(1000) >= beyond_ms);
    beyond || (caught_up && reply.date_ms.unwrap_or(now_ms) >= beyond_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::SequenceNumber;
    use crate::record::RawRecord;

    const RANGE: TimeRange = TimeRange { from_ms: 10_000, to_ms: 20_000 };

    fn reply(arrived_ms: &[i64], behind_ms: i64, date_ms: Option<i64>) -> ReadReply {
        let record = |arrived_ms: &i64| RawRecord {
            data: bytes::Bytes::new(),
            sequence_number: SequenceNumber::from_count(1),
            sub_sequence_number: 0,
            arrived_at_us: arrived_ms * 1000,
            refused: None,
        };
        let records = arrived_ms.iter().map(record).collect();
        ReadReply { records, bytes: 0, next: Some("x".to_owned()), behind_ms, children: Vec::new(), date_ms }
    }

    #[test]
    fn a_record_just_beyond_the_range_may_be_followed_by_one_of_it() {
        assert!(!is_passed(RANGE, &reply(&[20_000, 24_999], 0, Some(90_000)), 90_000));
        assert!(is_passed(RANGE, &reply(&[25_000, 19_000], 0, Some(90_000)), 90_000));
    }

    #[test]
    fn an_empty_reply_ends_the_range_only_at_the_head_and_after_its_time() {
        assert!(!is_passed(RANGE, &reply(&[], 5, Some(90_000)), 90_000), "not at the head");
        assert!(!is_passed(RANGE, &reply(&[], 0, Some(24_000)), 90_000), "by Kinesis's clock, not ours");
        assert!(is_passed(RANGE, &reply(&[], 0, Some(25_000)), 0));
        assert!(is_passed(RANGE, &reply(&[], 0, None), 25_000));
        assert!(!is_passed(RANGE, &reply(&[], 0, None), 24_999));
    }
}
