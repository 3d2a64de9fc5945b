//! A contract's Arrow schema as a Delta schema, and whether a table that is already there fits it.
//!
//! Columns are matched by name, so an adopted table may order them as it likes. What the contract has beyond the
//! table is added as nullable columns; what the table has beyond the contract must be nullable and is written as
//! null. Anything that a writer would have to honour and that Pintail does not (constraints, generated columns,
//! column mapping, newer protocols) is refused with both sides printed, never written past.

use std::sync::Arc;

use deltalake::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde_json::{Map, Value, json};

use super::log::TableState;
use crate::contract::window::{DEFINITION, RECORDS, WINDOW_END, WINDOW_START};
use crate::contract::{DATE, SHARD_ID};

/// The newest protocol that Pintail writes: the one that every Delta reader knows.
pub(crate) const READER_VERSION: i64 = 1;
/// See [`READER_VERSION`].
pub(crate) const WRITER_VERSION: i64 = 2;

/// How a table and a contract go together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fit {
    /// As it is.
    Fits,
    /// With these columns added; the schema string has them.
    Adds { columns: Vec<String>, schema_string: String },
    /// Not at all; every reason.
    Refused(Vec<String>),
}

/// The Delta schema as JSON text. Every column is nullable: what is required is the cleaner's business, and a table
/// must not keep the contract from ever relaxing it.
pub(crate) fn schema_string(schema: &Schema) -> Result<String, String> {
    let fields = schema.fields().iter().map(|field| Ok(delta_field(field.name(), delta_type(field.data_type())?)));
    let fields = fields.collect::<Result<Vec<Value>, String>>()?;
    Ok(json!({ "type": "struct", "fields": fields }).to_string())
}

/// A schema but for one column.
pub(crate) fn without(schema: &SchemaRef, name: &str) -> SchemaRef {
    let fields = schema.fields().iter().filter(|field| field.name() != name);
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

fn delta_field(name: &str, data_type: Value) -> Value {
    json!({ "name": name, "type": data_type, "nullable": true, "metadata": {} })
}

fn delta_type(data_type: &DataType) -> Result<Value, String> {
    // Arrow's types are an open set; what the contract can declare is listed here.
    #[expect(clippy::wildcard_enum_match_arm, reason = "Arrow's enum, not ours")]
    let name = match data_type {
        DataType::Utf8 => "string".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "long".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Binary => "binary".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => "timestamp".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::List(element) => {
            let element = delta_type(element.data_type())?;
            return Ok(json!({ "type": "array", "elementType": element, "containsNull": true }));
        }
        other => return Err(format!("Arrow type {other} has no Delta type here")),
    };
    Ok(Value::String(name))
}

/// The Arrow schema of a table's files: its columns but for those that it is partitioned by. `Err` names what a
/// contract cannot declare, and Pintail therefore not rewrite.
pub(crate) fn file_schema(schema_string: &str, partition_columns: &[String]) -> Result<Schema, String> {
    let schema: Value = serde_json::from_str(schema_string).map_err(|error| format!("its schema: {error}"))?;
    let fields = schema.get("fields").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let in_files = fields.iter().filter(|field| !partition_columns.iter().any(|column| column == name_of(field)));
    let arrow_field = |field: &Value| {
        let data_type = arrow_type(field.get("type").unwrap_or(&Value::Null));
        let data_type = data_type.map_err(|reason| format!("column {:?} {reason}", name_of(field)))?;
        Ok(Field::new(name_of(field), data_type, true))
    };
    Ok(Schema::new(in_files.map(arrow_field).collect::<Result<Vec<Field>, String>>()?))
}

/// The inverse of [`delta_type`].
fn arrow_type(data_type: &Value) -> Result<DataType, String> {
    let unknown = || format!("is {data_type}, a type that no contract can declare");
    if let Some(element) = data_type.get("elementType") {
        return Ok(DataType::List(Arc::new(Field::new("element", arrow_type(element)?, true))));
    }
    let name = data_type.as_str().ok_or_else(unknown)?;
    if let Some(digits) = name.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')) {
        let (precision, scale) = digits.split_once(',').ok_or_else(unknown)?;
        let (precision, scale) = (precision.trim().parse().ok(), scale.trim().parse().ok());
        return Ok(DataType::Decimal128(precision.ok_or_else(unknown)?, scale.ok_or_else(unknown)?));
    }
    match name {
        "string" => Ok(DataType::Utf8),
        "integer" => Ok(DataType::Int32),
        "long" => Ok(DataType::Int64),
        "double" => Ok(DataType::Float64),
        "boolean" => Ok(DataType::Boolean),
        "binary" => Ok(DataType::Binary),
        "date" => Ok(DataType::Date32),
        "timestamp" => Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        _ => Err(unknown()),
    }
}

