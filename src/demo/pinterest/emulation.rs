//! The course's posting loop: sleep, draw a row, post its pin, its geo and its user record. The row sequence is the
//! stock one of the seed, whatever dirt is asked for on top.

use std::collections::VecDeque;
use std::sync::Arc;

use super::damage::{damage, garbage};
use super::dice::Dice;
use super::population::Population;
use super::rows::TimestampForm;
use super::twister::Twister;

const SALT_DIRT: u64 = 8;

/// A re-posted action is one of the last few, as after a restart or a retry.
const RECENT_ACTIONS_MAX: usize = 64;

/// Of the actions that were cut short: how many lost geo and user (the rest lost the user only).
const ORPHANS_WITHOUT_GEO: f64 = 0.85;

/// Forms of a timestamp, by how many emulators write them.
const TIMESTAMP_FORMS: [(TimestampForm, f64); 7] = [
    (TimestampForm::Iso, 0.55),
    (TimestampForm::Space, 0.38),
    (TimestampForm::Colons, 0.02),
    (TimestampForm::American, 0.02),
    (TimestampForm::DateNumber, 0.01),
    (TimestampForm::DateText, 0.01),
    (TimestampForm::Null, 0.01),
];

/// Which of the three records of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Kind {
    /// The post itself.
    #[default]
    Pin,
    /// Where and when.
    Geo,
    /// Who.
    User,
}

impl Kind {
    /// In the order in which an action posts them.
    pub const ALL: [Self; 3] = [Self::Pin, Self::Geo, Self::User];

    /// The stream's name in the demo.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Geo => "geo",
            Self::User => "user",
        }
    }

    pub(super) fn others(self) -> [Self; 2] {
        match self {
            Self::Pin => [Self::Geo, Self::User],
            Self::Geo => [Self::Pin, Self::User],
            Self::User => [Self::Pin, Self::Geo],
        }
    }
}

/// One record to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// Which stream gets it.
    pub kind: Kind,
    /// The row's number.
    pub ind: u32,
    /// As text it is the partition key: the row's number, so that one action's records land side by side.
    pub key: u32,
    /// The payload.
    pub data: Vec<u8>,
}

/// One round of the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Seconds that the course's emulator sleeps before it: 0 or 1.
    pub sleep_s: u32,
    /// The row drawn.
    pub row: u32,
    /// What is posted, in order.
    pub postings: Vec<Posting>,
}

/// How much dirt; every rate is a share in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmulationOptions {
    /// CPython's `random.seed`: 100 gives the documented sequence.
    pub seed: u64,
    /// Of the actions: followed by the same bytes of an earlier action.
    pub duplicates: f64,
    /// Of the actions: cut short, so that the user or the geo and user records are missing.
    pub orphans: f64,
    /// Of the records: accompanied by a payload that is no record.
    pub garbage: f64,
    /// Of the records: wrapped, compressed, renamed or sent to the wrong stream.
    pub damage: f64,
    /// All forms of a timestamp, or ISO only.
    pub mixed_timestamps: bool,
}

impl Default for EmulationOptions {
    /// The stock sequence with the dirt of the real streams.
    fn default() -> Self {
        Self { seed: 100, duplicates: 0.01, orphans: 0.027, garbage: 0.005, damage: 0.01, mixed_timestamps: true }
    }
}

impl EmulationOptions {
    /// The rows as they are, three records each.
    pub fn clean(seed: u64) -> Self {
        Self { seed, duplicates: 0.0, orphans: 0.0, garbage: 0.0, damage: 0.0, mixed_timestamps: false }
    }
}

/// The endless loop, one [`Action`] at a time.
#[derive(Debug)]
pub struct Emulation {
    population: Arc<Population>,
    options: EmulationOptions,
    twister: Twister,
    dice: Dice,
    recent: VecDeque<Vec<Posting>>,
}

impl Emulation {
    /// The loop from its start.
    pub fn new(population: Arc<Population>, options: EmulationOptions) -> Self {
        let twister = Twister::seed(options.seed);
        let dice = Dice::new(SALT_DIRT, options.seed);
        Self { population, options, twister, dice, recent: VecDeque::new() }
    }

    fn postings(&mut self, row: u32) -> Vec<Posting> {
        let kinds = match self.dice.chance(self.options.orphans) {
            false => 3,
            true if self.dice.chance(ORPHANS_WITHOUT_GEO) => 1,
            true => 2,
        };
        let mut postings = Vec::with_capacity(3);
        for kind in Kind::ALL.into_iter().take(kinds) {
            let mut posting = Posting { kind, ind: row, key: row, data: self.record(kind, row) };
            if self.dice.chance(self.options.garbage) {
                let data = garbage(&mut self.dice, kind, &posting.data);
                postings.push(Posting { kind, ind: row, key: row, data });
            }
            if self.dice.chance(self.options.damage) {
                damage(&mut self.dice, &mut posting);
            }
            postings.push(posting);
        }
        postings
    }

