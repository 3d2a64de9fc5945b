//! Reading TOML so that every error names its line, says what would be right, and none hides another.
//!
//! Contracts and the configuration are read through this. A problem is noted and reading goes on, so that a
//! user sees everything that is wrong at once. Unknown keys are problems too: a misspelt key is not a default.

mod problems;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use toml_edit::{Item, TableLike, Value};

pub use problems::{Cut, Invalid, Place, Problems};
pub use values::{ByteSize, DurationMs, Filled, FromToml};

use crate::limits::CONFIG_FILE_BYTES_MAX;

// === Document ===

/// One parsed file, with values that override it.
#[derive(Debug)]
pub struct Document {
    file: Rc<str>,
    line_starts: Vec<usize>,
    parsed: toml_edit::Document<String>,
    overrides: BTreeMap<String, (String, String)>,
}

impl Document {
    /// Reads and parses a file. `None` if that failed; the problem is noted, and one that belongs to no line of the
    /// file is noted where the file was `declared`, if anywhere, as what it is declared to be.
    pub fn read(path: &Path, declared: Option<(&str, &Place)>, problems: &Problems) -> Option<Self> {
        let file = path.display().to_string();
        match (read_file(path), declared) {
            (Ok(bytes), _) => Self::parse_bytes(&file, bytes, problems),
            (Err(error), None) => {
                problems.note(&Place::new(file), error);
                None
            }
            (Err(error), Some((what, place))) => {
                problems.note(place, format_args!("{what} {:?}: {error}", Cut(&file)));
                None
            }
        }
    }

    fn parse_bytes(file: &str, bytes: Vec<u8>, problems: &Problems) -> Option<Self> {
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(file, text, problems),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let (before, rest) = error.as_bytes().split_at(at);
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                let bad = rest.first().copied().unwrap_or_default();
                let place = Place::new(format!("{file}:{line}"));
                problems.note(&place, format_args!("not UTF-8: byte 0x{bad:02x}; save the file as UTF-8"));
                None
            }
        }
    }

    /// Parses a text that stands for `file` in messages.
    pub fn parse(file: &str, text: String, problems: &Problems) -> Option<Self> {
        let line_starts: Vec<usize> =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let file: Rc<str> = file.into();
        match toml_edit::Document::parse(text) {
            Ok(parsed) => Some(Self { file, line_starts, parsed, overrides: BTreeMap::new() }),
            Err(error) => {
                let place = place(&file, &line_starts, error.span());
                problems.note(&place, format_args!("not TOML: {}", error.message().replace('\n', ", ")));
                None
            }
        }
    }

    /// Lets `value` stand for the key at the dotted `path`, as said by `source`.
    pub fn override_value(&mut self, path: &str, source: &str, value: &str) {
        self.overrides.insert(path.to_owned(), (source.to_owned(), value.to_owned()));
    }

    /// The top-level table.
    pub fn root<'a>(&'a self, problems: &'a Problems) -> Section<'a> {
        let table: &dyn TableLike = self.parsed.as_table();
        Section { document: self, problems, path: String::new(), table: Some(table), span: None, used: BTreeSet::new() }
    }

    /// The first line, for what is missing altogether.
    pub fn place(&self) -> Place {
        place(&self.file, &self.line_starts, None)
    }
}

/// The first line stands for what has no place of its own.
fn place(file: &str, line_starts: &[usize], span: Option<Range<usize>>) -> Place {
    let start = span.map_or(0, |span| span.start);
    let line = line_starts.partition_point(|line_start| *line_start <= start);
    Place::new(format!("{file}:{line}"))
}

/// Why a file has no text.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("longer than the {CONFIG_FILE_BYTES_MAX} bytes that are read at most")]
    TooLong,
}

