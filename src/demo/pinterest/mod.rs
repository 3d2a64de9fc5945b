//! The data set: the Pinterest posting emulation of the course, row for row in its order, on synthetic rows that have
//! the original's shapes, rates and awkward values.
//!
//! [`Population`] holds who posted what; [`Emulation`] is the loop that posts it, with as much dirt as asked for.

mod countries;
mod damage;
mod dice;
mod emulation;
mod names;
mod population;
mod quoted;
mod rows;
mod text;
mod twister;
mod words;

pub use emulation::{Action, Emulation, EmulationOptions, Kind, Posting};
pub use population::Population;
pub use rows::TimestampForm;
