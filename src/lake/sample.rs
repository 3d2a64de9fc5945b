//! How each column of a file is written, guessed from its first values.
//!
//! A dictionary pays where values repeat themselves, and costs more than everything else where they do not. What does
//! not repeat itself often goes up in small steps (numbers, times), or repeats the beginning of the value before it
//! (sequence numbers: 56 digits, of which a few change); the encodings for that leave the codec less to do than plain
//! values would. A wrong guess costs time and bytes, never a value. What is so little that the codec costs more than it
//! saves goes without.

use std::collections::HashSet;
use std::hash::Hash;
use std::iter::zip;

use deltalake::arrow::array::{Array, AsArray, StringArray};
use deltalake::arrow::datatypes::{
    DataType, Date32Type, Field, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use deltalake::parquet::basic::{Compression, Encoding};
use deltalake::parquet::file::properties::WriterPropertiesBuilder;
use deltalake::parquet::schema::types::ColumnPath;

use crate::limits::UNCOMPRESSED_COLUMN_BYTES_MAX;

/// Values looked at.
const SAMPLE_ROWS: usize = 1000;

/// Pages of longer texts are as large as these, whatever a page should be.
const LONG_TEXT_BYTES: usize = 64 * 1024;

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The writer's default; falls back to plain values if there are too many.
    Dictionary,
    /// One after the other, or as differences of some kind.
    Each(Encoding),
}

/// Sets how the column is written, by the values of a batch of it and by its bytes, decoded.
pub(super) fn set_form(
    properties: WriterPropertiesBuilder,
    field: &Field,
    values: &dyn Array,
    bytes: usize,
) -> WriterPropertiesBuilder {
    let mut path = vec![field.name().clone()];
    let mut values = values;
    if let (DataType::List(element), Some(list)) = (field.data_type(), values.as_list_opt::<i32>()) {
        path.extend(["list".to_owned(), element.name().clone()]);
        values = list.values();
    }
    let path = ColumnPath::new(path);
    let properties = match form(values) {
        Form::Dictionary => properties,
        Form::Each(encoding) => {
            properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path.clone(), encoding)
        }
    };
    let is_small = bytes <= UNCOMPRESSED_COLUMN_BYTES_MAX;
    if is_small { properties.set_column_compression(path, Compression::UNCOMPRESSED) } else { properties }
}

fn form(values: &dyn Array) -> Form {
    let each = |encoding| move |repeats: bool| if repeats { Form::Dictionary } else { Form::Each(encoding) };
    let number = each(Encoding::DELTA_BINARY_PACKED);
    if let Some(texts) = values.as_string_opt::<i32>() {
        // The encoders of differences hold a page twice, and a page has at least one value.
        if longest(texts) > LONG_TEXT_BYTES {
            return Form::Each(Encoding::PLAIN);
        }
        let sample: Vec<&str> = texts.iter().flatten().take(SAMPLE_ROWS).collect();
        return each(of_texts(&sample))(repeats(sample.iter().copied()));
    }
    if let Some(wholes) = values.as_primitive_opt::<Int64Type>() {
        return number(repeats(wholes.iter().flatten()));
    }
    if let Some(wholes) = values.as_primitive_opt::<Int32Type>() {
        return number(repeats(wholes.iter().flatten()));
    }
    if let Some(times) = values.as_primitive_opt::<TimestampMicrosecondType>() {
        return number(repeats(times.iter().flatten()));
    }
    if let Some(dates) = values.as_primitive_opt::<Date32Type>() {
        return number(repeats(dates.iter().flatten()));
    }
    if let Some(doubles) = values.as_primitive_opt::<Float64Type>() {
        return each(Encoding::PLAIN)(repeats(doubles.iter().flatten().map(f64::to_bits)));
    }
    // Payloads of rejects: a dictionary of them would be a copy of megabytes beside the page.
    each(Encoding::PLAIN)(values.data_type() != &DataType::Binary)
}

fn longest(texts: &StringArray) -> usize {
    let lengths = texts.offsets().windows(2).map(|ends| ends[1] - ends[0]);
    lengths.max().and_then(|length| usize::try_from(length).ok()).unwrap_or_default()
}

/// Whether most of the first values occur more than once. Without any there is nothing to write.
fn repeats<T: Eq + Hash>(values: impl Iterator<Item = T>) -> bool {
    const MANY: usize = SAMPLE_ROWS / 2;
    let (mut distinct, mut count) = (HashSet::with_capacity(MANY + 1), 0);
    for value in values.take(SAMPLE_ROWS) {
        count += 1;
        distinct.insert(value);
        // More than half of the whole sample: the rest cannot change it.
        if distinct.len() > MANY {
            return false;
        }
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

#[cfg(test)]
mod tests {
    use deltalake::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array};

    use super::*;

    #[test]
    fn a_dictionary_is_for_what_repeats_itself_and_differences_for_what_does_not() {
        let texts = |text: fn(usize) -> String| StringArray::from_iter_values((0..2000).map(text));
        let of = |values: &dyn Array| form(values);
        assert_eq!(of(&texts(|n| (n % 20).to_string())), Form::Dictionary);
        assert_eq!(of(&texts(|n| format!("{} and more", n * 7919))), Form::Each(Encoding::DELTA_LENGTH_BYTE_ARRAY));
        assert_eq!(of(&texts(|n| format!("4959033827149025660{n:04}"))), Form::Each(Encoding::DELTA_BYTE_ARRAY));
        let with_a_long_one = |n: usize| if n == 1999 { "x".repeat(LONG_TEXT_BYTES + 1) } else { (n % 20).to_string() };
        assert_eq!(of(&texts(with_a_long_one)), Form::Each(Encoding::PLAIN), "though most repeat themselves");
        assert_eq!(of(&Int64Array::from_iter_values((0..2000).map(|n| n % 20))), Form::Dictionary);
        assert_eq!(of(&Int64Array::from_iter_values(0..2000)), Form::Each(Encoding::DELTA_BINARY_PACKED));
        let doubles = Float64Array::from_iter_values((0..2000).map(f64::from));
        assert_eq!(of(&doubles), Form::Each(Encoding::PLAIN));
        assert_eq!(of(&BooleanArray::from(vec![true, false])), Form::Dictionary);
        let nothing: ArrayRef = std::sync::Arc::new(Int64Array::new_null(9));
        assert_eq!(of(&nothing), Form::Dictionary);
    }
}
