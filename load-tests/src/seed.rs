//! Where a test's chances come from.

use std::hash::{BuildHasher, RandomState};

const VARIABLE: &str = "LOAD_TESTS_SEED";

/// A small generator (SplitMix64). A fresh seed each time, so that runs differ; printed, so that a failure says which.
#[derive(Debug, Clone)]
pub struct Seed {
    value: u64,
    state: u64,
}

impl Seed {
    /// From the environment, or a fresh one. Printed at once: the test runner shows it if the test fails.
    pub fn announced() -> Self {
        let given: Option<u64> = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
        let seed = given.map_or_else(Self::fresh, Self::from);
        let value = seed.value;
        println!("seed {value}: {VARIABLE}={value} posts the same records and draws the same numbers again");
        seed
    }

    /// A fresh one.
    pub fn fresh() -> Self {
        Self::from(RandomState::new().hash_one(VARIABLE) % 1_000_000)
    }

    /// The seed itself, for generators of their own.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// The next number, in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

impl From<u64> for Seed {
    fn from(value: u64) -> Self {
        Self { value, state: value }
    }
}
