//! When each record is to be sent: drawn before anything is sent, from the seed alone, so that neither a slow Kinesis
//! nor a slow Pintail can thin out the load that is measured.

use std::time::Duration;

use super::profile::{Arrivals, Burst, Profile};
use crate::seed::Seed;

/// As many steps as a double counts exactly.
const STEPS: u64 = 1 << 53;

/// The times of the records, ascending, from the start of the posting to its end.
#[derive(Debug, Clone)]
pub struct Schedule {
    seed: Seed,
    arrivals: Arrivals,
    rate: f64,
    burst: Option<Burst>,
    at_s: f64,
    end_s: f64,
}

impl Schedule {
    /// The profile's, drawn from this seed.
    pub fn new(profile: &Profile, seed: Seed) -> Self {
        let Profile { arrivals, rate, burst, .. } = *profile;
        Self { seed, arrivals, rate, burst, at_s: 0.0, end_s: profile.duration_ms as f64 / 1e3 }
    }

    fn rate_now(&self) -> f64 {
        let Some(burst) = self.burst else { return self.rate };
        let phase_ms = (self.at_s * 1e3) % burst.every_ms as f64;
        // At the end of each round: a run begins with what is usual.
        let bursts = phase_ms >= (burst.every_ms - burst.for_ms) as f64;
        if bursts { self.rate * burst.factor } else { self.rate }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let gaps = match self.arrivals {
            Arrivals::Steady => 1.0,
            Arrivals::Poisson => -(((self.seed.below(STEPS) + 1) as f64 / STEPS as f64).ln()),
        };
        self.at_s += gaps / self.rate_now();
        (self.at_s < self.end_s).then(|| Duration::from_secs_f64(self.at_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(edit: impl FnOnce(&mut Profile)) -> Profile {
        let mut profile = Profile::load("canonical").unwrap();
        (profile.rate, profile.duration_ms) = (1_000.0, 10_000);
        edit(&mut profile);
        profile
    }

    fn times(profile: &Profile, seed: u64) -> Vec<Duration> {
        Schedule::new(profile, Seed::from(seed)).collect()
    }

    #[test]
    fn a_seed_gives_the_same_times_again_and_another_seed_others() {
        let profile = profile(|_| {});
        assert_eq!(times(&profile, 7), times(&profile, 7));
        assert_ne!(times(&profile, 7), times(&profile, 8));
    }

    #[test]
    fn strangers_come_at_the_rate_and_not_evenly() {
        let times = times(&profile(|_| {}), 7);
        assert!((9_600..10_400).contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted() && times.iter().all(|time| *time < Duration::from_secs(10)));
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        let (short, all) = (gaps.clone().filter(|gap| *gap < Duration::from_micros(100)).count(), times.len());
        // 1 - exp(-0.1) of all gaps are shorter than a tenth of the mean one.
        assert!((all / 13..all / 8).contains(&short), "{short} of {all}");
    }

    #[test]
    fn a_metronome_is_even() {
        let times = times(&profile(|profile| profile.arrivals = Arrivals::Steady), 7);
        assert!((9_998..=10_000).contains(&times.len()), "{}", times.len());
        let (first, second) = (times[0], times[1]);
        assert_eq!((first, second), (Duration::from_millis(1), Duration::from_millis(2)));
    }

    #[test]
    fn a_burst_is_as_long_and_as_high_as_it_was_asked_for() {
        let burst = Some(Burst { factor: 20.0, every_ms: 5_000, for_ms: 1_000 });
        let times = times(&profile(|profile| profile.burst = burst), 7);
        let within = |from, to| {
            let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
            times.iter().filter(|time| (from..to).contains(*time)).count()
        };
        assert!((3_700..4_300).contains(&within(0, 4)), "{}", within(0, 4));
        assert!((19_300..20_700).contains(&within(4, 5)), "{}", within(4, 5));
        assert!((3_700..4_300).contains(&within(5, 9)), "{}", within(5, 9));
    }
}
