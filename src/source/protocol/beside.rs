//! What a response of GetRecords has for us beside the SDK's answer, caught as it comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_kinesis::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeDeserializationInterceptorContextRef,
};
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_sdk_kinesis::primitives::{DateTime, DateTimeFormat};

use super::RecordShelf;
use super::gathered::gather;
use super::spare::Spare;
use crate::record::RawRecord;

/// What one read's response has beside the SDK's answer: its `Date` (0 = there was none), and its records if they were
/// read quickly.
#[derive(Debug, Clone)]
pub(crate) struct Beside {
    date_ms: Arc<AtomicI64>,
    records: RecordShelf,
    bodies: Spare,
}

impl Beside {
    /// Of a read whose body goes to this memory.
    pub fn with(bodies: &Spare) -> Self {
        Self { date_ms: Arc::default(), records: RecordShelf::default(), bodies: bodies.clone() }
    }

    /// The records, if the SDK's answer is without them.
    pub fn take_records(&self) -> Option<Vec<RawRecord>> {
        self.records.take()
    }

    /// Kinesis's clock, epoch ms (whole seconds).
    pub fn date_ms(&self) -> Option<i64> {
        Some(self.date_ms.load(Ordering::Acquire)).filter(|ms| *ms > 0)
    }
}

impl Intercept for Beside {
    fn name(&self) -> &'static str {
        "Beside"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        gather(context.response_mut(), &self.bodies);
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let header = context.response().headers().get("date");
        let date = header.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
        self.date_ms.store(date.map_or(0, |date| date.secs() * 1000), Ordering::Release);
        config.interceptor_state().store_put(self.records.clone());
        Ok(())
    }
}
