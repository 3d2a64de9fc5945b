//! What a table says of itself, short enough to compare: rows, and of each column nulls and a sum.
//!
//! Sums do not depend on the order of rows. That of texts is their length and a sum of their hashes, so that another
//! text of the same length is another sum.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use deltalake::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

/// Doubles are added in another order by whoever reads in another order.
const SAME_SUM: f64 = 1e-9;

/// A table's.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Profile {
    /// Rows.
    pub rows: u64,
    /// By the column's name.
    pub columns: BTreeMap<String, Column>,
}

/// A column's.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Column {
    /// Null values; of a list, null lists.
    pub nulls: u64,
    /// Of whole numbers and of times in microseconds; of texts, their bytes.
    pub whole: i128,
    /// Of doubles, also of those in lists, and of their absolute values.
    pub real: (f64, f64),
    /// Of texts: the sum of their hashes.
    pub hashes: u64,
}

impl Profile {
    /// Of the Parquet files of a folder, or of one file. Columns that begin with `_` are a table's bookkeeping.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let files = match path.is_dir() {
            true => std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?,
            false => vec![path.to_owned()],
        };
        let mut profile = Self::default();
        for file in files.iter().filter(|file| file.extension().is_some_and(|it| it == "parquet")) {
            let name = || file.display().to_string();
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).with_context(name)?)?.build()?;
            for batch in reader {
                profile.add(&batch.with_context(name)?).with_context(name)?;
            }
        }
        Ok(profile)
    }

    /// Adds a batch's rows.
    pub fn add(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.rows += batch.num_rows() as u64;
        for (field, values) in batch.schema().fields().iter().zip(batch.columns()) {
            if !field.name().starts_with('_') {
                let column = self.columns.entry(field.name().clone()).or_default();
                column.add(values).with_context(|| format!("column {}", field.name()))?;
            }
        }
        Ok(())
    }

    /// How `other` differs from this, which is the truth; nothing if it does not.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.rows != other.rows {
            found.push(format!("{} rows instead of {}", other.rows, self.rows));
        }
        for (name, column) in &self.columns {
            match other.columns.get(name) {
                None => found.push(format!("no column {name}")),
                Some(theirs) => found.extend(column.difference(theirs).map(|how| format!("{name}: {how}"))),
            }
        }
        let more = other.columns.keys().filter(|name| !self.columns.contains_key(*name));
        found.extend(more.map(|name| format!("a column {name} too many")));
        found
    }
}

impl Column {
    #[expect(clippy::wildcard_enum_match_arm, reason = "Arrow's enum, not ours")]
    fn add(&mut self, values: &ArrayRef) -> anyhow::Result<()> {
        self.nulls += values.null_count() as u64;
        match values.data_type() {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                let numbers = cast(values, &DataType::Int64)?;
                self.whole += numbers.as_primitive::<Int64Type>().iter().flatten().map(i128::from).sum::<i128>();
            }
            DataType::Timestamp(_, _) => {
                let times = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
                let times = times.as_primitive::<TimestampMicrosecondType>();
                self.whole += times.iter().flatten().map(i128::from).sum::<i128>();
            }
            DataType::Float64 => {
                for number in values.as_primitive::<Float64Type>().iter().flatten() {
                    self.real = (self.real.0 + number, self.real.1 + number.abs());
                }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let texts = cast(values, &DataType::LargeUtf8)?;
                for text in texts.as_string::<i64>().iter().flatten() {
                    self.whole += text.len() as i128;
                    let mut hasher = DefaultHasher::new();
                    hasher.write(text.as_bytes());
                    self.hashes = self.hashes.wrapping_add(hasher.finish());
                }
            }
            DataType::List(_) => self.add_elements(values)?,
            DataType::LargeList(element) => self.add_elements(&cast(values, &DataType::List(Arc::clone(element)))?)?,
            other => bail!("a column of type {other}, which no contract has"),
        }
        Ok(())
    }

    fn add_elements(&mut self, lists: &ArrayRef) -> anyhow::Result<()> {
        let mut inside = Self::default();
        for list in lists.as_list::<i32>().iter().flatten() {
            inside.add(&list)?;
        }
        self.real = (self.real.0 + inside.real.0, self.real.1 + inside.real.1);
        Ok(())
    }

    fn difference(&self, other: &Self) -> Option<String> {
        if self.nulls != other.nulls {
            return Some(format!("{} nulls instead of {}", other.nulls, self.nulls));
        }
        if self.whole != other.whole {
            return Some(format!("the sum is {} instead of {}", other.whole, self.whole));
        }
        if self.hashes != other.hashes {
            return Some("other texts of the same lengths".to_owned());
        }
        let ((ours, of_all), (theirs, _)) = (self.real, other.real);
        ((ours - theirs).abs() > of_all.max(1.0) * SAME_SUM).then(|| format!("the sum is {theirs} instead of {ours}"))
    }
}