/// Counts what it reads instead of asking for the length: a device has none, and a file may grow.
pub fn read_file(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(CONFIG_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CONFIG_FILE_BYTES_MAX { Err(FileError::TooLong) } else { Ok(bytes) }
}

// === Section ===

/// One table of a document: ask for keys by name and type, then [`Section::finish`].
pub struct Section<'a> {
    document: &'a Document,
    problems: &'a Problems,
    path: String,
    table: Option<&'a dyn TableLike>,
    span: Option<Range<usize>>,
    used: BTreeSet<String>,
}

/// A value and where it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place,
}

impl<'a> Section<'a> {
    /// Where this table begins.
    pub fn place(&self) -> Place {
        place(&self.document.file, &self.document.line_starts, self.span.clone())
    }

    /// Where problems go.
    pub fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// The keys that the file gives this table, in its order; for tables whose keys are the user's own names.
    pub fn keys(&self) -> Vec<String> {
        self.table.into_iter().flat_map(TableLike::iter).map(|(key, _)| key.to_owned()).collect()
    }

    /// A key that may be absent. A value of another type is a noted problem and reads as absent.
    pub fn optional<T: FromToml>(&mut self, key: &str) -> Option<At<T>> {
        self.used.insert(key.to_owned());
        let path = self.child_path(key);
        if let Some((source, text)) = self.document.overrides.get(&path) {
            let place = Place::environment(source);
            return self.converted(key, T::from_text(text), format!("{text:?}"), place);
        }
        let item = self.table?.get(key)?;
        let place = place(&self.document.file, &self.document.line_starts, item.span());
        let shown = item.to_string().trim().to_owned();
        match item.as_value() {
            Some(value) => self.converted(key, T::from_value(value), shown, place),
            None => self.converted(key, None, "a table".to_owned(), place),
        }
    }

    /// Whether the file gives this table the key.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Line and letter of what stands `at` this byte of the `text` that the key was given; `None` if the file does not
    /// spell that text out (it has escapes in it).
    pub fn place_within(&self, key: &str, text: &str, at: usize) -> Option<Place> {
        let span = self.table?.get(key)?.span()?;
        let written = self.document.parsed.raw().get(span.clone())?;
        let before = self.document.parsed.raw().get(..span.start + written.find(text)? + at)?;
        let line = 1 + before.matches('\n').count();
        let letter = 1 + before.rsplit('\n').next().unwrap_or(before).chars().count();
        Some(Place::new(format!("{}:{line}:{letter}", self.document.file)))
    }

    /// A key that must be there; its absence is a noted problem.
    pub fn required<T: FromToml>(&mut self, key: &str) -> Option<At<T>> {
        let present = self.table.is_some_and(|table| table.contains_key(key))
            || self.document.overrides.contains_key(&self.child_path(key));
        if !present {
            self.used.insert(key.to_owned());
            let place = self.place();
            let path = self.child_path(key);
            self.problems.note(&place, format_args!("`{path}` is missing; expected {}", T::EXPECTED));
            return None;
        }
        self.optional(key)
    }

