//! How many different values: an HLL sketch.

use std::borrow::Cow;

use datasketches::hash::value::{canonical_float, raw_bytes};
use datasketches::hll::{Coupon, HllSketch, HllType, HllUnion};

use super::{REGISTER_END, SketchError, expect};
use crate::limits::DISTINCT_LG_REGISTERS;

/// Bytes of an HLL sketch before its registers, once it has them.
const HLL_PREAMBLE_BYTES: usize = 40;

/// How many different values.
#[derive(Debug, Clone, Default)]
pub enum Distinct {
    /// Without values.
    #[default]
    None,
    /// One value.
    One(Coupon),
    /// More.
    Many(Box<HllSketch>),
    /// Those of several. What has been added to once is added to again, and a sketch would be copied for each.
    United(Box<HllUnion>),
}

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
        match self {
            Self::None => *self = Self::One(coupon),
            Self::One(first) if *first == coupon => {}
            Self::One(first) => {
                let mut sketch = Box::new(hll_of(*first));
                sketch.update_with_coupon(coupon);
                *self = Self::Many(sketch);
            }
            Self::Many(sketch) => sketch.update_with_coupon(coupon),
            Self::United(union) => union.update(&hll_of(coupon)),
        }
    }

    /// Adds another's values.
    pub fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::None) => {}
            (_, Self::One(theirs)) => self.observe(*theirs),
            (Self::None, _) => self.clone_from(other),
            (Self::One(mine), _) => {
                let mine = *mine;
                self.clone_from(other);
                self.observe(mine);
            }
            (Self::Many(mine), _) => {
                let mut union = empty_union();
                union.update(mine);
                *self = Self::United(Box::new(union));
                self.merge(other);
            }
            (Self::United(mine), Self::Many(theirs)) => mine.update(theirs),
            (Self::United(mine), Self::United(theirs)) => mine.update(&theirs.to_sketch(HllType::Hll8)),
        }
    }

    fn sketch(&self) -> Option<Cow<'_, HllSketch>> {
        match self {
            Self::None => None,
            Self::One(coupon) => Some(Cow::Owned(hll_of(*coupon))),
            Self::Many(sketch) => Some(Cow::Borrowed(sketch)),
            Self::United(union) => Some(Cow::Owned(union.to_sketch(HllType::Hll8))),
        }
    }

    /// The estimate, rounded.
    pub fn count(&self) -> i64 {
        let estimate = match self {
            Self::United(union) => union.composite_estimate(),
            Self::None | Self::One(_) | Self::Many(_) => {
                self.sketch().map_or(0.0, |sketch| sketch.composite_estimate())
            }
        };
        estimate.round() as i64
    }

    /// The sketch; `None` without values.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        self.sketch().map(|sketch| sketch.serialize())
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
            None => Ok(Self::Many(Box::new(sketch))),
        }
    }

    /// Estimated bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::None | Self::One(_) => 0,
            Self::Many(sketch) => size_of::<HllSketch>() + sketch.estimated_size(),
            Self::United(union) => size_of::<HllUnion>() + union.estimated_size(),
        }
    }
}

/// Equal if they are of the same values.
impl PartialEq for Distinct {
    fn eq(&self, other: &Self) -> bool {
        self.sketch() == other.sketch()
    }
}

fn hll_of(coupon: Coupon) -> HllSketch {
    let mut sketch = HllSketch::new(DISTINCT_LG_REGISTERS, HllType::Hll8)
        .unwrap_or_else(|error| unreachable!("{DISTINCT_LG_REGISTERS} is between 4 and 21: {error}"));
    sketch.update_with_coupon(coupon);
    sketch
}

fn empty_union() -> HllUnion {
    HllUnion::new(DISTINCT_LG_REGISTERS)
        .unwrap_or_else(|error| unreachable!("{DISTINCT_LG_REGISTERS} is between 4 and 21: {error}"))
}
