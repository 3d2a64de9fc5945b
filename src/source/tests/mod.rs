//! The source against an embedded Kinesis, and against a scripted one that misbehaves.

mod emulator;
mod fake;
mod faults;
mod ranges;
mod rig;
