//! The columns of one measure, both ways. Names and types are those of [`MeasurePlan::fields`], in its order.

use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayRef, AsArray, BinaryArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
};
use deltalake::arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use deltalake::arrow::error::ArrowError;
use serde_json::{Value, json};

use super::{Undecodable, decode_keys, key_column, timestamps};
use crate::checkpoint::{SequenceNumber, ShardId};
use crate::contract::ColumnType;
use crate::contract::window::{Function, MeasurePlan, PLACE_SUFFIXES, QUANTILES, SKETCH_SUFFIX};
use crate::window::cell::{Compensated, Measure, Scalar};
use crate::window::chosen::{Chosen, End, RecordPlace};
use crate::window::group::{KeyValue, integers};
use crate::window::sketch::{Distinct, Quantiles, SketchError, Top};

// === To the table ===

/// The columns that hold these states.
pub fn encode<'a>(
    plan: &MeasurePlan,
    states: impl Iterator<Item = &'a Measure> + Clone,
    columns: &mut Vec<ArrayRef>,
) -> Result<(), ArrowError> {
    let doubles = |pick: fn(&Measure) -> Option<f64>| -> ArrayRef {
        Arc::new(states.clone().map(pick).collect::<Float64Array>())
    };
    let decimals = |pick: fn(&Measure) -> Option<i128>| -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(states.clone().map(pick).collect::<Decimal128Array>().with_precision_and_scale(38, 0)?))
    };
    let longs =
        |pick: fn(&Measure) -> Option<i64>| -> ArrayRef { Arc::new(states.clone().map(pick).collect::<Int64Array>()) };
    match plan.function {
        Function::Count => columns.push(longs(count)),
        Function::SumInteger(_) => columns.push(decimals(integer_sum)?),
        Function::SumDouble(_) => {
            columns.extend([doubles(|m| double_sum(m).map(|s| s.hi)), doubles(|m| double_sum(m).map(|s| s.lo))])
        }
        Function::MeanInteger(_) => columns.extend([doubles(mean), decimals(integer_sum)?, longs(count)]),
        Function::MeanDouble(_) => columns.extend([
            doubles(mean),
            doubles(|m| double_sum(m).map(|s| s.hi)),
            doubles(|m| double_sum(m).map(|s| s.lo)),
            longs(count),
        ]),
        Function::Min(_, column_type) | Function::Max(_, column_type) => {
            let values: Vec<KeyValue> = states.map(extreme).collect();
            columns.push(key_column(column_type, values.iter()));
        }
        Function::First(_, column_type) | Function::Last(_, column_type) => {
            encode_chosen(column_type, states.map(chosen), columns);
        }
        Function::Distinct(..) => columns.extend([longs(count), sketches(states)]),
        Function::Quantiles(..) => {
            let values: Vec<_> = states.clone().map(quantiles).collect();
            for index in 0..QUANTILES.len() {
                let of_rank = values.iter().map(|values| values.map(|values| values[index]));
                columns.push(Arc::new(of_rank.collect::<Float64Array>()));
            }
            columns.push(sketches(states));
        }
        Function::Top(..) => {
            let shown =
                states.clone().map(|state| top(state).map(|sketch| Value::from_iter(top_json(sketch)).to_string()));
            columns.push(Arc::new(shown.collect::<StringArray>()));
            columns.extend([longs(|state| top(state)?.error().map(|error| error as i64)), sketches(states)]);
        }
    }
    Ok(())
}

fn encode_chosen<'a>(
    column_type: ColumnType,
    states: impl Iterator<Item = Option<&'a Chosen>> + Clone,
    columns: &mut Vec<ArrayRef>,
) {
    let values = states.clone().map(|chosen| chosen.map_or(&KeyValue::Null, |chosen| &chosen.value));
    let places = states.map(|chosen| chosen.map(|chosen| &chosen.place));
    columns.push(key_column(column_type, values));
    columns.push(timestamps(places.clone().map(|place| place.map(|place| place.at_us))));
    columns.push(Arc::new(places.clone().map(|place| Some(place?.shard.as_str())).collect::<StringArray>()));
    columns.push(Arc::new(places.clone().map(|place| Some(place?.sequence.to_string())).collect::<StringArray>()));
    columns.push(Arc::new(places.map(|place| place.map(|place| place.sub)).collect::<Int64Array>()));
}