    fn record(&mut self, kind: Kind, row: u32) -> Vec<u8> {
        let form = match self.options.mixed_timestamps {
            true => TIMESTAMP_FORMS[self.dice.weighted(&TIMESTAMP_FORMS.map(|(_, weight)| weight))].0,
            false => TimestampForm::Iso,
        };
        let json = match kind {
            Kind::Pin => self.population.pin(row),
            Kind::Geo => self.population.geo(row, form),
            Kind::User => self.population.user(row, form),
        };
        json.into_bytes()
    }

    fn repost(&mut self) -> Vec<Posting> {
        let earlier = self.dice.below(self.recent.len() as u32) as usize;
        self.recent.get(earlier).cloned().unwrap_or_default()
    }

    fn remember(&mut self, postings: &[Posting]) {
        if self.recent.len() == RECENT_ACTIONS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(postings.to_vec());
    }
}

impl Iterator for Emulation {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        let (sleep_s, row) = self.twister.next_action();
        let mut postings = self.postings(row);
        if self.options.duplicates > 0.0 {
            self.remember(&postings);
            if self.dice.chance(self.options.duplicates) {
                postings.extend(self.repost());
            }
        }
        Some(Action { sleep_s, row, postings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emulation(options: EmulationOptions) -> Emulation {
        Emulation::new(Arc::new(Population::new()), options)
    }

    #[test]
    fn a_clean_run_posts_the_three_records_of_the_stock_rows() {
        let actions: Vec<Action> = emulation(EmulationOptions::clean(100)).take(3).collect();
        assert_eq!(
            actions.iter().map(|action| (action.sleep_s, action.row)).collect::<Vec<_>>(),
            [(0, 7528), (1, 2863), (1, 5730)]
        );
        let population = Population::new();
        let first: Vec<_> = actions[0].postings.iter().map(|posting| (posting.kind, posting.data.clone())).collect();
        assert_eq!(
            first,
            [
                (Kind::Pin, population.pin(7528).into_bytes()),
                (Kind::Geo, population.geo(7528, TimestampForm::Iso).into_bytes()),
                (Kind::User, population.user(7528, TimestampForm::Iso).into_bytes()),
            ]
        );
    }

    #[test]
    fn dirt_does_not_move_the_row_sequence() {
        let clean = emulation(EmulationOptions::clean(100)).take(500).map(|action| (action.sleep_s, action.row));
        let very = EmulationOptions { duplicates: 0.5, orphans: 0.5, garbage: 0.5, damage: 0.5, ..Default::default() };
        let dirty = emulation(very).take(500).map(|action| (action.sleep_s, action.row));
        assert_eq!(clean.collect::<Vec<_>>(), dirty.collect::<Vec<_>>());
    }

    #[test]
    fn the_same_options_give_the_same_bytes() {
        let run = || emulation(EmulationOptions::default()).take(300).collect::<Vec<_>>();
        assert_eq!(run(), run());
    }

    #[test]
    fn rates_are_what_was_asked_for() {
        let count = |options: EmulationOptions| {
            let postings = emulation(options).take(2_000).flat_map(|action| action.postings);
            postings.fold([0usize; 3], |mut counts, posting| {
                counts[posting.kind as usize] += 1;
                counts
            })
        };
        let clean = EmulationOptions::clean(100);
        assert_eq!(count(clean), [2_000; 3]);
        let [pins, geos, users] = count(EmulationOptions { orphans: 0.2, ..clean });
        assert!(pins == 2_000 && (1_590..1_730).contains(&geos) && (1_530..1_670).contains(&users), "{geos} {users}");
        let garbage: usize = count(EmulationOptions { garbage: 0.1, ..clean }).iter().sum();
        assert!((6_500..6_700).contains(&garbage), "{garbage}");
        let duplicates: usize = count(EmulationOptions { duplicates: 0.1, ..clean }).iter().sum();
        assert!((6_480..6_720).contains(&duplicates), "{duplicates}");
        assert_eq!(count(EmulationOptions { damage: 0.1, ..clean }).iter().sum::<usize>(), 6_000);
    }

    #[test]
    fn damaged_records_are_told_apart_from_clean_ones() {
        let all = EmulationOptions { damage: 1.0, ..EmulationOptions::clean(100) };
        let population = Population::new();
        for action in emulation(all).take(300) {
            for posting in action.postings.iter().filter(|posting| posting.kind == Kind::Pin) {
                let untouched = posting.data == population.pin(action.row).into_bytes();
                assert!(!untouched, "row {} arrived as it was", action.row);
            }
        }
    }
}
