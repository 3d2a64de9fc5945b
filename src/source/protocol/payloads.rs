//! The payloads of a read, one behind the other in pieces of memory that reads of any size can share.

use base64_simd::STANDARD;
use bytes::Bytes;

use super::spare::Spare;
use crate::limits::{READ_BYTES_MAX, SPARE_PIECE_BYTES};
use crate::record::RawRecord;

/// A payload that needs more has memory of its own: what is left at the end of a piece is no more than this.
const ALONE_BYTES: usize = SPARE_PIECE_BYTES / 8;

/// Payloads in the order of their records.
#[derive(Debug)]
pub(super) struct Payloads<'a> {
    spare: &'a Spare,
    full: Vec<Vec<u8>>,
    piece: Vec<u8>,
    /// Bytes of each record's payload in a piece.
    lengths: Vec<usize>,
    /// Records whose payloads are in none, by number.
    alone: Vec<(usize, Vec<u8>)>,
    /// Bytes that are still expected, no more than Kinesis sends.
    expected: usize,
}

impl<'a> Payloads<'a> {
    /// None yet, and all of them together have about so many bytes.
    pub fn with_room(spare: &'a Spare, bytes: usize) -> Self {
        let expected = bytes.min(READ_BYTES_MAX as usize);
        Self { spare, full: Vec::new(), piece: Vec::new(), lengths: Vec::new(), alone: Vec::new(), expected }
    }

    /// Whatever is put from now on is the next record's.
    pub fn begin_record(&mut self) {
        self.lengths.push(0);
    }

    /// Puts the record's payload, which is told in Base64, in the place of any before; `None` if it is no Base64.
    pub fn put(&mut self, encoded: &[u8]) -> Option<()> {
        let record = self.lengths.len().checked_sub(1)?;
        self.piece.truncate(self.piece.len() - std::mem::take(&mut self.lengths[record]));
        self.alone.pop_if(|(number, _)| *number == record);
        let room = STANDARD.estimated_decoded_length(encoded.len());
        self.expected = self.expected.saturating_sub(room);
        if room > ALONE_BYTES {
            let mut payload = Vec::with_capacity(room);
            STANDARD.decode_append(encoded, &mut payload).ok()?;
            self.alone.push((record, payload));
            return Some(());
        }
        if self.piece.capacity() - self.piece.len() < room {
            let piece = self.spare.take(SPARE_PIECE_BYTES.min(room + self.expected));
            self.full.push(std::mem::replace(&mut self.piece, piece));
        }
        let before = self.piece.len();
        STANDARD.decode_append(encoded, &mut self.piece).ok()?;
        self.lengths[record] = self.piece.len() - before;
        Some(())
    }

    /// Gives each record its payload.
    pub fn hand_to(self, records: &mut [RawRecord]) {
        let mut pieces = self.full.into_iter().chain([self.piece]).map(|piece| self.spare.lend(piece));
        let mut piece = Bytes::new();
        for (record, length) in records.iter_mut().zip(self.lengths) {
            while piece.len() < length
                && let Some(next) = pieces.next()
            {
                piece = next;
            }
            record.data = piece.split_to(length);
        }
        for (number, payload) in self.alone {
            records[number].data = Bytes::from(payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::SequenceNumber;

    fn records(count: usize) -> Vec<RawRecord> {
        let sequence_number = SequenceNumber::from_limbs([0, 0, 0, 1]).unwrap();
        let record =
            RawRecord { data: Bytes::new(), sequence_number, sub_sequence_number: 0, arrived_at_us: 0, refused: None };
        vec![record; count]
    }

    #[test]
    fn each_record_has_its_own_whatever_the_sizes_and_pieces_are_spare_afterwards() {
        let sizes = [0, 1, 300_000, 60_000, 0, 900_000, 7, 65_537, 60_000, 0].repeat(6);
        let data: Vec<Vec<u8>> = sizes.iter().zip(0..).map(|(size, byte)| vec![byte; *size]).collect();
        let spare = Spare::pieces();
        // What is put twice is expected twice.
        let mut payloads = Payloads::with_room(&spare, sizes.iter().sum::<usize>() + 6 * 200_009);
        for data in &data {
            payloads.begin_record();
            for before in [200_000, 9].into_iter().filter(|_| data.len() == 7) {
                payloads.put(STANDARD.encode_to_string(vec![9; before]).as_bytes()).unwrap();
            }
            payloads.put(STANDARD.encode_to_string(data).as_bytes()).unwrap();
        }
        payloads.begin_record(); // without a payload
        let pieces: Vec<usize> = payloads.full.iter().chain([&payloads.piece]).map(Vec::capacity).collect();
        assert_eq!(pieces, [0, SPARE_PIECE_BYTES, SPARE_PIECE_BYTES]);
        assert!(payloads.alone.iter().all(|(_, payload)| payload.capacity() < payload.len() + 3));
        let mut records = records(sizes.len() + 1);
        payloads.hand_to(&mut records);
        assert!(records.iter().zip(data.iter().chain([&Vec::new()])).all(|(record, data)| record.data == data));
        let place = records[1].data.as_ptr();
        drop(records);
        let again: Vec<Vec<u8>> = pieces.iter().map(|_| spare.take(SPARE_PIECE_BYTES)).collect();
        assert!(again.iter().any(|piece| piece.as_ptr() == place));
    }

    #[test]
    fn no_more_is_taken_than_is_expected_or_kinesis_sends() {
        let spare = Spare::pieces();
        let mut few = Payloads::with_room(&spare, 100);
        few.begin_record();
        few.put(b"AAAA").unwrap();
        assert_eq!(few.piece.capacity(), 100);
        assert!(few.put(b"no Base64").is_none());
        few.put(b"AAAAAAAA").unwrap();
        assert_eq!((few.piece.len(), few.lengths), (6, vec![6]));
        assert_eq!(Payloads::with_room(&spare, usize::MAX).expected, READ_BYTES_MAX as usize);
    }
}
