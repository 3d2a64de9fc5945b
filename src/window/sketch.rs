//! The measures that are estimates: sketches of Apache DataSketches, whose bytes other engines read and merge.
//!
//! A sketch exists from its first value on: a million keys without one cost nothing, and the early forms of all three
//! are small. What is said of them:
//!
//! - *Distinct* is read by the composite estimator, which depends on nothing but the registers; those are the same
//!   for the same values in any order and any split. So it is one number everywhere.
//! - *Quantiles* are exact as long as the sketch keeps every value. Beyond, it tosses a coin for each compaction, so
//!   two runs over the same values agree within the stated error and not in every digit.
//! - *Top* is exact as long as there is a slot for every value; beyond, `error` says by how much a count may be too
//!   large.

use std::cmp::Reverse;

use datasketches::common::SearchCriteria;
use datasketches::error::Error;
use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use datasketches::hash::value::{canonical_float, raw_bytes};
use datasketches::hll::{Coupon, HllSketch, HllType, HllUnion};
use datasketches::kll::{KllFloat, KllSketch};

use crate::contract::window::QUANTILES;
use crate::limits::{DISTINCT_LG_REGISTERS, QUANTILES_K, TOP_SLOTS_EACH, TOP_SLOTS_MIN, TOP_TEXT_BYTES_MAX};

/// Bytes of an HLL sketch before its registers, once it has them.
const HLL_PREAMBLE_BYTES: usize = 40;

/// Registers of an HLL sketch are below this: six bits.
const REGISTER_END: u8 = 64;

/// Bytes that are not a sketch of ours.
#[derive(Debug, thiserror::Error)]
pub enum SketchError {
    /// Not the format.
    #[error("{0}")]
    Unreadable(#[from] Error),
    /// No hash has so many leading zeros.
    #[error("it has a register {0}, and a register is below {REGISTER_END}")]
    Register(u8),
    /// Of another size than every sketch of this measure has.
    #[error("it was made with {name} = {found}, ours with {expected}")]
    Foreign {
        /// The parameter.
        name: &'static str,
        /// What the bytes say.
        found: usize,
        /// What ours say.
        expected: usize,
    },
}

fn expect(name: &'static str, found: usize, expected: usize) -> Result<(), SketchError> {
    if found == expected { Ok(()) } else { Err(SketchError::Foreign { name, found, expected }) }
}

// === Distinct ===

/// How many different values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distinct(Option<Box<HllSketch>>);

impl Distinct {
    /// Counts a text. The empty one is no value, as in the other implementations.
    pub fn observe_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.observe(Coupon::from_value(raw_bytes::from_str(text)));
        }
    }

    /// Counts an integer, a timestamp (us), a date (days) or a boolean (0 or 1), each as 64 bits.
    pub fn observe_integer(&mut self, value: i64) {
        self.observe(Coupon::from_value(value));
    }

    /// Counts a double; -0.0 is 0.0. NaN and infinities are no values.
    pub fn observe_double(&mut self, value: f64) {
        if value.is_finite() {
            self.observe(Coupon::from_value(canonical_float::from_f64(value)));
        }
    }

    fn observe(&mut self, coupon: Coupon) {
        self.0.get_or_insert_with(|| Box::new(empty_hll())).update_with_coupon(coupon);
    }

    /// Adds another's values.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (Some(mine), Some(theirs)) => {
                let mut union = empty_union();
                union.update(mine);
                union.update(theirs);
                **mine = union.to_sketch(HllType::Hll8);
            }
        }
    }

    /// The estimate, rounded.
    pub fn count(&self) -> i64 {
        self.0.as_ref().map_or(0, |sketch| sketch.composite_estimate().round() as i64)
    }

    /// The sketch; `None` without values.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        self.0.as_ref().map(|sketch| sketch.serialize())
    }

    /// The inverse of [`Self::to_bytes`].
    pub fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, SketchError> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let sketch = HllSketch::deserialize(bytes)?;
        expect("lg_k", sketch.lg_config_k().into(), DISTINCT_LG_REGISTERS.into())?;
        expect("the type", sketch.target_type() as usize, HllType::Hll8 as usize)?;
        // The library believes them, and an estimate shifts by them.
        let registers = bytes.get(HLL_PREAMBLE_BYTES..).filter(|_| bytes.get(7).is_some_and(|mode| mode & 3 == 2));
        match registers.into_iter().flatten().find(|register| **register >= REGISTER_END) {
            Some(register) => Err(SketchError::Register(*register)),
            None => Ok(Self(Some(Box::new(sketch)))),
        }
    }

    /// Estimated bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |sketch| size_of::<HllSketch>() + sketch.estimated_size())
    }
}

