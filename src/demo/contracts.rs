//! The shipped contracts, inside the binary: the demo runs from any folder.

use super::pinterest::Kind;

/// A stream's contract as shipped: the file's name, for messages, and its text.
pub fn shipped(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Pin => ("schemas/pin.toml", include_str!("../../schemas/pin.toml")),
        Kind::Geo => ("schemas/geo.toml", include_str!("../../schemas/geo.toml")),
        Kind::User => ("schemas/user.toml", include_str!("../../schemas/user.toml")),
    }
}
