//! A body that was read, behind the SDK's trait for whoever reads values.
//!
//! The SDK asks a structure for its members, a list for its elements and a value for itself, once each; so what is
//! asked for is given away and not copied.

use std::borrow::Cow;

use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_smithy_schema::Schema;
use aws_smithy_schema::serde::{SerdeError, ShapeDeserializer};
use aws_smithy_types::{BigDecimal, BigInteger, Document};

use super::body::{Body, Recorded};

type OfMember<'c> = &'c mut dyn FnMut(&Schema<'_>, &mut dyn ShapeDeserializer) -> Result<(), SerdeError>;
type OfElement<'c> = &'c mut dyn FnMut(&mut dyn ShapeDeserializer) -> Result<(), SerdeError>;
type OfEntry<'c> = &'c mut dyn FnMut(String, &mut dyn ShapeDeserializer) -> Result<(), SerdeError>;

/// What the SDK may ask next.
#[derive(Debug, Default)]
pub(super) enum Answer<'a> {
    Body(Body<'a>),
    Records(Vec<Recorded<'a>>),
    Record(Recorded<'a>),
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
    Time(DateTime),
    Whole(i64),
    #[default]
    Given,
}

/// The SDK asked for a shape that the member has not. Its schema and its readers are made from one model.
fn unlike_the_schema() -> SerdeError {
    SerdeError::type_mismatch("a member of GetRecords is asked for another shape than its schema's")
}

fn give(consumer: OfMember<'_>, schema: &Schema<'_>, name: &str, member: Option<Answer<'_>>) -> Result<(), SerdeError> {
    let Some(mut member) = member else { return Ok(()) };
    consumer(schema.member_schema(name).ok_or_else(|| SerdeError::unknown_member(name))?, &mut member)
}

/// Shapes that no member of GetRecords has.
macro_rules! no_member_is {
    ($($read:ident -> $value:ty),* $(,)?) => {
        $(fn $read(&mut self, _schema: &Schema<'_>) -> Result<$value, SerdeError> {
            Err(unlike_the_schema())
        })*
    };
}

impl ShapeDeserializer for Answer<'_> {
    fn read_struct(&mut self, schema: &Schema<'_>, consumer: OfMember<'_>) -> Result<(), SerdeError> {
        match std::mem::take(self) {
            Answer::Body(body) => {
                give(consumer, schema, "Records", body.records.map(Answer::Records))?;
                let next = body.next_shard_iterator.map(|next| Answer::Text(next.into()));
                give(consumer, schema, "NextShardIterator", next)?;
                give(consumer, schema, "MillisBehindLatest", body.millis_behind_latest.map(Answer::Whole))
            }
            Answer::Record(record) => {
                let number = record.sequence_number.map(|number| Answer::Text(number.into()));
                give(consumer, schema, "SequenceNumber", number)?;
                give(consumer, schema, "ApproximateArrivalTimestamp", record.arrived_at.map(Answer::Time))?;
                give(consumer, schema, "Data", record.data.map(Answer::Bytes))?;
                give(consumer, schema, "PartitionKey", record.partition_key.map(Answer::Text))?;
                let encryption = record.encryption_type.map(|encryption| Answer::Text(encryption.into()));
                give(consumer, schema, "EncryptionType", encryption)
            }
            Answer::Records(_)
            | Answer::Text(_)
            | Answer::Bytes(_)
            | Answer::Time(_)
            | Answer::Whole(_)
            | Answer::Given => Err(unlike_the_schema()),
        }
    }

    fn read_list(&mut self, _schema: &Schema<'_>, consumer: OfElement<'_>) -> Result<(), SerdeError> {
        let Answer::Records(records) = std::mem::take(self) else { return Err(unlike_the_schema()) };
        records.into_iter().try_for_each(|record| consumer(&mut Answer::Record(record)))
    }

    fn read_map(&mut self, _schema: &Schema<'_>, _consumer: OfEntry<'_>) -> Result<(), SerdeError> {
        Err(unlike_the_schema())
    }

    fn read_long(&mut self, _schema: &Schema<'_>) -> Result<i64, SerdeError> {
        let Answer::Whole(whole) = std::mem::take(self) else { return Err(unlike_the_schema()) };
        Ok(whole)
    }

    fn read_string(&mut self, _schema: &Schema<'_>) -> Result<String, SerdeError> {
        let Answer::Text(text) = std::mem::take(self) else { return Err(unlike_the_schema()) };
        Ok(text.into_owned())
    }

    fn read_blob(&mut self, _schema: &Schema<'_>) -> Result<Blob, SerdeError> {
        let Answer::Bytes(bytes) = std::mem::take(self) else { return Err(unlike_the_schema()) };
        Ok(Blob::new(bytes))
    }

    fn read_timestamp(&mut self, _schema: &Schema<'_>) -> Result<DateTime, SerdeError> {
        let Answer::Time(time) = std::mem::take(self) else { return Err(unlike_the_schema()) };
        Ok(time)
    }

    no_member_is!(
        read_boolean -> bool,
        read_byte -> i8,
        read_short -> i16,
        read_integer -> i32,
        read_float -> f32,
        read_double -> f64,
        read_big_integer -> BigInteger,
        read_big_decimal -> BigDecimal,
        read_document -> Document,
    );

    fn is_null(&self) -> bool {
        false
    }

    fn skip_value(&mut self) -> Result<(), SerdeError> {
        *self = Answer::Given;
        Ok(())
    }

    fn container_size(&self) -> Option<usize> {
        let Answer::Records(records) = self else { return None };
        Some(records.len())
    }
}
