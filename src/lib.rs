//! Pintail: JSON from Kinesis, cleaned by contract, into Delta tables and live windows, exactly once.
//!
//! ```text
//!         ┌────────┐   RawBatch   ┌───────┐  CleanBatch  ┌────────┐        ┌──────┐
//! Kinesis │ source │ ───────────▶ │ clean │ ───────────▶ │ window │ ─────▶ │ lake │ ──▶ Delta tables
//!         └────────┘              └───────┘              └────────┘        └──────┘
//!             ▲                                              │ live view       │ positions
//!             └───────────────── start positions ────────────┼─────────────────┘
//!                                                            ▼
//!                                                     serve: /metrics, API, live page
//! ```
//!
//! # Four rooms, in the order in which a record walks them
//!
//! - [`source`] reads shards: who may be read when, at what pace, from where. Only `source/kinesis.rs`, its protocol
//!   beside it, and the demo's producer know the Kinesis SDK.
//! - [`clean`] turns bytes into rows or rejects by a compiled [`contract`]. Pure: no I/O, no clock.
//! - [`window`] counts rows in live windows, says what a flush adds to them, and adds that up again. Pure, but for its
//!   map.
//! - [`lake`] encodes, uploads and commits; it is the only owner of positions.
//!
//! Between them only the words of [`record`] and [`checkpoint`], paid for by [`budget`] and worked on [`cores`]. Only
//! [`app`] knows all rooms. [`serve`] shows what they do; [`demo`] is the whole thing on one machine.
//!
//! # What always holds
//!
//! - Read = rows + rejects, for every batch. A position comes from a response, never from what survived cleaning.
//! - Rows and the positions they cover are one commit, made by compare-and-swap on those positions. Whoever loses
//!   drops its rows. Nothing else decides what has been processed.
//! - A read holds a permit before it starts and until its commit; nothing downstream waits for one.
//! - A shard is in the ledger before it is read; a child is read after all its parents' ends are committed.
//! - The engine knows no stream, column or sentinel by name, asks one clock ([`clock`]), and has no `unsafe`.

pub mod allocator;
pub mod app;
pub mod budget;
pub mod checkpoint;
pub mod clean;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contract;
pub mod cores;
pub mod demo;
pub mod error_chain;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod lake;
pub mod limits;
pub mod metrics;
pub mod record;
mod say;
pub mod serve;
pub mod source;
pub mod status;
pub mod tell;
pub mod toml_doc;
pub mod window;
