//! The demo: the whole house on one machine, and the posting emulation that feeds it.
//!
//! [`pinterest`] is the data set: who posted what, and the loop that posts it. [`producer`] puts it into any Kinesis
//! ([`kinesis`] is one in this process) and books what was acknowledged in an [`accepted::AcceptedLog`]. The processor
//! tells a [`latency::LatencyProbe`] how far it is. At the end [`readback`] opens the tables as a stranger would and
//! [`report`] says what was lost, doubled, altered, rejected, and how long it took. Load tests use the same pieces, and
//! [`aggregate`].

pub mod accepted;
mod aggregate;
pub mod args;
pub mod contracts;
pub mod fingerprint;
pub mod kinesis;
pub mod latency;
pub mod pinterest;
mod post;
pub mod producer;
mod progress;
pub mod readback;
pub mod report;
mod run;

pub use aggregate::aggregate;
pub use args::{DemoArgs, PostArgs};
pub use pinterest::Kind;
pub use post::{PostSummary, post};
pub use readback::StreamTables;
pub use run::{NotEmpty, Processor, ProcessorSetup, run};
