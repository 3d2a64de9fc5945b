//! How a follower tells the sealer that it is worth a look: its window may be closed now, or got a late record.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Rung by those who write partials, heard by whoever seals. What is not heard is found by looking now and then. Cheap
/// to clone.
#[derive(Debug, Clone, Default)]
pub struct SealBell(Arc<Rung>);

#[derive(Debug, Default)]
struct Rung {
    tables: Mutex<BTreeSet<String>>,
    notify: Notify,
}

impl SealBell {
    /// Something happened in this partials table.
    pub fn ring(&self, table: &str) {
        self.0.tables.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned());
        self.0.notify.notify_one();
    }

    /// Returns when it was rung, with the tables for which it was.
    pub async fn rung(&self) -> BTreeSet<String> {
        loop {
            let tables = std::mem::take(&mut *self.0.tables.lock().unwrap_or_else(PoisonError::into_inner));
            if !tables.is_empty() {
                return tables;
            }
            self.0.notify.notified().await;
        }
    }
}
