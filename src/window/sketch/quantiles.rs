//! The distribution of numbers: a KLL sketch.

use std::borrow::Cow;

use datasketches::common::SearchCriteria;
use datasketches::kll::{KllFloat, KllSketch};

use super::{SketchError, expect};
use crate::contract::window::QUANTILES;
use crate::limits::QUANTILES_K;

type Kll = KllSketch<KllFloat<f64>>;

/// The distribution of numbers.
#[derive(Debug, Clone, Default)]
pub enum Quantiles {
    /// Without values.
    #[default]
    None,
    /// One value.
    One(KllFloat<f64>),
    /// More.
    Many(Box<Kll>),
}

impl Quantiles {
    /// Counts a number. NaN and infinities are no values.
    pub fn observe(&mut self, value: f64) {
        if let Some(value) = KllFloat::<f64>::new(value).ok().filter(|value| value.is_finite()) {
            self.add(value);
        }
    }

    fn add(&mut self, value: KllFloat<f64>) {
        match self {
            Self::None => *self = Self::One(value),
            Self::One(first) => {
                let mut sketch = Box::new(kll_of(*first));
                sketch.update(value);
                *self = Self::Many(sketch);
            }
            Self::Many(sketch) => sketch.update(value),
        }
    }

    /// Adds another's values.
    pub fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::None) => {}
            (_, Self::One(theirs)) => self.add(*theirs),
            (Self::None, Self::Many(_)) => self.clone_from(other),
            (Self::One(mine), Self::Many(_)) => {
                let mine = *mine;
                self.clone_from(other);
                self.add(mine);
            }
            (Self::Many(mine), Self::Many(theirs)) => mine.merge(theirs).unwrap_or_else(|error| {
                unreachable!("both have the same `m`, and fewer than 2^64 values were ever read: {error}")
            }),
        }
    }

    fn sketch(&self) -> Option<Cow<'_, Kll>> {
        match self {
            Self::None => None,
            Self::One(value) => Some(Cow::Owned(kll_of(*value))),
            Self::Many(sketch) => Some(Cow::Borrowed(sketch)),
        }
    }

    /// One value for each of [`QUANTILES`]; `None` without values. Each is a value that was seen: the smallest of
    /// which at least that part of all is no larger.
    pub fn values(&self) -> Option<[f64; QUANTILES.len()]> {
        let sketch = self.sketch()?;
        let ranks = QUANTILES.map(|(rank, _)| rank);
        let values = sketch.quantiles(&ranks, SearchCriteria::Inclusive).ok().flatten()?;
        values.into_iter().map(KllFloat::into_inner).collect::<Vec<f64>>().try_into().ok()
    }

    /// The sketch; `None` without values.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        self.sketch().map(|sketch| sketch.serialize())
    }

    /// The inverse of [`Self::to_bytes`].
    pub fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, SketchError> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let sketch = Kll::deserialize(bytes)?;
        expect("k", sketch.k().into(), QUANTILES_K.into())?;
        Ok(match (sketch.n(), sketch.min_item()) {
            (1, Some(value)) => Self::One(*value),
            _ => Self::Many(Box::new(sketch)),
        })
    }

    /// Estimated bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        let Self::Many(sketch) = self else { return 0 };
        // A list a level, each up to twice as large as what is in it, and not less than the allocator's least.
        let levels = 1 + (sketch.n() / u64::from(QUANTILES_K)).checked_ilog2().map_or(0, |doublings| doublings + 1);
        let lists = levels as usize * (size_of::<Vec<f64>>() + 4 * size_of::<f64>());
        size_of::<Kll>() + lists + 2 * sketch.num_retained() * size_of::<f64>()
    }
}

/// Equal if they say the same: in which order values came, they do not say.
impl PartialEq for Quantiles {
    fn eq(&self, other: &Self) -> bool {
        let said = |sketch: Cow<'_, Kll>| (sketch.n(), sketch.min_item().copied(), sketch.max_item().copied());
        self.sketch().map(said) == other.sketch().map(said) && self.values() == other.values()
    }
}

fn kll_of(value: KllFloat<f64>) -> Kll {
    let mut sketch =
        KllSketch::new(QUANTILES_K).unwrap_or_else(|error| unreachable!("{QUANTILES_K} is at least 8: {error}"));
    sketch.update(value);
    sketch
}
