//! `where`, a column at a time: which rows all conditions hold for.

use std::cmp::Ordering;

use deltalake::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use deltalake::arrow::datatypes::Float64Type;

use super::group::integers;
use crate::contract::window::{Comparison, Condition, Test};
use crate::contract::{ColumnType, Constant};

/// True for the rows that are counted; `None` if all are. The error is the index of a column that is not of the
/// contract's type.
pub fn mask(conditions: &[Condition], columns: &[ArrayRef]) -> Result<Option<BooleanArray>, usize> {
    let mut kept: Option<Vec<bool>> = None;
    for condition in conditions {
        let column = &columns[condition.column];
        let holds = holds(condition, column).ok_or(condition.column)?;
        match &mut kept {
            Some(kept) => kept.iter_mut().zip(holds).for_each(|(kept, holds)| *kept &= holds),
            None => kept = Some(holds),
        }
    }
    Ok(kept.filter(|kept| kept.contains(&false)).map(BooleanArray::from))
}

/// Row by row. A null is not equal, less or greater, nor different.
fn holds(condition: &Condition, column: &ArrayRef) -> Option<Vec<bool>> {
    let test = &condition.test;
    match test {
        Test::Null => return Some((0..column.len()).map(|row| column.is_null(row)).collect()),
        Test::NotNull => return Some((0..column.len()).map(|row| column.is_valid(row)).collect()),
        Test::Compare(..) | Test::OneOf(_) => {}
    }
    Some(match condition.of {
        ColumnType::String => {
            let texts = column.as_string_opt::<i32>()?.iter();
            let accepts = |text: &str| test.accepts(|with| Some(text.cmp(with.text()?)));
            texts.map(|text| text.is_some_and(accepts)).collect()
        }
        ColumnType::Double => {
            let doubles = column.as_primitive_opt::<Float64Type>()?.iter();
            let accepts = |double: f64| test.accepts(|with| double.partial_cmp(&with.double()?));
            doubles.map(|double| double.is_some_and(accepts)).collect()
        }
        ColumnType::Boolean => {
            let flags = column.as_boolean_opt()?.iter();
            let accepts = |flag: bool| test.accepts(|with| Some(flag.cmp(&with.boolean()?)));
            flags.map(|flag| flag.is_some_and(accepts)).collect()
        }
        ColumnType::Integer
        | ColumnType::Long
        | ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::StringArray
        | ColumnType::LongArray
        | ColumnType::DoubleArray => {
            let accepts = |whole: i64| test.accepts(|with| Some(whole.cmp(&with.whole()?)));
            integers(condition.of, column)?.into_iter().map(|whole| whole.is_some_and(accepts)).collect()
        }
    })
}

impl Test {
    /// Whether a value is counted that stands so to each constant.
    fn accepts(&self, order: impl Fn(&Constant) -> Option<Ordering>) -> bool {
        match self {
            Self::Null => false,
            Self::NotNull => true,
            Self::Compare(comparison, with) => order(with).is_some_and(|order| comparison.accepts(order)),
            Self::OneOf(values) => values.iter().any(|value| order(value) == Some(Ordering::Equal)),
        }
    }
}

impl Comparison {
    /// Whether a value that stands so to the one it is compared with is counted.
    fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}