#[cfg(test)]
mod tests {
    use deltalake::arrow::array::{Float64Array, Int32Array, Int64Array, LargeStringArray, ListArray, StringArray};

    use super::*;

    fn profile(columns: Vec<(&str, ArrayRef)>) -> Profile {
        let mut profile = Profile::default();
        profile.add(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        profile
    }

    fn table(ages: [Option<i32>; 3], names: [Option<&str>; 3], places: [Option<[f64; 2]>; 3]) -> Profile {
        let places = places.map(|place| place.map(|both| both.map(Some)));
        profile(vec![
            ("age", Arc::new(Int32Array::from(ages.to_vec()))),
            ("name", Arc::new(StringArray::from(names.to_vec()))),
            ("place", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(places))),
        ])
    }

    const AGES: [Option<i32>; 3] = [Some(30), None, Some(7)];
    const NAMES: [Option<&str>; 3] = [Some("Ann"), Some("Bo"), None];
    const PLACES: [Option<[f64; 2]>; 3] = [Some([1.5, -170.0]), None, Some([0.25, 0.0])];

    #[test]
    fn a_planted_difference_is_found_and_named() {
        let truth = table(AGES, NAMES, PLACES);
        assert_eq!(truth.differences(&truth), [""; 0]);
        let found = |other: Profile| truth.differences(&other).join("; ");
        assert_eq!(found(table([Some(30), Some(0), Some(7)], NAMES, PLACES)), "age: 0 nulls instead of 1");
        assert_eq!(found(table([Some(31), None, Some(7)], NAMES, PLACES)), "age: the sum is 38 instead of 37");
        let other_text = table(AGES, [Some("Anm"), Some("Bo"), None], PLACES);
        assert_eq!(found(other_text), "name: other texts of the same lengths");
        assert_eq!(found(table(AGES, [Some("Ann "), Some("Bo"), None], PLACES)), "name: the sum is 6 instead of 5");
        let no_null_lists = table(AGES, NAMES, [PLACES[0], Some([0.0, 0.0]), PLACES[2]]);
        assert_eq!(found(no_null_lists), "place: 0 nulls instead of 1");
        let moved = table(AGES, NAMES, [Some([1.5, -170.001]), None, Some([0.25, 0.0])]);
        let found = found(moved);
        assert!(found.starts_with("place: the sum is -168.251"), "{found}");
    }

    #[test]
    fn missing_rows_and_columns_are_named() {
        let truth = table(AGES, NAMES, PLACES);
        let shorter =
            profile(vec![("age", Arc::new(Int64Array::from(vec![37]))), ("more", Arc::new(Int64Array::from(vec![1])))]);
        let differences = truth.differences(&shorter);
        assert_eq!(
            differences,
            [
                "1 rows instead of 3",
                "age: 0 nulls instead of 1",
                "no column name",
                "no column place",
                "a column more too many"
            ]
        );
    }

    #[test]
    fn the_order_of_rows_the_width_of_types_and_bookkeeping_make_no_difference() {
        let truth = profile(vec![
            ("age", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
            ("name", Arc::new(StringArray::from(vec!["a", "b"]))),
            ("x", Arc::new(Float64Array::from(vec![0.1, 0.2]))),
            ("_shard_id", Arc::new(StringArray::from(vec!["s", "s"]))),
        ]);
        let other = profile(vec![
            ("age", Arc::new(Int64Array::from(vec![2, 1])) as ArrayRef),
            ("name", Arc::new(LargeStringArray::from(vec!["b", "a"]))),
            ("x", Arc::new(Float64Array::from(vec![0.2, 0.1]))),
        ]);
        assert_eq!(truth.differences(&other), [""; 0]);
    }
}
