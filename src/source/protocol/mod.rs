//! The SDK's protocol, but for the body of a successful GetRecords, which is read several times as fast.
//!
//! Nearly all that Kinesis sends us is such bodies, and the SDK looks at each of their bytes three times and copies the
//! texts among them. Ours are read in one pass (`body`) through the SDK's own door, so that endpoints, signing,
//! timeouts and errors stay the SDK's. Their records are put on a [`RecordShelf`] beside the SDK's answer (`answer`),
//! which has none: making the SDK's types of them, only to take these apart again, would cost as much as the reading.
//!
//! The reader recognises a body whole or not at all. What it does not recognise, it leaves to the SDK's own reader,
//! from the first byte: odd forms cost time and never a different result, and what is wrong is an error of the SDK's.

mod answer;
mod beside;
mod body;
mod gathered;
mod payloads;
mod spare;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_kinesis::config::ConfigBag;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_smithy_json::protocol::aws_json_rpc::AwsJsonRpcProtocol;
use aws_smithy_runtime_api::http::{Request, Response};
use aws_smithy_schema::codec::DynCodec;
use aws_smithy_schema::protocol::ClientProtocolInner;
use aws_smithy_schema::serde::{SerdeError, SerializableStruct, ShapeDeserializer};
use aws_smithy_schema::{Schema, ShapeId};
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use aws_smithy_types::endpoint::Endpoint;
use aws_smithy_types::error::metadata;

use crate::record::RawRecord;
use answer::Answer;
pub(crate) use beside::Beside;
pub(crate) use spare::Spare;

/// Where one call's records are put if they were read quickly. Found by the protocol in the call's config bag.
#[derive(Debug, Clone, Default)]
pub struct RecordShelf(Arc<Mutex<Option<Vec<RawRecord>>>>);

impl RecordShelf {
    /// The records of the last body, if the SDK's answer is without them.
    pub fn take(&self) -> Option<Vec<RawRecord>> {
        self.put(None)
    }

    fn put(&self, records: Option<Vec<RawRecord>>) -> Option<Vec<RawRecord>> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), records)
    }
}

impl Storable for RecordShelf {
    type Storer = StoreReplace<Self>;
}

/// The protocol that the SDK would use by itself.
pub(crate) fn plain() -> AwsJsonRpcProtocol {
    AwsJsonRpcProtocol::aws_json_1_1().with_default_namespace("com.amazonaws.kinesis")
}

/// AWS JSON 1.1 with a quick reader for the bodies of GetRecords, for calls that have a [`RecordShelf`].
#[derive(Debug)]
pub struct QuickJson {
    plain: AwsJsonRpcProtocol,
    pieces: Spare,
}

impl Default for QuickJson {
    fn default() -> Self {
        Self { plain: plain(), pieces: Spare::pieces() }
    }
}

impl ClientProtocolInner for QuickJson {
    type Request = Request;
    type Response = Response;

    fn protocol_id(&self) -> &ShapeId<'static> {
        self.plain.protocol_id()
    }

    fn serialize_request(
        &self,
        input: &dyn SerializableStruct,
        input_schema: &Schema<'_>,
        endpoint: &str,
        cfg: &ConfigBag,
    ) -> Result<Request, SerdeError> {
        self.plain.serialize_request(input, input_schema, endpoint, cfg)
    }

    fn deserialize_response<'a>(
        &self,
        response: &'a Response,
        output_schema: &Schema<'_>,
        cfg: &'a ConfigBag,
    ) -> Result<Box<dyn ShapeDeserializer + 'a>, SerdeError> {
        if std::ptr::eq(output_schema, GetRecordsOutput::SCHEMA)
            && let Some(shelf) = cfg.load::<RecordShelf>()
            && let Some(bytes) = response.body().bytes()
        {
            let mut body = body::read(bytes, &self.pieces);
            shelf.put(body.as_mut().map(|body| std::mem::take(&mut body.records)));
            if let Some(body) = body {
                return Ok(Box::new(Answer::Body(body)));
            }
            tracing::debug!(bytes = bytes.len(), "a body of GetRecords is left to the SDK's reader");
        }
        self.plain.deserialize_response(response, output_schema, cfg)
    }

    fn parse_error_metadata(&self, response: &Response, cfg: &ConfigBag) -> Result<metadata::Builder, SerdeError> {
        self.plain.parse_error_metadata(response, cfg)
    }

    fn deserialize_error_response<'a>(
        &self,
        response: &'a Response,
        cfg: &'a ConfigBag,
    ) -> Result<Box<dyn ShapeDeserializer + 'a>, SerdeError> {
        self.plain.deserialize_error_response(response, cfg)
    }

    fn update_endpoint(&self, request: &mut Request, endpoint: &Endpoint, cfg: &ConfigBag) -> Result<(), SerdeError> {
        self.plain.update_endpoint(request, endpoint, cfg)
    }

    fn payload_codec(&self) -> Option<&dyn DynCodec> {
        self.plain.payload_codec()
    }

    fn event_stream_media_type(&self) -> Option<&str> {
        self.plain.event_stream_media_type()
    }

    fn parse_event_stream_error_metadata(&self, payload: &[u8]) -> Result<metadata::Builder, SerdeError> {
        self.plain.parse_event_stream_error_metadata(payload)
    }
}
