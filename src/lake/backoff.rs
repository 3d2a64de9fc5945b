//! How long to wait before something is tried again: longer and longer, and not in step with others who wait.

use std::time::Duration;

use uuid::Uuid;

const BACKOFF_MS_MIN: u64 = 20;
const BACKOFF_MS_MAX: u64 = 1000;

/// How long to wait before attempt `attempt + 1`: doubling, with half of it by chance so that two losers part.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let full_ms = (BACKOFF_MS_MIN << attempt.min(10)).min(BACKOFF_MS_MAX);
    let chance = Uuid::new_v4().as_u128() as u64 % (full_ms / 2 + 1);
    Duration::from_millis(full_ms / 2 + chance)
}
