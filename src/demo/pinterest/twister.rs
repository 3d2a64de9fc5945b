//! CPython's `random`, as far as the course's emulator uses it: the same seed gives the same rows. Every student's
//! stream is the sequence of seed 100, and so is ours.

use rand_mt::Mt;

/// The highest row offset that the course's emulator draws; rows above it are never posted.
const ROW_MAX: u32 = 11_000;

/// CPython's generator after `random.seed(seed)`.
#[derive(Debug, Clone)]
pub(super) struct Twister(Mt);

impl Twister {
    /// `random.seed(seed)` of a non-negative integer: its 32-bit digits, least significant first, are the key.
    pub(super) fn seed(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key = [low, high];
        let digits = if high == 0 { 1 } else { 2 };
        Self(Mt::new_with_key(key.into_iter().take(digits)))
    }

    /// `random.randrange(bound)`: as many top bits as the bound has, again until they are below it.
    fn randrange(&mut self, bound: u32) -> u32 {
        let shift = bound.leading_zeros();
        loop {
            let bits = self.0.next_u32() >> shift;
            if bits < bound {
                return bits;
            }
        }
    }

    /// One round of the course's loop: seconds to sleep (0 or 1), then the row to post.
    pub(super) fn next_action(&mut self) -> (u32, u32) {
        let sleep_s = self.randrange(2);
        (sleep_s, self.randrange(ROW_MAX + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_100_gives_the_documented_sequence() {
        let documented = [
            (0, 7528),
            (1, 2863),
            (1, 5730),
            (1, 8304),
            (0, 8731),
            (0, 1313),
            (1, 4315),
            (0, 10794),
            (0, 5494),
            (0, 5069),
            (0, 2923),
            (0, 3089),
            (1, 6063),
            (1, 3454),
            (1, 7554),
            (1, 6145),
            (0, 10625),
            (0, 2959),
            (0, 9875),
            (1, 2418),
            (0, 3156),
            (0, 428),
            (0, 7343),
            (1, 2074),
            (0, 9979),
            (0, 10138),
            (1, 9672),
            (1, 8653),
            (1, 8887),
            (1, 7922),
        ];
        let mut twister = Twister::seed(100);
        let ours: Vec<(u32, u32)> = (0..documented.len()).map(|_| twister.next_action()).collect();
        assert_eq!(ours, documented);
    }

    #[test]
    fn distinct_rows_after_many_rounds_match_the_reference() {
        let mut twister = Twister::seed(100);
        let mut rows = std::collections::BTreeSet::new();
        let mut distinct_after = |rounds: usize| {
            (0..rounds).for_each(|_| {
                rows.insert(twister.next_action().1);
            });
            rows.len()
        };
        assert_eq!(distinct_after(1_000), 963);
        assert_eq!(distinct_after(4_000), 4_014);
        assert_eq!(distinct_after(25_000), 10_276);
    }

    #[test]
    fn a_seed_beyond_32_bits_is_a_key_of_two_digits() {
        // python3 -c "import random; random.seed(2**40+7); print(random.randrange(2), random.randint(0, 11000))"
        assert_eq!(Twister::seed((1 << 40) + 7).next_action(), (1, 4109));
    }
}