    /// A value of any type, for keys that take several.
    pub fn value(&mut self, key: &str) -> Option<At<&'a Value>> {
        self.used.insert(key.to_owned());
        let item = self.table?.get(key)?;
        let place = place(&self.document.file, &self.document.line_starts, item.span());
        let Some(value) = item.as_value() else {
            self.problems.note(&place, format_args!("`{}` is a table; expected a value", Cut(&self.child_path(key))));
            return None;
        };
        Some(At { value, place })
    }

    /// A table, `[key]` or `key = {..}`. Absent reads as an empty one, so that overrides reach its keys.
    pub fn section(&mut self, key: &str) -> Section<'a> {
        self.used.insert(key.to_owned());
        let item = self.table.and_then(|table| table.get(key));
        let table = item.and_then(Item::as_table_like);
        let span = item.and_then(Item::span);
        if let (Some(item), None) = (item, table) {
            let place = place(&self.document.file, &self.document.line_starts, item.span());
            let shown = item.to_string();
            self.problems.note(&place, format_args!("`{key}` = {} is not a table", Cut(shown.trim())));
        }
        self.child(self.child_path(key), table, span)
    }

    /// A table that may be absent.
    pub fn optional_section(&mut self, key: &str) -> Option<Section<'a>> {
        let present = self.table.is_some_and(|table| table.contains_key(key));
        self.used.insert(key.to_owned());
        present.then(|| self.section(key))
    }

    /// The tables of `[[key]]`, or of a list of inline tables.
    pub fn sections(&mut self, key: &str) -> Vec<Section<'a>> {
        self.used.insert(key.to_owned());
        let Some(item) = self.table.and_then(|table| table.get(key)) else { return Vec::new() };
        let path = self.child_path(key);
        if let Some(tables) = item.as_array_of_tables() {
            return tables.iter().map(|table| self.child(path.clone(), Some(table), table.span())).collect();
        }
        let mut sections = Vec::new();
        for element in item.as_array().into_iter().flatten() {
            match element.as_inline_table() {
                Some(table) => sections.push(self.child(path.clone(), Some(table), element.span())),
                None => self.not_tables(&path, element.span()),
            }
        }
        if !item.is_array() {
            self.not_tables(&path, item.span());
        }
        sections
    }

    /// A section over an inline table found by [`Section::value`].
    pub fn inline(&self, key: &str, value: &'a Value) -> Option<Section<'a>> {
        let table: &dyn TableLike = value.as_inline_table()?;
        Some(self.child(self.child_path(key), Some(table), value.span()))
    }

    /// Where a value found by [`Section::value`] stands.
    pub fn place_of(&self, value: &Value) -> Place {
        place(&self.document.file, &self.document.line_starts, value.span())
    }

    /// Notes every key that nobody asked for, with the nearest one that exists.
    pub fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, item) in table.iter().filter(|(key, _)| !self.used.contains(*key)) {
            let span = table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span());
            let place = place(&self.document.file, &self.document.line_starts, span);
            let path = self.child_path(key);
            let path = Cut(&path);
            let expected = self.used.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            match nearest(key, self.used.iter().map(String::as_str)) {
                Some(near) => self.problems.note(&place, format_args!("unknown key `{path}`; did you mean `{near}`?")),
                None => self.problems.note(&place, format_args!("unknown key `{path}`; expected one of {expected}")),
            }
        }
    }

    fn not_tables(&self, path: &str, span: Option<Range<usize>>) {
        let place = place(&self.document.file, &self.document.line_starts, span);
        self.problems.note(&place, format_args!("`{path}` must be tables: [[{path}]] once for each"));
    }

    fn child(&self, path: String, table: Option<&'a dyn TableLike>, span: Option<Range<usize>>) -> Section<'a> {
        let (document, problems) = (self.document, self.problems);
        Section { document, problems, path, table, span: span.or_else(|| self.span.clone()), used: BTreeSet::new() }
    }

    fn child_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn converted<T: FromToml>(&self, key: &str, value: Option<T>, shown: String, place: Place) -> Option<At<T>> {
        if value.is_none() {
            let path = self.child_path(key);
            self.problems.note(&place, format_args!("`{}` = {}; expected {}", Cut(&path), Cut(&shown), T::EXPECTED));
        }
        value.map(|value| At { value, place })
    }
}

