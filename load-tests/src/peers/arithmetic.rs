//! Medians and ratios. A machine that others use gives each figure a spread, and only what was done side by side can
//! be compared: so ratios are taken round by round, and the middle one is the answer.

use serde::Serialize;

/// A figure of several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// How many there were.
    pub rounds: usize,
}

impl Spread {
    /// Of these figures; of none there is none.
    pub fn of(figures: &[f64]) -> Option<Self> {
        let median = median(figures)?;
        let (min, max) = figures.iter().fold((median, median), |(min, max), each| (min.min(*each), max.max(*each)));
        Some(Self { median, min, max, rounds: figures.len() })
    }

    /// Of how many times as large one is as the other, in each round in which both are there.
    pub fn of_ratios(these: &[Option<f64>], those: &[Option<f64>]) -> Option<Self> {
        let pairs = these.iter().zip(those).filter_map(|(this, that)| (*this).zip(*that));
        Self::of(&pairs.map(|(this, that)| this / that).collect::<Vec<f64>>())
    }
}

/// The middle one; of an even number the mean of the two.
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_spread_has_its_ends() {
        let spread = Spread::of(&[3.0, 1.0, 2.0, 10.0, 2.5]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, min: 1.0, max: 10.0, rounds: 5 });
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_are_of_the_same_round_and_not_of_medians() {
        // The second round was twice as slow for both: the medians' ratio would be 4.
        let (peer, ours) = ([Some(2.0), Some(8.0), Some(9.0)], [Some(1.0), Some(4.0), Some(1.0)]);
        assert_eq!(Spread::of_ratios(&peer, &ours).unwrap(), Spread { median: 2.0, min: 2.0, max: 9.0, rounds: 3 });
        let failed = [None, Some(8.0), None];
        assert_eq!(Spread::of_ratios(&failed, &ours).unwrap().rounds, 1);
        assert_eq!(Spread::of_ratios(&[None], &[Some(1.0)]), None);
    }
}
