//! Pintail under load: a harness, and the end-to-end tests in `tests/`, which are small load tests with a seed.
//!
//! A [`Scene`] is one Kinesis in this process, one lake (a folder, or an [`S3Server`] that fails as it is told) and
//! one set of contracts. On it a [`Poster`] posts the emulation and books what Kinesis acknowledged; a [`Processor`]
//! (Pintail in this process) or a [`Child`] (Pintail in a process of its own, which can be killed or frozen) works;
//! and [`verify`] reads the tables with deltalake's own reader and holds them against the book. What the processor
//! says of itself decides nothing here: it is only asked when what it says is what is tested.
//!
//! The same pieces in long are [`chaos`] (processes die in every phase of their life), [`soak`] (memory under load,
//! and while S3 does not answer), [`keys`] (more keys than memory may hold) and [`growth`] (thousands of commits).
//! [`run`] measures a load in processes of its own, [`peers`] holds the engine's [`rooms`] against other engines.
//! [`series`] runs a profile with one thing changed, in turns. [`cli`] is how they are called, `tests/` has their quick versions.
//!
//! Nothing waits for a fixed time. Everything waits [`until`] something can be seen, for a bounded time.

mod aggregates;
pub mod chaos;
mod child;
pub mod cli;
pub mod compare;
mod gate;
pub mod growth;
mod http;
pub mod keys;
pub mod kinesis_proxy;
mod log_entry;
pub mod peers;
mod poster;
mod processor;
mod reshard;
pub mod rooms;
pub mod run;
mod s3;
mod scene;
mod seed;
pub mod series;
pub mod soak;
mod tables;
mod usage;
mod verify;
mod wait;
mod windows;

pub use child::{Child, die_with_parent};
pub use gate::Gate;
pub use http::{Answer, get, metric};
pub use poster::{DIRT, Poster};
pub use processor::Processor;
pub use s3::{At, Fault, Faults, Held, Request, RuleId, S3Server, Verb};
pub use scene::{Instance, Scene, Settings};
pub use seed::Seed;
pub use tables::Snapshot;
pub use usage::Usage;
pub use verify::{Found, SealedFound, Verdict, look, partials_differing, sealed_differing, verify};
pub use wait::{PATIENCE, until};
pub use windows::{SHIPPED, Window};