fn sketches<'a>(states: impl Iterator<Item = &'a Measure>) -> ArrayRef {
    let bytes = states.map(|state| match state {
        Measure::Distinct(sketch) => sketch.to_bytes(),
        Measure::Quantiles(sketch) => sketch.to_bytes(),
        Measure::Top(sketch) => sketch.to_bytes(),
        Measure::Count(_)
        | Measure::SumInteger(_)
        | Measure::SumDouble(_)
        | Measure::Min(_)
        | Measure::Max(_)
        | Measure::MeanInteger(..)
        | Measure::MeanDouble(..)
        | Measure::Chosen(..) => None,
    });
    Arc::new(bytes.collect::<BinaryArray>())
}

fn extreme(state: &Measure) -> KeyValue {
    let (Measure::Min(value) | Measure::Max(value)) = state else { return KeyValue::Null };
    match value {
        Some(Scalar::Integer(value)) => KeyValue::Integer(*value),
        Some(Scalar::Double(value)) => KeyValue::Double(value.to_bits()),
        None => KeyValue::Null,
    }
}

fn chosen(state: &Measure) -> Option<&Chosen> {
    if let Measure::Chosen(_, chosen) = state { chosen.as_deref() } else { None }
}

fn quantiles(state: &Measure) -> Option<[f64; QUANTILES.len()]> {
    if let Measure::Quantiles(sketch) = state { sketch.values() } else { None }
}

fn top(state: &Measure) -> Option<&Top> {
    if let Measure::Top(sketch) = state { sketch.error().map(|_| sketch) } else { None }
}

/// `{"value":"x","count":5}` for each shown value, the most frequent first.
pub fn top_json(sketch: &Top) -> impl Iterator<Item = Value> {
    sketch.shown().into_iter().map(|(value, count)| json!({ "value": value, "count": count }))
}

fn count(state: &Measure) -> Option<i64> {
    if let Measure::Distinct(sketch) = state {
        return Some(sketch.count());
    }
    let (Measure::Count(count) | Measure::MeanInteger(_, count) | Measure::MeanDouble(_, count)) = state else {
        return None;
    };
    Some(*count as i64)
}

fn integer_sum(state: &Measure) -> Option<i128> {
    if let Measure::SumInteger(sum) = state {
        return *sum;
    }
    let Measure::MeanInteger(sum, count) = state else { return None };
    (*count > 0).then_some(*sum)
}

fn double_sum(state: &Measure) -> Option<Compensated> {
    if let Measure::SumDouble(sum) = state {
        return *sum;
    }
    let Measure::MeanDouble(sum, count) = state else { return None };
    (*count > 0).then_some(*sum)
}

/// The readable mean of a state; `None` without values.
pub fn mean(state: &Measure) -> Option<f64> {
    if let Measure::MeanInteger(sum, count) = state {
        return (*count > 0).then(|| *sum as f64 / *count as f64);
    }
    let Measure::MeanDouble(sum, count) = state else { return None };
    (*count > 0).then(|| sum.value() / *count as f64)
}

// === Back from it ===

/// The states in these rows.
pub fn decode(plan: &MeasurePlan, rows: &RecordBatch) -> Result<Vec<Measure>, Undecodable> {
    let columns = Columns { plan, rows };
    let pairs = |hi: Vec<Option<f64>>, lo: Vec<Option<f64>>| -> Vec<Option<Compensated>> {
        hi.into_iter().zip(lo).map(|(hi, lo)| hi.map(|hi| Compensated { hi, lo: lo.unwrap_or(0.0) })).collect()
    };
    Ok(match plan.function {
        Function::Count => {
            columns.longs("")?.into_iter().map(|count| Measure::Count(count.unwrap_or(0) as u64)).collect()
        }
        Function::SumInteger(_) => columns.decimals("")?.into_iter().map(Measure::SumInteger).collect(),
        Function::SumDouble(_) => {
            pairs(columns.doubles("")?, columns.doubles("_lo")?).into_iter().map(Measure::SumDouble).collect()
        }
        Function::MeanInteger(_) => (columns.decimals("_sum")?.into_iter().zip(columns.longs("_count")?))
            .map(|(sum, count)| Measure::MeanInteger(sum.unwrap_or(0), count.unwrap_or(0) as u64))
            .collect(),
        Function::MeanDouble(_) => {
            let sums = pairs(columns.doubles("_sum")?, columns.doubles("_sum_lo")?);
            (sums.into_iter().zip(columns.longs("_count")?))
                .map(|(sum, count)| Measure::MeanDouble(sum.unwrap_or_default(), count.unwrap_or(0) as u64))
                .collect()
        }
        Function::Min(_, column_type) => columns.scalars(column_type)?.into_iter().map(Measure::Min).collect(),
        Function::Max(_, column_type) => columns.scalars(column_type)?.into_iter().map(Measure::Max).collect(),
        Function::First(_, column_type) => columns.chosen(End::First, column_type)?,
        Function::Last(_, column_type) => columns.chosen(End::Last, column_type)?,
        Function::Distinct(..) => columns.sketches(|bytes| Distinct::from_bytes(bytes).map(Measure::Distinct))?,
        Function::Quantiles(..) => columns.sketches(|bytes| Quantiles::from_bytes(bytes).map(Measure::Quantiles))?,
        Function::Top(_, _, shown) => columns.sketches(|bytes| Top::from_bytes(shown, bytes).map(Measure::Top))?,
    })
}