/// Compares a table with the schema and the window definition (partials only) that the contract wants.
pub(crate) fn compare(wanted: &Schema, definition: Option<&str>, table: &TableState) -> Fit {
    let mut problems = protocol_problems(table);
    problems.extend(property_problems(table));
    if table.metadata.partition_columns != [DATE] {
        let found = &table.metadata.partition_columns;
        problems.push(format!("it is partitioned by {found:?}, the contract partitions by [{DATE:?}]"));
    }
    let mut of_columns = Vec::new();
    let compared = compare_columns(wanted, &table.metadata.schema_string, &mut of_columns);
    // A window of a column that has changed has changed with it.
    if of_columns.is_empty() {
        problems.extend(definition.and_then(|definition| definition_problem(definition, wanted, table)));
    }
    problems.extend(of_columns);
    match compared {
        _ if !problems.is_empty() => Fit::Refused(problems),
        None => Fit::Fits,
        Some((columns, schema_string)) => Fit::Adds { columns, schema_string },
    }
}

fn protocol_problems(table: &TableState) -> Vec<String> {
    let protocol = &table.protocol;
    if protocol.reader <= READER_VERSION && protocol.writer <= WRITER_VERSION {
        return Vec::new();
    }
    vec![format!(
        "its protocol is reader {}, writer {} with features {:?}; Pintail writes reader {READER_VERSION}, writer \
         {WRITER_VERSION} (write to a new table instead)",
        protocol.reader, protocol.writer, protocol.features
    )]
}

fn property_problems(table: &TableState) -> Vec<String> {
    let refused = |key: &str, value: &str| match key {
        "delta.setTransactionRetentionDuration" => Some("it lets positions expire; unset it"),
        "delta.columnMapping.mode" if value != "none" => Some("column mapping is not supported"),
        _ if key.starts_with("delta.constraints.") => Some("Pintail does not check constraints; drop it"),
        _ => None,
    };
    let properties = table.metadata.configuration.iter();
    let found = properties.filter_map(|(key, value)| Some((key, value, refused(key, value)?)));
    found.map(|(key, value, reason)| format!("it has the property {key} = {value:?}: {reason}")).collect()
}

/// A definition is a hash. What people can be told of the difference is in the columns: one for each key and measure.
fn definition_problem(definition: &str, wanted: &Schema, table: &TableState) -> Option<String> {
    let found = table.metadata.configuration.get(super::table::DEFINITION_PROPERTY).map_or("none", String::as_str);
    if found == definition {
        return None;
    }
    let has = window_columns(wanted.fields().iter().map(|field| field.name().as_str()));
    let fields: Option<Value> = serde_json::from_str(&table.metadata.schema_string).ok();
    let fields = fields.as_ref().and_then(|schema| schema.get("fields")?.as_array());
    let had = window_columns(fields.into_iter().flatten().map(name_of));
    let difference = if has == had {
        format!(
            "the columns are the same ({}), so `every`, `hop`, `time` or `where` differs, or what one of them is \
             computed from",
            had.join(", ")
        )
    } else {
        let (had, has) = (had.join(", "), has.join(", "));
        format!("`by` or `measure` differs: it has the columns ({had}), the contract asks for ({has})")
    };
    Some(format!(
        "it holds a window of the same name that was declared otherwise: {difference}; give the changed window a new \
         name, what the old one counted stays readable (definition {found}, now {definition})"
    ))
}

/// The keys and measures of a partials table, sorted.
fn window_columns<'a>(columns: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let of_every_window = [WINDOW_START, WINDOW_END, RECORDS, DEFINITION, SHARD_ID, DATE];
    let mut columns: Vec<&str> = columns.filter(|name| !of_every_window.contains(name)).collect();
    columns.sort_unstable();
    columns
}

