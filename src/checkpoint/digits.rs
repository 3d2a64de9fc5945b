//! Sequence numbers as text, one after the other.

use super::{LIMB_DIGITS, LIMBS, SequenceNumber};

/// Writes sequence numbers as decimal digits, without leading zeros. Every row has one, and most of its digits are those
/// of the row before: only what comes after them is written again.
#[derive(Debug)]
pub struct SequenceDigits {
    number: SequenceNumber,
    text: String,
}

impl Default for SequenceDigits {
    fn default() -> Self {
        Self { number: SequenceNumber([0; LIMBS]), text: "0".to_owned() }
    }
}

impl SequenceDigits {
    /// The number's digits.
    pub fn of(&mut self, number: SequenceNumber) -> &str {
        let before = std::mem::replace(&mut self.number, number).0;
        let [limbs @ .., last] = number.0;
        let [limbs_before @ .., last_before] = before;
        if limbs != limbs_before || self.text.len() <= LIMB_DIGITS {
            self.write(number);
        } else if last != last_before {
            self.text.truncate(self.text.len() - LIMB_DIGITS);
            self.text.push_str(digits_of(last, &mut [0; LIMB_DIGITS]));
        }
        &self.text
    }

    fn write(&mut self, number: SequenceNumber) {
        self.text.clear();
        for limb in number.0 {
            let mut digits = [0; LIMB_DIGITS];
            let digits = digits_of(limb, &mut digits);
            self.text.push_str(if self.text.is_empty() { digits.trim_start_matches('0') } else { digits });
        }
        if self.text.is_empty() {
            self.text.push('0');
        }
    }
}

/// All digits of a limb.
fn digits_of(limb: i64, digits: &mut [u8; LIMB_DIGITS]) -> &str {
    const EIGHT: u64 = 100_000_000;
    let limb = limb as u64;
    digits[..2].copy_from_slice(&digits_of_eight(limb / EIGHT / EIGHT)[6..]);
    digits[2..10].copy_from_slice(&digits_of_eight(limb / EIGHT % EIGHT));
    digits[10..].copy_from_slice(&digits_of_eight(limb % EIGHT));
    std::str::from_utf8(digits).unwrap_or_default()
}

/// The value of eight digits: neighbours are joined to pairs, pairs to fours, and these to the whole, all at a time.
pub(super) fn eight(digits: [u8; 8]) -> i64 {
    let ones = u64::from_le_bytes(digits) & 0x0f0f_0f0f_0f0f_0f0f;
    let tens = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let hundreds = (tens * 100 + (tens >> 16)) & 0x0000_ffff_0000_ffff;
    ((hundreds * 10_000 + (hundreds >> 32)) & 0xffff_ffff) as i64
}

/// The eight digits of a value, with zeros before it: it is cut into fours, these into pairs, and these into ones, all at a
/// time. Each division is a multiplication and a shift, exact for all values that there are.
fn digits_of_eight(value: u64) -> [u8; 8] {
    let fours = (value / 10_000) | ((value % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    let ones = pairs - tens * 10;
    (0x3030_3030_3030_3030 | tens | (ones << 8)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn eight_digits_are_those_of_every_value_below_ten_thousand_in_both_halves() {
        for value in 0..10_000 {
            for value in [value, value * 10_000, value * 10_000 + 9_999, 99_990_000 + value] {
                let digits = digits_of_eight(value);
                assert_eq!(std::str::from_utf8(&digits), Ok(format!("{value:08}").as_str()));
                assert_eq!(eight(digits), value as i64);
            }
        }
    }

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