/// The columns of one measure in some rows.
struct Columns<'a> {
    plan: &'a MeasurePlan,
    rows: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    fn missing(&self, suffix: &str) -> Undecodable {
        Undecodable::Column { column: format!("{}{suffix}", self.plan.name) }
    }

    fn column<T>(&self, suffix: &str, cast: impl FnOnce(&'a ArrayRef) -> Option<T>) -> Result<T, Undecodable> {
        let column = self.rows.column_by_name(&format!("{}{suffix}", self.plan.name));
        column.and_then(cast).ok_or_else(|| self.missing(suffix))
    }

    fn longs(&self, suffix: &str) -> Result<Vec<Option<i64>>, Undecodable> {
        self.column(suffix, |column| Some(column.as_primitive_opt::<Int64Type>()?.iter().collect()))
    }

    fn doubles(&self, suffix: &str) -> Result<Vec<Option<f64>>, Undecodable> {
        self.column(suffix, |column| Some(column.as_primitive_opt::<Float64Type>()?.iter().collect()))
    }

    fn decimals(&self, suffix: &str) -> Result<Vec<Option<i128>>, Undecodable> {
        self.column(suffix, |column| Some(column.as_primitive_opt::<Decimal128Type>()?.iter().collect()))
    }

    fn scalars(&self, column_type: ColumnType) -> Result<Vec<Option<Scalar>>, Undecodable> {
        if column_type == ColumnType::Double {
            return Ok(self.doubles("")?.into_iter().map(|value| value.map(Scalar::Double)).collect());
        }
        let values = self.column("", |column| integers(column_type, column))?;
        Ok(values.into_iter().map(|value| value.map(Scalar::Integer)).collect())
    }

    fn chosen(&self, end: End, column_type: ColumnType) -> Result<Vec<Measure>, Undecodable> {
        let [at, shard, sequence, sub] = PLACE_SUFFIXES;
        let values = self.column("", |column| decode_keys(column_type, column))?;
        let times = self.column(at, |column| column.as_primitive_opt::<TimestampMicrosecondType>())?;
        let shards = self.column(shard, |column| column.as_string_opt::<i32>())?;
        let sequences = self.column(sequence, |column| column.as_string_opt::<i32>())?;
        let subs = self.column(sub, |column| column.as_primitive_opt::<Int64Type>())?;
        let places = times.iter().zip(shards).zip(sequences).zip(subs);
        let states = values.into_iter().zip(places).map(|(value, (((at_us, shard), number), sub))| {
            if value == KeyValue::Null {
                return Ok(Measure::Chosen(end, None));
            }
            let place = || {
                let sequence = SequenceNumber::parse(number?).ok()?;
                Some(RecordPlace { at_us: at_us?, shard: ShardId::new(shard?), sequence, sub: sub? })
            };
            let place = place().ok_or_else(|| Undecodable::Place { measure: self.plan.name.clone() })?;
            Ok(Measure::Chosen(end, Some(Box::new(Chosen { place, value }))))
        });
        states.collect()
    }

    fn sketches(
        &self,
        read: impl Fn(Option<&[u8]>) -> Result<Measure, SketchError>,
    ) -> Result<Vec<Measure>, Undecodable> {
        let bytes = self.column(SKETCH_SUFFIX, |column| column.as_binary_opt::<i32>())?;
        let column = || format!("{}{SKETCH_SUFFIX}", self.plan.name);
        let unreadable = |source| Undecodable::Sketch { column: column(), source: Box::new(source) };
        bytes.iter().map(|bytes| read(bytes).map_err(unreadable)).collect()
    }
}
