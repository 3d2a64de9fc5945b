//! The most frequent values: a frequent-items sketch of texts.

use std::borrow::Cow;
use std::cmp::Reverse;

use datasketches::frequencies::{ErrorType, FrequentItemsSketch};

use super::{SketchError, expect};
use crate::limits::{TOP_SLOTS_EACH, TOP_SLOTS_MIN, TOP_TEXT_BYTES_MAX};

/// Bytes of a sketch of frequent values before its weights.
const FREQUENCIES_HEADER_BYTES: usize = 32;

/// The most frequent values, as texts.
#[derive(Debug, Clone)]
pub struct Top {
    /// How many are shown.
    shown: usize,
    counted: Counted,
}

type Frequencies = FrequentItemsSketch<String>;

#[derive(Debug, Clone)]
enum Counted {
    None,
    /// One text, once.
    One(Box<str>),
    /// More, and about how many bytes the texts have: those of dropped ones are not taken off.
    Many(Box<Frequencies>, usize),
}

impl Top {
    /// Without values; `shown` is how many are asked for.
    pub fn new(shown: usize) -> Self {
        Self { shown, counted: Counted::None }
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
        match &mut self.counted {
            Counted::None => self.counted = Counted::One(text.into()),
            Counted::One(first) => {
                let mut sketch = Box::new(frequencies_of(self.shown, first));
                let bytes = first.len();
                sketch.update_ref(text);
                self.counted = Counted::Many(sketch, bytes + text.len());
            }
            Counted::Many(sketch, bytes) => {
                let known = sketch.num_active_items();
                sketch.update_ref(text);
                if sketch.num_active_items() != known {
                    *bytes += text.len();
                }
            }
        }
    }

    /// Adds another's values.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.counted, &other.counted) {
            (_, Counted::None) => {}
            (_, Counted::One(theirs)) => self.count_text(theirs),
            (Counted::None, Counted::Many(..)) => self.clone_from(other),
            (Counted::One(mine), Counted::Many(..)) => {
                let mine = std::mem::take(mine);
                self.clone_from(other);
                self.count_text(&mine);
            }
            (Counted::Many(mine, bytes), Counted::Many(theirs, more_bytes)) => {
                let texts = mine.num_active_items() + theirs.num_active_items();
                mine.merge(theirs);
                // Which of theirs were new, the sketch does not say: as many bytes a text as before.
                *bytes = ((*bytes + more_bytes) * mine.num_active_items()).div_ceil(texts.max(1));
            }
        }
    }

    fn sketch(&self) -> Option<Cow<'_, Frequencies>> {
        match &self.counted {
            Counted::None => None,
            Counted::One(text) => Some(Cow::Owned(frequencies_of(self.shown, text))),
            Counted::Many(sketch, _) => Some(Cow::Borrowed(sketch)),
        }
    }

    /// All values that are kept, the most frequent first, equal counts by text.
    fn items(&self) -> Vec<(String, u64)> {
        let Some(sketch) = self.sketch() else { return Vec::new() };
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
        self.sketch().map(|sketch| sketch.maximum_error())
    }

    /// The sketch; `None` without values.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        self.sketch().map(|sketch| sketch.serialize())
    }

    /// The inverse of [`Self::to_bytes`].
    pub fn from_bytes(shown: usize, bytes: Option<&[u8]>) -> Result<Self, SketchError> {
        let Some(bytes) = bytes else { return Ok(Self::new(shown)) };
        // Asked before the bytes are believed: they say how large a map they want.
        let lg_slots = bytes.get(3..5).unwrap_or(&[0, 0]).iter().copied().max().unwrap_or_default();
        expect("lg_max_map_size", lg_slots.into(), Self::slots(shown).ilog2() as usize)?;
        let sketch = Box::new(Frequencies::deserialize(bytes)?);
        // Beside their weights and a length each, the texts are all that is after the header.
        let text_bytes = bytes.len().saturating_sub(FREQUENCIES_HEADER_BYTES + 12 * sketch.num_active_items());
        Ok(Self { shown, counted: Counted::Many(sketch, text_bytes) })
    }

    /// Estimated bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.counted {
            Counted::None => 0,
            Counted::One(text) => text.len(),
            Counted::Many(sketch, text_bytes) => size_of::<Frequencies>() + sketch.estimated_size() + text_bytes,
        }
    }
}

/// Equal if they say the same.
impl PartialEq for Top {
    fn eq(&self, other: &Self) -> bool {
        (self.shown, self.error(), self.items()) == (other.shown, other.error(), other.items())
    }
}

fn frequencies_of(shown: usize, text: &str) -> Frequencies {
    let mut sketch = Frequencies::new(Top::slots(shown))
        .unwrap_or_else(|error| unreachable!("the number of slots is a power of two between 8 and 2^30: {error}"));
    sketch.update_ref(text);
    sketch
}
