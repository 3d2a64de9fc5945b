//! Pintail: JSON from Kinesis, cleaned by contract, into Delta tables and live windows, exactly once.

pub mod budget;
pub mod checkpoint;
pub mod clock;
pub mod contract;
pub mod demo;
pub mod limits;
pub mod metrics;
pub mod record;
pub mod status;
pub mod toml_doc;
