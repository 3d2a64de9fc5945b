//! Heavy work takes turns: what sealing, maintenance or a look at what is sealed holds of a table in memory is held
//! once, whoever of them is at it.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

/// Shared by all who take turns, who get it in the order in which they asked. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Turn(Arc<Mutex<()>>);

impl Turn {
    /// Waits for one's turn, which ends with what is returned.
    pub async fn taken(&self) -> MutexGuard<'_, ()> {
        self.0.lock().await
    }
}