fn empty_hll() -> HllSketch {
    HllSketch::new(DISTINCT_LG_REGISTERS, HllType::Hll8)
        .unwrap_or_else(|error| unreachable!("{DISTINCT_LG_REGISTERS} is between 4 and 21: {error}"))
}

fn empty_union() -> HllUnion {
    HllUnion::new(DISTINCT_LG_REGISTERS)
        .unwrap_or_else(|error| unreachable!("{DISTINCT_LG_REGISTERS} is between 4 and 21: {error}"))
}

// === Quantiles ===

/// The distribution of numbers.
#[derive(Debug, Clone, Default)]
pub struct Quantiles(Option<Box<KllSketch<KllFloat<f64>>>>);

impl Quantiles {
    /// Counts a number. NaN and infinities are no values.
    pub fn observe(&mut self, value: f64) {
        let Ok(finite) = KllFloat::<f64>::new(value) else { return };
        if value.is_finite() {
            self.0.get_or_insert_with(|| Box::new(empty_kll())).update(finite);
        }
    }

    /// Adds another's values.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (Some(mine), Some(theirs)) => mine.merge(theirs).unwrap_or_else(|error| {
                unreachable!("both have the same `m`, and fewer than 2^64 values were ever read: {error}")
            }),
        }
    }

    /// One value for each of [`QUANTILES`]; `None` without values. Each is a value that was seen: the smallest of
    /// which at least that part of all is no larger.
    pub fn values(&self) -> Option<[f64; QUANTILES.len()]> {
        let sketch = self.0.as_ref()?;
        let ranks = QUANTILES.map(|(rank, _)| rank);
        let values = sketch.quantiles(&ranks, SearchCriteria::Inclusive).ok().flatten()?;
        values.into_iter().map(KllFloat::into_inner).collect::<Vec<f64>>().try_into().ok()
    }

    /// The sketch; `None` without values.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        self.0.as_ref().map(|sketch| sketch.serialize())
    }

    /// The inverse of [`Self::to_bytes`].
    pub fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, SketchError> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let sketch = KllSketch::<KllFloat<f64>>::deserialize(bytes)?;
        expect("k", sketch.k().into(), QUANTILES_K.into())?;
        Ok(Self(Some(Box::new(sketch))))
    }

    /// Estimated bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        let Some(sketch) = &self.0 else { return 0 };
        // A list a level, each up to twice as large as what is in it, and not less than the allocator's least.
        let levels = 1 + (sketch.n() / u64::from(QUANTILES_K)).checked_ilog2().map_or(0, |doublings| doublings + 1);
        let lists = levels as usize * (size_of::<Vec<f64>>() + 4 * size_of::<f64>());
        size_of::<KllSketch<KllFloat<f64>>>() + lists + 2 * sketch.num_retained() * size_of::<f64>()
    }
}

/// Equal if they say the same: in which order values came, they do not say.
impl PartialEq for Quantiles {
    fn eq(&self, other: &Self) -> bool {
        let said = |sketch: &KllSketch<_>| (sketch.n(), sketch.min_item().copied(), sketch.max_item().copied());
        self.0.as_deref().map(said) == other.0.as_deref().map(said) && self.values() == other.values()
    }
}

fn empty_kll() -> KllSketch<KllFloat<f64>> {
    KllSketch::new(QUANTILES_K).unwrap_or_else(|error| unreachable!("{QUANTILES_K} is at least 8: {error}"))
}

// === Top ===

/// The most frequent values, as texts.
#[derive(Debug, Clone)]
pub struct Top {
    /// How many are shown.
    shown: usize,
    sketch: Option<Box<FrequentItemsSketch<String>>>,
    /// Bytes of the texts in it, about: those of dropped ones are not taken off.
    text_bytes: usize,
}

