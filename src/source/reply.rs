//! What of a reply is ours: in order, after our position, and not before our start; and as of when it is.

use std::time::Duration;

use super::error::{Call, Fault, ReadError};
use super::stream::ReadReply;
use crate::checkpoint::Position;
use crate::record::RawRecord;

/// Numbers that do not ascend from the position would be counted twice or make the ledger go back.
pub fn check_order(mut position: Position, records: &[RawRecord]) -> Result<(), ReadError> {
    for record in records {
        if let Position::After(number) = position
            && record.sequence_number <= number
        {
            let what = format!("record {} does not come after {number}", record.sequence_number);
            return Err(ReadError::new(Call::GetRecords, Fault::InvalidReply, what));
        }
        position = Position::After(record.sequence_number);
    }
    Ok(())
}

/// Leaves out the records up to the position, which a reading from the horizon meets again. Whether there were any.
pub fn skip_read(position: Position, reply: &mut ReadReply) -> bool {
    let Position::After(number) = position else { return false };
    let read = reply.records.iter().take_while(|record| record.sequence_number <= number).count();
    let skipped = reply.records.drain(..read);
    reply.bytes -= skipped.map(|record| record.data.len() as u64).sum::<u64>();
    if read > 0 {
        RawRecord::detach(&mut reply.records);
    }
    read > 0
}

/// Some endpoints answer AT_TIMESTAMP with older records when the shard has no newer ones.
pub fn skip_earlier(position: Position, records: &mut Vec<RawRecord>) {
    if let Position::At(start_ms) = position {
        let earlier = records.iter().take_while(|record| record.arrived_at_us / 1000 < start_ms).count();
        records.drain(..earlier);
        if earlier > 0 {
            RawRecord::detach(records);
        }
    }
}

/// An answer is dated when it leaves, which may be long after Kinesis has looked: only what had come by the time of the
/// question is sure to be in it. In whole seconds, as dates are: what is less is a window's grace to cover.
pub fn date_back(reply: &mut ReadReply, took: Duration) {
    let took_ms = i64::try_from(took.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000);
    reply.date_ms = reply.date_ms.map(|date_ms| date_ms.saturating_sub(took_ms));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::checkpoint::SequenceNumber;

    #[test]
    fn records_that_are_left_out_are_not_held_by_those_behind_them() {
        let read = Bytes::from(b"onetwothree".to_vec());
        let record = |number: i64, data: Bytes| RawRecord {
            data,
            sequence_number: SequenceNumber::parse(&number.to_string()).unwrap(),
            sub_sequence_number: 0,
            arrived_at_us: number * 1_000,
            refused: None,
        };
        let records = vec![record(1, read.slice(..3)), record(2, read.slice(3..6)), record(3, read.slice(6..))];
        let mut later = records.clone();
        skip_earlier(Position::At(2), &mut later);
        let (next, children) = (None, Vec::new());
        let mut reply = ReadReply { records, bytes: 11, next, behind_ms: 0, children, date_ms: None };
        assert!(skip_read(Position::After(later[0].sequence_number), &mut reply));
        assert_eq!(later.iter().map(|record| &*record.data).collect::<Vec<_>>(), [b"two".as_slice(), b"three"]);
        assert_eq!((&*reply.records[0].data, reply.records.len(), reply.bytes), (b"three".as_slice(), 1, 5));
        assert!(read.is_unique());
    }

    #[test]
    fn an_answer_that_was_long_on_its_way_is_as_old_as_its_question() {
        let (records, children) = (Vec::new(), Vec::new());
        let mut reply = ReadReply { records, bytes: 0, next: None, behind_ms: 0, children, date_ms: None };
        date_back(&mut reply, Duration::from_secs(9));
        assert_eq!(reply.date_ms, None);
        for (took, date_ms) in [(999, 60_000), (1_000, 59_000), (9_500, 51_000)] {
            reply.date_ms = Some(60_000);
            date_back(&mut reply, Duration::from_millis(took));
            assert_eq!(reply.date_ms, Some(date_ms));
        }
    }
}