/// The candidate that a misspelt name most likely meant.
pub fn nearest<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let scored = candidates.map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.79).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named_with_its_line_and_none_hides_another() {
        let problems = Problems::default();
        let text = "name = 5\n[lake]\nuri = \"x\"\nflush_intervall = \"5s\"\nflush_interval = \"5 parsecs\"\n";
        let document = Document::parse("a.toml", text.to_owned(), &problems).unwrap();
        let mut root = document.root(&problems);
        assert!(root.optional::<String>("name").is_none());
        assert!(root.required::<i64>("count").is_none());
        let mut lake = root.section("lake");
        assert_eq!(lake.optional::<String>("uri").unwrap().place.to_string(), "a.toml:3");
        assert!(lake.optional::<DurationMs>("flush_interval").is_none());
        lake.finish();
        root.finish();
        let invalid = problems.into_result().unwrap_err();
        assert_eq!(
            invalid.problems(),
            [
                "a.toml:1: `name` = 5; expected a text in quotes",
                "a.toml:1: `count` is missing; expected a whole number",
                "a.toml:5: `lake.flush_interval` = \"5 parsecs\"; expected a duration with its unit, like \"500ms\", \
                 \"5s\", \"1m\", \"2h\" or \"1d\"",
                "a.toml:4: unknown key `lake.flush_intervall`; did you mean `flush_interval`?",
            ]
        );
    }

    fn noted(path: &Path, declared: Option<(&str, &Place)>) -> Vec<String> {
        let problems = Problems::default();
        assert!(Document::read(path, declared, &problems).is_none());
        problems.into_result().unwrap_err().problems().to_vec()
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let too_long = "longer than the 1048576 bytes that are read at most";
        assert_eq!(noted(Path::new("/dev/zero"), None), [format!("/dev/zero: {too_long}")]);
        let declared = Place::new("a.toml:7".to_owned());
        assert_eq!(
            noted(Path::new("/dev/zero"), Some(("contract", &declared))),
            [format!("a.toml:7: contract \"/dev/zero\": {too_long}")]
        );
    }

    #[test]
    fn the_longest_file_that_is_read_is_read_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "#".repeat(CONFIG_FILE_BYTES_MAX as usize)).unwrap();
        assert!(Document::read(file.path(), None, &Problems::default()).is_some());
    }

    #[test]
    fn what_is_not_utf_8_is_named_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"a = 1\nb = \"\xc3\xa4 caf\xe9\"\nc = 1\n").unwrap();
        let expected = format!("{}:2: not UTF-8: byte 0xe9; save the file as UTF-8", file.path().display());
        assert_eq!(noted(file.path(), None), [expected]);
    }

    #[test]
    fn long_values_and_keys_are_cut_where_they_are_echoed() {
        let long = "ä".repeat(5_000);
        let text = format!("a = \"{long}\"\n\"{long}\" = 1\nc = [\n1,\n2]\n");
        let problems = Problems::default();
        let mut document = Document::parse("a.toml", text, &problems).unwrap();
        document.override_value("b", "B", &long);
        let mut root = document.root(&problems);
        assert!(root.optional::<i64>("a").is_none());
        assert!(root.optional::<i64>("b").is_none());
        assert!(root.optional::<i64>("c").is_none());
        root.finish();
        let invalid = problems.into_result().unwrap_err();
        assert_eq!(invalid.problems().len(), 4);
        for problem in invalid.problems() {
            assert!(problem.chars().count() < 200, "{problem}");
            assert!(!problem.contains('\n'), "{problem}");
        }
    }

    #[test]
    fn the_environment_overrides_the_file_and_is_named_when_wrong() {
        let problems = Problems::default();
        let mut document = Document::parse("a.toml", "[lake]\nuri = \"x\"\n".to_owned(), &problems).unwrap();
        document.override_value("lake.uri", "PINTAIL__LAKE__URI", "y");
        document.override_value("lake.flush_bytes", "PINTAIL__LAKE__FLUSH_BYTES", "many");
        let mut lake = document.root(&problems).section("lake");
        assert_eq!(lake.required::<String>("uri").unwrap().value, "y");
        assert!(lake.optional::<ByteSize>("flush_bytes").is_none());
        let invalid = problems.into_result().unwrap_err().to_string();
        assert!(invalid.starts_with("environment variable PINTAIL__LAKE__FLUSH_BYTES: "), "{invalid}");
    }
}
