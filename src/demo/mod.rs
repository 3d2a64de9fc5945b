//! The demo.

pub mod accepted;
pub mod kinesis;
pub mod latency;
pub mod pinterest;
pub mod producer;
pub mod readback;
