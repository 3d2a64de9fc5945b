//! What of a reply is ours: in order, after our position, and not before our start.

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
    read > 0
}

/// Some endpoints answer AT_TIMESTAMP with older records when the shard has no newer ones.
pub fn skip_earlier(position: Position, records: &mut Vec<RawRecord>) {
    if let Position::At(start_ms) = position {
        let earlier = records.iter().take_while(|record| record.arrived_at_us / 1000 < start_ms).count();
        records.drain(..earlier);
    }
}
