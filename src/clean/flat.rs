//! The usual record, read without a tape: one flat object of texts, numbers, truths and nulls.
//!
//! A parser that has to be ready for everything costs more than all the cleaning behind it. Producers write the same
//! members in the same order and the same spaces, record after record; so what stands between two values is guessed from
//! the name before it and only compared. Whatever is unusual (nesting, escapes in names, numbers that are hard to hold, white space within, faults)
//! is not read here: the reader says so, and the parser reads the record as if nobody had looked at it before. What is
//! read here is, value for value, what the parser reads; `flat/tests.rs` holds the two against each other.

mod cursor;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::json::Json;
use super::value::Fields;
use crate::contract::SourceFields;
use crate::limits::{FLAT_BETWEEN_BYTES_MAX, FLAT_NAME_BYTES_MAX, FLAT_NAMES_MAX, JSON_VALUES_MAX, SCRATCH_KEPT_BYTES};
use cursor::{Cursor, Scalar};

/// Reads one record after the other, in reused memory, and learns the order of their members.
#[derive(Debug)]
pub(super) struct FlatReader {
    /// The first ones are none: [`BEFORE`] and [`FORGOTTEN`].
    names: Vec<Name>,
    spots: Vec<Spot>,
    unknown: Vec<Range<usize>>,
    unescaped: String,
}

/// What stands before every member.
const BEFORE: usize = 0;
/// What stands for every name that is not remembered.
const FORGOTTEN: usize = 1;

/// A member's name, as it was seen.
#[derive(Debug)]
struct Name {
    /// With its quotes.
    quoted: Box<[u8]>,
    leads_to: Lead,
    next: Next,
}

/// What came after a name and its value last time.
#[derive(Debug, Default)]
struct Next {
    /// The number of the next name.
    name: usize,
    /// All that stood between the two values: `, "name": `. Nothing if that is not known.
    between: Vec<u8>,
    /// Where in that the name is, without its quotes.
    text: Range<usize>,
}

/// What the contract makes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    Field(usize),
    /// It names fields inside an object; a value that is none has none of them.
    Inside,
    Unknown,
}

/// Where a field's value is.
#[derive(Debug, Clone, Copy)]
enum Spot {
    Absent,
    Value(Scalar),
}

/// The fields of one flat object.
#[derive(Debug, Clone, Copy)]
pub(super) struct FlatRecord<'a> {
    text: &'a str,
    reader: &'a FlatReader,
}

impl Default for FlatReader {
    fn default() -> Self {
        let none = || Name { quoted: Box::default(), leads_to: Lead::Unknown, next: Next::default() };
        Self { names: vec![none(), none()], spots: Vec::new(), unknown: Vec::new(), unescaped: String::new() }
    }
}

impl FlatReader {
    /// The record's fields; `None` if this is not the reader for it.
    pub fn read<'a>(&'a mut self, fields: &SourceFields, payload: &'a [u8]) -> Option<FlatRecord<'a>> {
        if payload.len() > JSON_VALUES_MAX || payload.first() != Some(&b'{') {
            return None;
        }
        let text = without_trailing_space(payload);
        if has_control(text) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        self.spots.clear();
        self.spots.resize(fields.len(), Spot::Absent);
        self.unknown.clear();
        self.unescaped.clear();
        self.members(fields, text)?;
        Some(FlatRecord { text, reader: self })
    }

    /// Frees what a huge record needed.
    pub fn shrink(&mut self) {
        if self.scratch_bytes() > SCRATCH_KEPT_BYTES {
            (self.unescaped, self.unknown) = (String::new(), Vec::new());
        }
    }

    /// What is held for the next record.
    pub fn scratch_bytes(&self) -> usize {
        self.unescaped.capacity() + self.unknown.capacity() * size_of::<Range<usize>>()
    }

    fn members(&mut self, fields: &SourceFields, text: &str) -> Option<()> {
        let mut cursor = Cursor::new(text);
        let mut name = BEFORE;
        loop {
            let begin = cursor.at();
            let Next { name: guess, between, text } = &self.names[name].next;
            let lead = if !between.is_empty() && cursor.take_all(between) {
                let lead = self.names[*guess].leads_to;
                if lead == Lead::Unknown {
                    self.unknown.push(begin + text.start..begin + text.end);
                }
                name = *guess;
                lead
            } else {
                cursor.skip_spaces();
                if name != BEFORE && cursor.take(b'}').is_some() {
                    return cursor.is_at_end().then_some(());
                }
                cursor.take(if name == BEFORE { b'{' } else { b',' })?;
                self.learn_next(fields, &mut cursor, &mut name, begin)?
            };
            cursor.skip_spaces();
            let value = cursor.scalar(&mut self.unescaped)?;
            if let Lead::Field(field) = lead {
                *self.spots.get_mut(field)? = Spot::Value(value);
            }
        }
    }