impl Top {
    /// Without values; `shown` is how many are asked for.
    pub fn new(shown: usize) -> Self {
        Self { shown, sketch: None, text_bytes: 0 }
    }

    /// Slots of the map for this many shown values.
    fn slots(shown: usize) -> usize {
        (shown * TOP_SLOTS_EACH).next_power_of_two().max(TOP_SLOTS_MIN)
    }

    /// Counts a text; see [`TOP_TEXT_BYTES_MAX`].
    pub fn observe_text(&mut self, text: &str) {
        let end = (0..=TOP_TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        self.count_text(&text[..end.unwrap_or(0)]);
    }

    /// Counts an integer, as its decimal text.
    pub fn observe_integer(&mut self, value: i64) {
        self.count_text(&value.to_string());
    }

    fn count_text(&mut self, text: &str) {
        let shown = self.shown;
        let sketch = self.sketch.get_or_insert_with(|| Box::new(empty_frequencies(shown)));
        let known = sketch.num_active_items();
        sketch.update_ref(text);
        if sketch.num_active_items() != known {
            self.text_bytes += text.len();
        }
    }

    /// Adds another's values.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.sketch, &other.sketch) {
            (_, None) => {}
            (None, Some(_)) => self.clone_from(other),
            (Some(mine), Some(theirs)) => {
                let texts = mine.num_active_items() + theirs.num_active_items();
                mine.merge(theirs);
                // Which of theirs were new, the sketch does not say: as many bytes a text as before.
                let bytes = (self.text_bytes + other.text_bytes) * mine.num_active_items();
                self.text_bytes = bytes.div_ceil(texts.max(1));
            }
        }
    }

    /// All values that are kept, the most frequent first, equal counts by text.
    fn items(&self) -> Vec<(String, u64)> {
        let Some(sketch) = &self.sketch else { return Vec::new() };
        let rows = sketch.frequent_items_with_threshold(ErrorType::NoFalseNegatives, 0);
        let mut items: Vec<_> = rows.iter().map(|row| (row.item().clone(), row.upper_bound())).collect();
        items.sort_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
        items
    }

    /// The most frequent values, as many as asked for, with counts that are never too small.
    pub fn shown(&self) -> Vec<(String, u64)> {
        let mut items = self.items();
        items.truncate(self.shown);
        items
    }

    /// By how much any count may be too large; `None` without values.
    pub fn error(&self) -> Option<u64> {
        self.sketch.as_ref().map(|sketch| sketch.maximum_error())
    }

    /// The sketch; `None` without values.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        self.sketch.as_ref().map(|sketch| sketch.serialize())
    }

    /// The inverse of [`Self::to_bytes`].
    pub fn from_bytes(shown: usize, bytes: Option<&[u8]>) -> Result<Self, SketchError> {
        let Some(bytes) = bytes else { return Ok(Self::new(shown)) };
        // Asked before the bytes are believed: they say how large a map they want.
        let lg_slots = bytes.get(3..5).unwrap_or(&[0, 0]).iter().copied().max().unwrap_or_default();
        expect("lg_max_map_size", lg_slots.into(), Self::slots(shown).ilog2() as usize)?;
        let sketch = FrequentItemsSketch::<String>::deserialize(bytes)?;
        let mut top = Self { shown, sketch: Some(Box::new(sketch)), text_bytes: 0 };
        top.text_bytes = top.items().iter().map(|(text, _)| text.len()).sum();
        Ok(top)
    }

    /// Estimated bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        let Some(sketch) = &self.sketch else { return 0 };
        size_of::<FrequentItemsSketch<String>>() + sketch.estimated_size() + self.text_bytes
    }
}

/// Equal if they say the same.
impl PartialEq for Top {
    fn eq(&self, other: &Self) -> bool {
        (self.shown, self.error(), self.items()) == (other.shown, other.error(), other.items())
    }
}

fn empty_frequencies(shown: usize) -> FrequentItemsSketch<String> {
    FrequentItemsSketch::new(Top::slots(shown))
        .unwrap_or_else(|error| unreachable!("the number of slots is a power of two between 8 and 2^30: {error}"))
}
