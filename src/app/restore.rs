//! What a live window begins with.

use crate::lake::{LakeError, StreamLake};
use crate::window::StreamWindows;

/// Fills a live window with what is recent in the lake, as far as `files_max` files go. Returns the version of the rows
/// table up to which that is all.
pub async fn restore(
    windows: &StreamWindows,
    lake: &StreamLake,
    window: usize,
    now_us: i64,
    files_max: usize,
) -> Result<u64, LakeError> {
    let recent = lake.recent_partials(window, windows.restored_since_us(window, now_us), files_max).await?;
    windows.restore_from(window, recent.since_us);
    recent.each(|rows| windows.restore(window, rows)).await?;
    if let Some(why) = recent.left_out {
        tracing::warn!(why, "live window starts in part");
        windows.restored_in_part(window, why);
    }
    Ok(recent.through)
}
