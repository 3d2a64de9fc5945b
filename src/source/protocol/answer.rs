//! What the SDK is told of a body that was read: where to go on and how far behind it is. Its records stand beside it
//! already, so the list that the SDK gets is empty.

use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_smithy_schema::Schema;
use aws_smithy_schema::serde::{SerdeError, ShapeDeserializer};
use aws_smithy_types::{BigDecimal, BigInteger, Document};

use super::body::Body;

type OfMember<'c> = &'c mut dyn FnMut(&Schema<'_>, &mut dyn ShapeDeserializer) -> Result<(), SerdeError>;
type OfElement<'c> = &'c mut dyn FnMut(&mut dyn ShapeDeserializer) -> Result<(), SerdeError>;
type OfEntry<'c> = &'c mut dyn FnMut(String, &mut dyn ShapeDeserializer) -> Result<(), SerdeError>;

/// What the SDK may ask next: a structure for its members, a value for itself.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    Body(Body<'a>),
    Text(&'a str),
    Whole(i64),
}

/// The SDK asked for a shape that the member has not. Its schema and its readers are made from one model.
fn unlike_the_schema() -> SerdeError {
    SerdeError::type_mismatch("a member of GetRecords is asked for another shape than its schema's")
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
        let Answer::Body(body) = self else { return Err(unlike_the_schema()) };
        let members = [
            ("NextShardIterator", body.next_shard_iterator.map(Answer::Text)),
            ("MillisBehindLatest", body.millis_behind_latest.map(Answer::Whole)),
        ];
        for (name, member) in members {
            let Some(mut member) = member else { continue };
            consumer(schema.member_schema(name).ok_or_else(|| SerdeError::unknown_member(name))?, &mut member)?;
        }
        Ok(())
    }

    fn read_list(&mut self, _schema: &Schema<'_>, _consumer: OfElement<'_>) -> Result<(), SerdeError> {
        Err(unlike_the_schema())
    }

    fn read_map(&mut self, _schema: &Schema<'_>, _consumer: OfEntry<'_>) -> Result<(), SerdeError> {
        Err(unlike_the_schema())
    }

    fn read_long(&mut self, _schema: &Schema<'_>) -> Result<i64, SerdeError> {
        let Answer::Whole(whole) = self else { return Err(unlike_the_schema()) };
        Ok(*whole)
    }

    fn read_string(&mut self, _schema: &Schema<'_>) -> Result<String, SerdeError> {
        let Answer::Text(text) = self else { return Err(unlike_the_schema()) };
        Ok((*text).to_owned())
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
        read_blob -> Blob,
        read_timestamp -> DateTime,
        read_document -> Document,
    );

    fn is_null(&self) -> bool {
        false
    }

    fn container_size(&self) -> Option<usize> {
        None
    }
}
