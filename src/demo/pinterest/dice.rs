//! The emulation's own dice: every decision that is not the course's row sequence. Kept apart from the Mersenne
//! Twister, so that asking for dirt never moves that sequence.

/// A deterministic generator (SplitMix64): small, seeded by any two numbers, good enough to choose words with.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    /// Dice for one thing (`what`: a row, a user, a run) of one kind (`salt`).
    pub(super) fn new(salt: u64, what: u64) -> Self {
        let mut dice = Self(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ what.wrapping_mul(0xd1b5_4a32_d192_ed03));
        dice.bits();
        dice
    }

    /// 64 even bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in 0..bound; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u32
    }

    /// A number in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of them; the default of an empty slice.
    pub(super) fn pick<T: Copy + Default>(&mut self, of: &[T]) -> T {
        of.get(self.below(of.len() as u32) as usize).copied().unwrap_or_default()
    }

    /// An index into `weights`, by weight.
    pub(super) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut ticket = self.unit() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            ticket -= weight;
            if ticket < 0.0 {
                return index;
            }
        }
        weights.len().saturating_sub(1)
    }

    /// A value at a random point of a distribution given as (share, value) knots, straight between them.
    pub(super) fn quantile(&mut self, knots: &[(f64, f64)]) -> f64 {
        interpolate(knots, self.unit())
    }

    /// In any order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

/// The value at `share` of a distribution given as ascending (share, value) knots, straight between them.
pub(super) fn interpolate(knots: &[(f64, f64)], share: f64) -> f64 {
    let above = knots.partition_point(|(knot, _)| *knot <= share);
    match (above.checked_sub(1).and_then(|below| knots.get(below)), knots.get(above)) {
        (Some((from, low)), Some((to, high))) => low + (high - low) * (share - from) / (to - from),
        (Some((_, only)), None) | (None, Some((_, only))) => *only,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even_and_within_their_bounds() {
        let mut dice = Dice::new(1, 2);
        let mut seen = [0u32; 10];
        (0..10_000).for_each(|_| seen[dice.below(10) as usize] += 1);
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
        let weighted = (0..10_000).filter(|_| dice.weighted(&[3.0, 1.0]) == 0).count();
        assert!((7_300..7_700).contains(&weighted), "{weighted}");
    }

    #[test]
    fn a_distribution_is_straight_between_its_knots() {
        let knots = [(0.0, 10.0), (0.5, 20.0), (1.0, 40.0)];
        assert_eq!(interpolate(&knots, 0.0), 10.0);
        assert_eq!(interpolate(&knots, 0.75), 30.0);
        assert_eq!(interpolate(&knots, 1.0), 40.0);
    }
}