    /// Goes on to the next value and finds out where its name leads to. All that stands before it, from `begin` on, is the
    /// guess of the next time; `name` is the one before, and then this one.
    fn learn_next(
        &mut self,
        fields: &SourceFields,
        cursor: &mut Cursor<'_>,
        name: &mut usize,
        begin: usize,
    ) -> Option<Lead> {
        cursor.skip_spaces();
        let quoted_at = cursor.at();
        let quoted = cursor.quoted_name()?;
        let text = quoted_at + 1..cursor.at() - 1;
        cursor.skip_spaces();
        cursor.take(b':')?;
        cursor.skip_spaces();
        let (number, lead) = self.number_of(fields, quoted)?;
        let next = &mut self.names[*name].next;
        next.between.clear();
        let between = cursor.since(begin);
        if number != FORGOTTEN && between.len() <= FLAT_BETWEEN_BYTES_MAX {
            next.between.extend_from_slice(between);
            (next.name, next.text) = (number, text.start - begin..text.end - begin);
        }
        if lead == Lead::Unknown {
            self.unknown.push(text);
        }
        *name = number;
        Some(lead)
    }

    /// The name's number and where it leads to.
    fn number_of(&mut self, fields: &SourceFields, quoted: &str) -> Option<(usize, Lead)> {
        if let Some(number) = self.names.iter().position(|name| *name.quoted == *quoted.as_bytes()) {
            return Some((number, self.names[number].leads_to));
        }
        let leads_to = match fields.top().find(&quoted[1..quoted.len() - 1]) {
            None => Lead::Unknown,
            Some(entry) if !entry.inner.is_empty() => inside(entry.field)?,
            Some(entry) => entry.field.map_or(Lead::Inside, Lead::Field),
        };
        if self.names.len() > FORGOTTEN + FLAT_NAMES_MAX || quoted.len() > FLAT_NAME_BYTES_MAX {
            return Some((FORGOTTEN, leads_to));
        }
        self.names.push(Name { quoted: quoted.as_bytes().into(), leads_to, next: Next::default() });
        Some((self.names.len() - 1, leads_to))
    }
}

/// A name that is a field and has fields inside: which of them there are depends on more than one value.
fn inside(field: Option<usize>) -> Option<Lead> {
    field.is_none().then_some(Lead::Inside)
}

impl<'a> Fields<'a> for FlatRecord<'a> {
    #[inline(always)]
    fn get(self, field: usize) -> Option<Json<'a>> {
        let Spot::Value(value) = *self.reader.spots.get(field)? else { return None };
        Some(match value {
            Scalar::Null => Json::Null,
            Scalar::Boolean(truth) => Json::Boolean(truth),
            Scalar::Whole(whole) => Json::Whole(i128::from(whole)),
            Scalar::Real(real) => Json::Real(real),
            Scalar::Text { begin, end } => Json::Text(&self.text[begin as usize..end as usize]),
            Scalar::Unescaped { begin, end } => Json::Text(&self.reader.unescaped[begin as usize..end as usize]),
        })
    }

    fn unknown_names(self) -> impl Iterator<Item = &'a str> {
        self.reader.unknown.iter().map(move |range| &self.text[range.clone()])
    }
}

/// Without what JSON allows after the object; producers end their records with a line feed.
fn without_trailing_space(payload: &[u8]) -> &[u8] {
    let mut text = payload;
    while let [rest @ .., b' ' | b'\n' | b'\r' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Texts may not hold control characters. That there is none anywhere is seen many bytes at a time.
fn has_control(text: &[u8]) -> bool {
    const STEP: usize = 64;
    let any = |bytes: &[u8]| bytes.iter().fold(false, |any, byte| any | (*byte < b' '));
    let (steps, rest) = text.as_chunks::<STEP>();
    any(rest) || steps.iter().fold(false, |found, step| found | any(step))
}
