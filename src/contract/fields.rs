//! The JSON fields that a contract reads, numbered, and how they are found while an object is walked once.
//!
//! A table of names per level of nesting, ordered by length and bytes: a lookup is a few integer comparisons and
//! one or two comparisons of bytes, allocates nothing, and no sender can make it slow by choosing names.

use std::cmp::Ordering;

/// Every JSON field that the contract's columns name, once each.
#[derive(Debug, Clone, Default)]
pub struct SourceFields {
    paths: Vec<String>,
    top: FieldTable,
}

impl SourceFields {
    /// The number of the field at this dotted path; a new one if it was not named before.
    pub(super) fn number(&mut self, path: &str) -> usize {
        if let Some(known) = self.paths.iter().position(|known| known == path) {
            return known;
        }
        let number = self.paths.len();
        self.paths.push(path.to_owned());
        let mut table = &mut self.top;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let entry = table.entry(name);
            if names.peek().is_none() {
                entry.field = Some(number);
            }
            table = &mut entry.inner;
        }
        number
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether the contract reads nothing.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// A field's dotted path, for messages.
    pub fn path(&self, number: usize) -> &str {
        self.paths.get(number).map_or("", String::as_str)
    }

    /// The names at the record's top level.
    pub fn top(&self) -> &FieldTable {
        &self.top
    }
}

/// The names that matter inside one object.
#[derive(Debug, Clone, Default)]
pub struct FieldTable(Vec<FieldEntry>);

/// What a name leads to.
#[derive(Debug, Clone)]
pub struct FieldEntry {
    name: Box<str>,
    /// The field that ends here.
    pub field: Option<usize>,
    /// Names inside it that matter; empty if none does.
    pub inner: FieldTable,
}

impl FieldTable {
    /// What the name leads to, if the contract names it.
    pub fn find(&self, name: &str) -> Option<&FieldEntry> {
        self.0.get(self.search(name).ok()?)
    }

    /// Whether nothing in here matters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every field in here, at any depth.
    pub fn each_field(&self, visit: &mut impl FnMut(usize)) {
        for entry in &self.0 {
            entry.field.into_iter().for_each(&mut *visit);
            entry.inner.each_field(visit);
        }
    }

    fn entry(&mut self, name: &str) -> &mut FieldEntry {
        let at = self.search(name).unwrap_or_else(|at| {
            self.0.insert(at, FieldEntry { name: name.into(), field: None, inner: Self::default() });
            at
        });
        &mut self.0[at]
    }

    fn search(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|entry| by_length_then_bytes(&entry.name, name))
    }
}

fn by_length_then_bytes(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}
