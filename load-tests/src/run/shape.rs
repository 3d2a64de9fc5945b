//! Which records are posted: the emulation's, of the streams that were asked for, under other keys and of another size
//! if the profile says so.

use std::sync::Arc;

use anyhow::Context;
use pintail::demo::Kind;
use pintail::demo::pinterest::{Emulation, Population, Posting};

use super::profile::Profile;
use crate::seed::Seed;
use crate::soak::{Filling, Maker};

/// Keys of a skewed profile.
const SKEWED_KEYS: u32 = 1_000;

/// The key of a hot shard's records.
const HOT_KEY: u32 = 0;

const STEPS: u64 = 1 << 32;

/// The endless sequence of a profile's records.
pub struct Records {
    emulation: Emulation,
    waiting: std::vec::IntoIter<Posting>,
    seed: Seed,
    /// Share of each stream's records that is kept: what has the largest part is kept whole.
    kept: [f64; 3],
    hot_share: f64,
    /// For each key, the share of all keys up to it.
    skew: Vec<f64>,
    maker: Option<Maker>,
}

impl Records {
    /// The profile's, drawn from this seed.
    pub fn new(profile: &Profile, seed: Seed) -> anyhow::Result<Self> {
        let bytes = profile.record_bytes.map(usize::try_from).transpose().context("the size of a record")?;
        let largest = profile.streams.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let emulation = Emulation::new(Arc::new(Population::new()), profile.dirt.options(seed.value()));
        Ok(Self {
            emulation,
            waiting: Vec::new().into_iter(),
            kept: profile.streams.map(|part| part / largest),
            hot_share: profile.hot_share,
            skew: zipf(profile.key_skew),
            maker: bytes.map(|bytes| Maker::new(Filling::Text, bytes, seed.clone())),
            seed,
        })
    }

    fn chance(&mut self) -> f64 {
        self.seed.below(STEPS) as f64 / STEPS as f64
    }

    fn is_kept(&mut self, kind: Kind) -> bool {
        let share = self.kept[kind as usize];
        share >= 1.0 || self.chance() < share
    }

    fn key(&mut self, own: u32) -> u32 {
        if self.hot_share > 0.0 && self.chance() < self.hot_share {
            return HOT_KEY;
        }
        if self.skew.is_empty() {
            return own;
        }
        let chance = self.chance();
        self.skew.partition_point(|share| *share <= chance) as u32
    }

    fn next_posting(&mut self) -> Option<Posting> {
        loop {
            if let Some(posting) = self.waiting.next() {
                return Some(posting);
            }
            self.waiting = self.emulation.next()?.postings.into_iter();
        }
    }
}

impl Iterator for Records {
    type Item = anyhow::Result<Posting>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut posting = self.next_posting()?;
            if !self.is_kept(posting.kind) {
                continue;
            }
            posting.key = self.key(posting.key);
            if let Some(maker) = &self.maker {
                match maker.record(posting.kind, posting.ind) {
                    Ok(data) => posting.data = data,
                    Err(error) => return Some(Err(error)),
                }
            }
            return Some(Ok(posting));
        }
    }
}

fn zipf(exponent: f64) -> Vec<f64> {
    if exponent <= 0.0 {
        return Vec::new();
    }
    let weights = || (1..=SKEWED_KEYS).map(|rank| f64::from(rank).powf(-exponent));
    let (total, mut sum): (f64, f64) = (weights().sum(), 0.0);
    let shares = weights().map(|weight| {
        sum += weight / total;
        sum
    });
    shares.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn records(edit: impl FnOnce(&mut Profile)) -> Vec<Posting> {
        let mut profile = Profile::load("canonical").unwrap();
        edit(&mut profile);
        Records::new(&profile, Seed::from(7)).unwrap().take(3_000).collect::<Result<_, _>>().unwrap()
    }

    fn of(records: &[Posting], kind: Kind) -> usize {
        records.iter().filter(|posting| posting.kind == kind).count()
    }

    #[test]
    fn a_seed_gives_the_same_records_again() {
        assert_eq!(records(|_| {}), records(|_| {}));
    }

    #[test]
    fn only_streams_with_a_part_are_posted_to_and_by_their_part() {
        let pins = records(|profile| profile.streams = [1.0, 0.0, 0.0]);
        assert_eq!(of(&pins, Kind::Pin), 3_000);
        let mixed = records(|profile| profile.streams = [1.0, 0.5, 0.0]);
        assert!((900..1_100).contains(&of(&mixed, Kind::Geo)) && of(&mixed, Kind::User) == 0);
    }

    #[test]
    fn keys_are_as_hot_and_as_skewed_as_they_were_asked_for() {
        let hot = records(|profile| profile.hot_share = 0.8);
        let share = hot.iter().filter(|posting| posting.key == HOT_KEY).count();
        assert!((2_300..2_500).contains(&share), "{share}");
        let mut by_key: BTreeMap<u32, usize> = BTreeMap::new();
        for posting in records(|profile| profile.key_skew = 1.2) {
            *by_key.entry(posting.key).or_default() += 1;
        }
        let (first, second) = (by_key[&0], by_key[&1]);
        assert!(first > second && second > by_key[&9] && first > 500, "{first} {second}");
    }

    #[test]
    fn records_are_as_large_as_they_were_asked_for() {
        let huge = records(|profile| profile.record_bytes = Some(50_000));
        assert!(huge.iter().all(|posting| (49_990..=50_000).contains(&posting.data.len())));
    }
}
