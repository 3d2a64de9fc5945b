//! By what a record is known again: four bytes of its payload, and four of the row that its posting must become.
//!
//! The row's are made from the emulation's own record and a few columns whose cleaned form is evident, with no code
//! of the cleaner's: so a row that came to another record's number, or a column that came to another row, is seen.
//! One alteration in four thousand million has the same fingerprint.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use deltalake::arrow::array::{Array, AsArray, RecordBatch};
use deltalake::arrow::datatypes::Int32Type;
use serde_json::Value;

use super::pinterest::{Kind, Population, TimestampForm};

/// The poster's name that stands for "nothing".
const NOBODY: &str = "User Info Error";

/// The columns that are held against the posting, by stream.
pub fn columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pin => &["ind", "unique_id", "category", "poster_name"],
        Kind::Geo => &["ind", "country"],
        Kind::User => &["ind", "user_name", "age"],
    }
}

/// Of the bytes as they were put.
pub fn of_payload(data: &[u8]) -> u32 {
    of_bytes(data)
}

/// The rows that the emulation's records must become.
#[derive(Debug)]
pub struct ExpectedRows {
    population: Arc<Population>,
    known: [Vec<Option<u32>>; 3],
}

impl ExpectedRows {
    /// Of this population.
    pub fn new(population: Arc<Population>) -> Self {
        let rows = population.rows() as usize;
        Self { population, known: [const { Vec::new() }; 3].map(|_: Vec<Option<u32>>| vec![None; rows]) }
    }

    /// Of the record of this row.
    pub fn of(&mut self, kind: Kind, ind: u32) -> u32 {
        let row = ind % self.population.rows();
        let known = &mut self.known[kind as usize][row as usize];
        *known.get_or_insert_with(|| {
            let json = match kind {
                Kind::Pin => self.population.pin(row),
                Kind::Geo => self.population.geo(row, TimestampForm::Iso),
                Kind::User => self.population.user(row, TimestampForm::Iso),
            };
            let record: Value = serde_json::from_str(&json).unwrap_or_default();
            of_texts(&expected(kind, &record))
        })
    }
}

/// Of each row of a batch that has the stream's [`columns`]; `None` if one is missing or of another type.
pub fn of_rows(kind: Kind, batch: &RecordBatch) -> Option<Vec<u32>> {
    let columns: Vec<Vec<Option<String>>> =
        columns(kind).iter().map(|name| texts(batch.column_by_name(name)?)).collect::<Option<_>>()?;
    let row = |row: usize| of_texts(&columns.iter().map(|column| column[row].clone()).collect::<Vec<_>>());
    Some((0..batch.num_rows()).map(row).collect())
}

fn texts(column: &dyn Array) -> Option<Vec<Option<String>>> {
    match (column.as_string_opt::<i32>(), column.as_primitive_opt::<Int32Type>()) {
        (Some(texts), _) => Some(texts.iter().map(|text| text.map(str::to_owned)).collect()),
        (None, Some(numbers)) => Some(numbers.iter().map(|number| number.map(|number| number.to_string())).collect()),
        (None, None) => None,
    }
}

/// What the contracts make of an undamaged record, column by column.
fn expected(kind: Kind, record: &Value) -> Vec<Option<String>> {
    let text = |field: &str| {
        let text = record.get(field)?.as_str()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let number = |field: &str| record.get(field)?.as_i64().map(|number| number.to_string());
    match kind {
        Kind::Pin => {
            let poster = text("poster_name").filter(|name| name != NOBODY);
            vec![number("index"), text("unique_id"), text("category"), poster]
        }
        Kind::Geo => vec![number("ind"), text("country")],
        Kind::User => {
            let names: Vec<String> = [text("first_name"), text("last_name")].into_iter().flatten().collect();
            vec![number("ind"), (!names.is_empty()).then(|| names.join(" ")), number("age")]
        }
    }
}

fn of_texts(texts: &[Option<String>]) -> u32 {
    let mut bytes = Vec::with_capacity(128);
    for text in texts {
        // No text holds the byte 0xff, so that no two lists of texts have the same bytes.
        bytes.push(if text.is_some() { 0xff } else { 0xfe });
        bytes.extend_from_slice(text.as_deref().unwrap_or_default().as_bytes());
    }
    of_bytes(&bytes)
}

/// With fixed keys; a fingerprint is only ever compared with one of the same process.
fn of_bytes(bytes: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deltalake::arrow::array::{ArrayRef, Int32Array, StringArray};

    use super::*;

    fn user(ind: i32, name: Option<&str>, age: Option<i32>) -> RecordBatch {
        let columns: [(&str, ArrayRef); 3] = [
            ("ind", Arc::new(Int32Array::from(vec![ind]))),
            ("user_name", Arc::new(StringArray::from(vec![name]))),
            ("age", Arc::new(Int32Array::from(vec![age]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    #[test]
    fn a_row_is_known_by_its_columns_and_every_one_of_them_counts() {
        let mut expected = ExpectedRows::new(Arc::new(Population::new()));
        let found = |ind, name, age| of_rows(Kind::User, &user(ind, name, age)).unwrap()[0];
        let right = expected.of(Kind::User, 2863);
        assert_eq!(found(2863, Some("Dylan Holmes"), Some(32)), right);
        assert_ne!(found(2862, Some("Dylan Holmes"), Some(32)), right);
        assert_ne!(found(2863, Some("Dylan Holme"), Some(32)), right);
        assert_ne!(found(2863, Some("Dylan Holmes"), None), right);
        assert_ne!(found(2863, None, Some(32)), right);
        assert!(of_rows(Kind::Pin, &user(1, None, None)).is_none());
    }

    #[test]
    fn payloads_of_one_other_byte_differ() {
        assert_ne!(of_payload(b"abc"), of_payload(b"abd"));
        assert_ne!(of_payload(b""), of_payload(b"\0"));
    }
}
