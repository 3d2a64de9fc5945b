//! The source against an embedded Kinesis, and against a scripted one that misbehaves.

mod aggregates;
mod emulator;
mod fake;
mod faults;
mod ranges;
mod retention;
mod rig;
mod takeover;
