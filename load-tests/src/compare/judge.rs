//! When a difference is one.

use std::fmt::{self, Display, Formatter};

/// What is smaller is nobody's business, however sure it is.
pub const DIFFERENCE_MIN: f64 = 0.03;

/// So many runs say something about each other.
pub const RUNS_MIN: usize = 3;

/// Parts into which a run is cut: long enough that neighbours have little to do with each other.
const PARTS: usize = 10;

/// Half a notch of a box plot: McGill, Tukey and Larsen, "Variations of Box Plots", 1978.
const NOTCH: f64 = 1.57;

/// What follows from two medians and their noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// B is better, beyond the noise.
    Better,
    /// B is worse, beyond the noise.
    Worse,
    /// No difference that matters, and the noise would not hide one.
    Same,
    /// The noise would hide a difference, or there is one run and nothing is known of the noise.
    Unclear,
}

impl Display for Judgement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::Same => "same",
            Self::Unclear => "unclear",
        })
    }
}

/// One side's figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    /// The median of the runs.
    pub median: f64,
    /// Half its interval; `None` if nothing is known of the noise.
    half: Option<f64>,
}

/// What is made of two sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// From one to the other, as a share of the first.
    pub change: f64,
    /// The larger half of both intervals, as a share of the first median.
    pub noise: Option<f64>,
    /// What follows.
    pub judgement: Judgement,
}

impl Side {
    /// The median of these values, as noisy as those; `None` without a value.
    pub fn of(values: &[f64], noise: Option<&[f64]>) -> Option<Self> {
        let median = quantile(values, 0.5)?;
        let half = noise.filter(|noise| noise.len() >= RUNS_MIN).and_then(|noise| {
            let iqr = quantile(noise, 0.75)? - quantile(noise, 0.25)?;
            Some(NOTCH * iqr / (noise.len() as f64).sqrt())
        });
        Some(Self { median, half })
    }
}

/// Holds two sides against each other.
pub fn judge(before: &Side, after: &Side, more_is_better: bool) -> Judged {
    let base = before.median.abs().max(f64::MIN_POSITIVE);
    let change = (after.median - before.median) / base;
    let Some((a, b)) = before.half.zip(after.half) else {
        return Judged { change, noise: None, judgement: Judgement::Unclear };
    };
    let noise = a.max(b) / base;
    let apart = (after.median - before.median).abs() > a + b;
    let judgement = match (apart && change.abs() >= DIFFERENCE_MIN, (change > 0.0) == more_is_better) {
        (true, true) => Judgement::Better,
        (true, false) => Judgement::Worse,
        (false, _) if change.abs() < DIFFERENCE_MIN && (a + b) / base < DIFFERENCE_MIN => Judgement::Same,
        (false, _) => Judgement::Unclear,
    };
    Judged { change, noise: (before.median != 0.0).then_some(noise), judgement }
}

/// The means of the tenths of a run; fewer of a short one.
pub fn tenths(values: &[f64]) -> Vec<f64> {
    let part = values.len().div_ceil(PARTS).max(1);
    values.chunks(part).map(|part| part.iter().sum::<f64>() / part.len() as f64).collect()
}

/// Between two values it is what lies between them.
fn quantile(values: &[f64], quantile: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = quantile * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgement(before: &[f64], after: &[f64], more_is_better: bool) -> Judgement {
        let side = |values| Side::of(values, Some(values)).unwrap();
        judge(&side(before), &side(after), more_is_better).judgement
    }

    #[test]
    fn what_is_beyond_the_noise_is_better_or_worse_and_the_rest_is_not() {
        let (low, high) = ([100.0, 101.0, 102.0, 101.5, 100.5], [120.0, 121.0, 119.0, 120.5, 121.5]);
        assert_eq!(judgement(&low, &high, false), Judgement::Worse);
        assert_eq!(judgement(&high, &low, false), Judgement::Better);
        assert_eq!(judgement(&low, &high, true), Judgement::Better);
        assert_eq!(judgement(&low, &low.map(|value| value + 1.0), false), Judgement::Same);
        assert_eq!(judgement(&[50.0, 100.0, 150.0], &[60.0, 120.0, 170.0], false), Judgement::Unclear);
        assert_eq!(judgement(&[100.0], &[300.0], false), Judgement::Unclear, "of the noise nothing is known");
        assert_eq!(judgement(&[0.0; 3], &[0.0; 3], false), Judgement::Same);
    }

    #[test]
    fn a_run_is_cut_into_tenths() {
        let seconds: Vec<f64> = (0..60).map(f64::from).collect();
        let tenths = tenths(&seconds);
        assert_eq!((tenths.len(), tenths[0], tenths[9]), (10, 2.5, 56.5));
        assert_eq!(super::tenths(&[7.0, 9.0]), [7.0, 9.0]);
        assert_eq!(super::tenths(&[]), [0.0; 0]);
    }

    #[test]
    fn quantiles_lie_between_values() {
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.75), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
