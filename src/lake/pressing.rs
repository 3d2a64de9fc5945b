//! Tables whose files are too many for somebody who waits.
//!
//! Sealing merges files side by side, and how many it can is bounded by memory. Compaction decides by what is worth it,
//! which a few dozen files of a table at rest may never be; so who waits for it says so.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by who waits and who compacts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Pressing(Arc<Mutex<BTreeSet<String>>>);

impl Pressing {
    /// Somebody waits for this table. `false`: that was known, and nothing was done about it yet.
    pub(crate) fn add(&self, table: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned())
    }

    /// Whether somebody waited for this table. What is done about it now is done for all who did.
    pub(crate) fn take(&self, table: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(table)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
