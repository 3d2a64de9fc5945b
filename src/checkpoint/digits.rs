//! Sequence numbers as text, one after the other.

use super::{LIMB_DIGITS, LIMBS, SequenceNumber};
use crate::limits::SEQUENCE_DIGITS_MAX;

/// Writes sequence numbers as decimal digits, without leading zeros. Every row has one, and most of its digits are those
/// of the row before: only limbs that differ are written again.
#[derive(Debug)]
pub struct SequenceDigits {
    number: SequenceNumber,
    padded: [u8; SEQUENCE_DIGITS_MAX],
}

impl Default for SequenceDigits {
    fn default() -> Self {
        Self { number: SequenceNumber([0; LIMBS]), padded: [b'0'; SEQUENCE_DIGITS_MAX] }
    }
}

impl SequenceDigits {
    /// The number's digits.
    pub fn of(&mut self, number: SequenceNumber) -> &str {
        const HALF: i64 = 1_000_000_000;
        let before = std::mem::replace(&mut self.number, number);
        let limbs = number.0.iter().zip(before.0).zip(self.padded.chunks_exact_mut(LIMB_DIGITS));
        for ((limb, _), digits) in limbs.filter(|((limb, before), _)| *limb != before) {
            let (high, low) = digits.split_at_mut(LIMB_DIGITS / 2);
            write_digits(high, (limb / HALF) as u32);
            write_digits(low, (limb % HALF) as u32);
        }
        let begin = self.padded.iter().position(|digit| *digit != b'0').unwrap_or(SEQUENCE_DIGITS_MAX - 1);
        // Digits are text.
        std::str::from_utf8(&self.padded[begin..]).unwrap_or_default()
    }
}

/// The value of eight digits: neighbours are joined to pairs, pairs to fours, and these to the whole, all at a time.
pub(super) fn eight(digits: [u8; 8]) -> i64 {
    let ones = u64::from_le_bytes(digits) & 0x0f0f_0f0f_0f0f_0f0f;
    let tens = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let hundreds = (tens * 100 + (tens >> 16)) & 0x0000_ffff_0000_ffff;
    ((hundreds * 10_000 + (hundreds >> 32)) & 0xffff_ffff) as i64
}

/// Right-aligned, with zeros before it.
fn write_digits(digits: &mut [u8], mut value: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_are_the_number_whatever_was_written_before(
            texts in prop::collection::vec("0|[1-9][0-9]{0,71}|4959033827149025660855969[0-9]{31}", 1..8),
        ) {
            let mut digits = SequenceDigits::default();
            for text in texts {
                prop_assert_eq!(digits.of(SequenceNumber::parse(&text).unwrap()), text);
            }
        }
    }
}
