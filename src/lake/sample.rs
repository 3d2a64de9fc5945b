//! How each column of a file is written, guessed from its first values.
//!
//! A dictionary pays where values repeat themselves, and costs more than everything else where they do not. What does
//! not repeat itself often goes up in small steps (numbers, times), or repeats the beginning of the value before it
//! (sequence numbers: 56 digits, of which a few change); the encodings for that leave the codec less to do than plain
//! values would. A wrong guess costs time and bytes, never a value.

use std::collections::HashSet;
use std::hash::Hash;
use std::iter::zip;

use deltalake::arrow::array::{Array, AsArray};
use deltalake::arrow::datatypes::{
    DataType, Date32Type, Field, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use deltalake::parquet::basic::Encoding;
use deltalake::parquet::file::properties::WriterPropertiesBuilder;
use deltalake::parquet::schema::types::ColumnPath;

/// Values looked at.
const SAMPLE_ROWS: usize = 1000;

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The writer's default; falls back to plain values if there are too many.
    Dictionary,
    /// One after the other, or as differences of some kind.
    Each(Encoding),
}

/// Sets how the column is written, by the values of a batch of it.
pub(super) fn set_form(
    properties: WriterPropertiesBuilder,
    field: &Field,
    values: &dyn Array,
) -> WriterPropertiesBuilder {
    let mut path = vec![field.name().clone()];
    let mut values = values;
    if let (DataType::List(element), Some(list)) = (field.data_type(), values.as_list_opt::<i32>()) {
        path.extend(["list".to_owned(), element.name().clone()]);
        values = list.values();
    }
    match form(values) {
        Form::Dictionary => properties,
        Form::Each(encoding) => {
            let path = ColumnPath::new(path);
            properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding)
        }
    }
}

fn form(values: &dyn Array) -> Form {
    let rarely = |repeats: bool, encoding| if repeats { Form::Dictionary } else { Form::Each(encoding) };
    match values.data_type() {
        DataType::Utf8 => {
            let sample: Vec<&str> = values.as_string::<i32>().iter().flatten().take(SAMPLE_ROWS).collect();
            rarely(repeats(sample.iter().copied()), of_texts(&sample))
        }
        DataType::Int32 => {
            let sample = values.as_primitive::<Int32Type>().iter().flatten();
            rarely(repeats(sample), Encoding::DELTA_BINARY_PACKED)
        }
        DataType::Int64 => {
            let sample = values.as_primitive::<Int64Type>().iter().flatten();
            rarely(repeats(sample), Encoding::DELTA_BINARY_PACKED)
        }
        DataType::Date32 => {
            let sample = values.as_primitive::<Date32Type>().iter().flatten();
            rarely(repeats(sample), Encoding::DELTA_BINARY_PACKED)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let sample = values.as_primitive::<TimestampMicrosecondType>().iter().flatten();
            rarely(repeats(sample), Encoding::DELTA_BINARY_PACKED)
        }
        DataType::Float64 => {
            let sample = values.as_primitive::<Float64Type>().iter().flatten();
            rarely(repeats(sample.map(f64::to_bits)), Encoding::PLAIN)
        }
        // Payloads of rejects: a dictionary of them would be a copy of megabytes beside the page.
        DataType::Binary => Form::Each(Encoding::PLAIN),
        _ => Form::Dictionary,
    }
}

/// Whether most of the first values occur more than once. Without any there is nothing to write.
fn repeats<T: Eq + Hash>(values: impl Iterator<Item = T>) -> bool {
    let (mut distinct, mut count) = (HashSet::new(), 0);
    for value in values.take(SAMPLE_ROWS) {
        count += 1;
        distinct.insert(value);
    }
    distinct.len() <= count / 2
}

/// Texts most of whose bytes are those of the text before are written as what is new in each; others with their lengths
/// apart, since numbers between them are what the codec stumbles over.
fn of_texts(sample: &[&str]) -> Encoding {
    let shared = |(before, text): (&&str, &&str)| zip(before.bytes(), text.bytes()).take_while(|(a, b)| a == b).count();
    let shared_bytes: usize = zip(sample, sample.get(1..).unwrap_or_default()).map(shared).sum();
    let bytes: usize = sample.iter().map(|text| text.len()).sum();
    if shared_bytes > bytes / 2 { Encoding::DELTA_BYTE_ARRAY } else { Encoding::DELTA_LENGTH_BYTE_ARRAY }
}
