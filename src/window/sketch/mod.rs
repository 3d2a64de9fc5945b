//! The measures that are estimates: sketches of Apache DataSketches, whose bytes other engines read and merge.
//!
//! A sketch exists from its second value on: one value is kept as it is, so that a million keys of one record cost
//! little, and the early forms of all three are small. What is said of them:
//!
//! - *Distinct* is read by the composite estimator, which depends on nothing but the registers; those are the same
//!   for the same values in any order and any split. So it is one number everywhere.
//! - *Quantiles* are exact as long as the sketch keeps every value. Beyond, it tosses a coin for each compaction, so
//!   two runs over the same values agree within the stated error and not in every digit.
//! - *Top* is exact as long as there is a slot for every value; beyond, `error` says by how much a count may be too
//!   large.

mod distinct;
mod quantiles;
mod top;

use datasketches::error::Error;

pub use self::distinct::Distinct;
pub use self::quantiles::Quantiles;
pub use self::top::Top;

/// Registers of an HLL sketch are below this: six bits.
const REGISTER_END: u8 = 64;

/// Bytes that are not a sketch of ours.
#[derive(Debug, thiserror::Error)]
pub enum SketchError {
    /// Not the format.
    #[error("{0}")]
    Unreadable(#[from] Error),
    /// No hash has so many leading zeros.
    #[error("it has a register {0}, and a register is below {REGISTER_END}")]
    Register(u8),
    /// Of another size than every sketch of this measure has.
    #[error("it was made with {name} = {found}, ours with {expected}")]
    Foreign {
        /// The parameter.
        name: &'static str,
        /// What the bytes say.
        found: usize,
        /// What ours say.
        expected: usize,
    },
}

fn expect(name: &'static str, found: usize, expected: usize) -> Result<(), SketchError> {
    if found == expected { Ok(()) } else { Err(SketchError::Foreign { name, found, expected }) }
}