/// Notes every column that does not fit; otherwise the columns to add, with the schema that has them.
fn compare_columns(wanted: &Schema, found: &str, problems: &mut Vec<String>) -> Option<(Vec<String>, String)> {
    let mut table: Map<String, Value> = match serde_json::from_str(found) {
        Ok(schema) => schema,
        Err(error) => {
            problems.push(format!("its schema cannot be read: {error}"));
            return None;
        }
    };
    let fields = table.get("fields").and_then(Value::as_array).cloned().unwrap_or_default();
    for field in &fields {
        problems.extend(table_column_problems(field, wanted));
    }
    let mut added = Vec::new();
    let mut extended = fields.clone();
    for field in wanted.fields() {
        let data_type = match delta_type(field.data_type()) {
            Ok(data_type) => data_type,
            Err(reason) => {
                problems.push(format!("column {:?}: {reason}", field.name()));
                continue;
            }
        };
        match fields.iter().find(|other| name_of(other) == field.name().as_str()) {
            Some(other) => problems.extend(column_problems(field.name(), &data_type, field.is_nullable(), other)),
            None => {
                let twin = fields.iter().map(name_of).find(|other| other.eq_ignore_ascii_case(field.name()));
                if let Some(twin) = twin {
                    problems.push(format!(
                        "column {twin:?} differs from the contract's {:?} only by case, which Delta does not tell apart",
                        field.name()
                    ));
                }
                added.push(field.name().clone());
                extended.push(delta_field(field.name(), data_type));
            }
        }
    }
    if added.is_empty() {
        return None;
    }
    table.insert("fields".to_owned(), Value::Array(extended));
    Some((added, Value::Object(table).to_string()))
}

fn name_of(field: &Value) -> &str {
    field.get("name").and_then(Value::as_str).unwrap_or("")
}

fn is_nullable(field: &Value) -> bool {
    field.get("nullable").and_then(Value::as_bool).unwrap_or(true)
}

/// What makes a table's column one that we may not write, or not leave out.
fn table_column_problems(field: &Value, wanted: &Schema) -> Vec<String> {
    let mut problems = Vec::new();
    let name = name_of(field);
    let metadata = field.get("metadata").and_then(Value::as_object);
    for (key, value) in metadata.into_iter().flatten().filter(|(key, _)| key.starts_with("delta.")) {
        problems.push(format!("column {name:?} has {key} = {value}, which Pintail does not honour"));
    }
    if !is_nullable(field) && wanted.field_with_name(name).is_err() {
        problems.push(format!("column {name:?} is NOT NULL and the contract does not have it (make it nullable)"));
    }
    problems
}

fn column_problems(name: &str, wanted: &Value, nullable: bool, found: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let found_type = found.get("type").cloned().unwrap_or(Value::Null);
    if found_type != *wanted {
        problems.push(format!(
            "column {name:?} is {found_type} in the table and {wanted} in the contract (a column of another type needs \
             another name, or a new table)"
        ));
    }
    if nullable && !is_nullable(found) {
        problems.push(format!("column {name:?} is NOT NULL in the table and optional in the contract"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_a_contract_can_declare_comes_back_from_the_table() {
        let list = |kind| DataType::List(Arc::new(Field::new("element", kind, true)));
        let types = [
            DataType::Utf8,
            DataType::Int32,
            DataType::Int64,
            DataType::Float64,
            DataType::Boolean,
            DataType::Binary,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Decimal128(38, 0),
            list(list(DataType::Float64)),
        ];
        let field = |(index, kind): (usize, DataType)| Field::new(format!("c{index}"), kind, true);
        let wanted = Schema::new(types.into_iter().enumerate().map(field).collect::<Vec<_>>());
        let text = schema_string(&wanted).unwrap();
        assert_eq!(file_schema(&text, &[]), Ok(wanted.clone()));
        assert_eq!(file_schema(&text, &["c0".to_owned()]).unwrap().fields().len(), 9);
        let foreign = text.replacen("\"string\"", "\"short\"", 1);
        assert!(file_schema(&foreign, &[]).unwrap_err().starts_with("column \"c0\" is \"short\""));
    }
}
