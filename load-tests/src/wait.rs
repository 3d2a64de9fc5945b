//! Waiting for what can be seen, never for a fixed time.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// Far beyond what anything here takes on a busy machine of two cores.
pub const PATIENCE: Duration = Duration::from_secs(45);

const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Looks until there is something to see; fails, naming `what`, after [`PATIENCE`] or when the look itself fails.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    until_within(PATIENCE, what, look).await
}

/// The same with another patience.
pub async fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain for this: {what}", patience.as_secs());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
