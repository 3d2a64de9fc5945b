//! Files whose rows are in no order: put in order in memory, or cut into stretches that are in one.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltalake::parquet::arrow::ProjectionMask;
use futures::TryStreamExt;

use super::file::{BATCH_ROWS_MAX, Cursor, Opened, failed, unmergeable};
use super::{Input, MergeError, MergePlan, Mergeable, Stretches};
use crate::contract::window::WINDOW_START;
use crate::limits::{MERGE_CURSORS_MAX, MERGE_DECODED_BYTES_MAX};
use crate::window::merging::{Group, decode_groups};

/// The wanted rows of a file in disorder, put in order and added up in memory; `None` if there is not as much `room`,
/// bytes. Each of its stretches would have pages of its own in memory, and be sought by decoding all that is before it.
pub(super) async fn gathered<T: Mergeable>(
    plan: MergePlan<'_>,
    input: &Input,
    room: &mut u64,
) -> Result<Option<BTreeMap<Group, T>>, MergeError> {
    let file = Arc::new(Opened::of(plan, input, false).await?);
    let parts = file.parts();
    let pace = file.pace::<T>(plan.window, &parts, MERGE_DECODED_BYTES_MAX);
    let mut cursor: Cursor<T> = Cursor::new(&file, parts, pace);
    let (mut rows, mut bytes): (BTreeMap<Group, T>, u64) = (BTreeMap::new(), 0);
    while let Some(more) = cursor.decode_some(plan).await? {
        for (group, row) in more {
            match rows.get_mut(&group) {
                Some(mine) => {
                    // Sketches grow as they are added up.
                    bytes -= mine.bytes() as u64;
                    mine.add(&row);
                    bytes += mine.bytes() as u64;
                }
                None => {
                    bytes += (group.bytes() + row.bytes()) as u64;
                    rows.insert(group, row);
                }
            }
        }
        if bytes > *room {
            return Ok(None);
        }
    }
    *room -= bytes;
    Ok(Some(rows))
}

/// Finds the ordered stretches of the one of these files that turned out to be in disorder; a second time it is an error.
pub(crate) async fn look_through(
    plan: MergePlan<'_>,
    inputs: &[Input],
    path: String,
    known: &mut Stretches,
) -> Result<(), MergeError> {
    let input = inputs.iter().find(|input| input.path == path);
    let Some(input) = input.filter(|_| !known.contains_key(&path)) else { return Err(MergeError::Disorder(path)) };
    let found = stretches(plan, input).await?;
    tracing::info!(table = plan.table, path, stretches = found.len(), "a file was rewritten in disorder");
    known.insert(path, found);
    Ok(())
}

/// The ordered stretches of a file, by its groups alone; none, if there are more than can be merged.
async fn stretches(plan: MergePlan<'_>, input: &Input) -> Result<Vec<(usize, usize)>, MergeError> {
    let file = Opened::of(plan, input, true).await?;
    let keys = plan.window.keys.iter().map(|key| key.name.as_str());
    let builder = file.builder();
    let mask = ProjectionMask::columns(builder.parquet_schema(), keys.chain([WINDOW_START]));
    let rows = builder.with_projection(mask).with_batch_size(BATCH_ROWS_MAX as usize).build();
    let mut rows = rows.map_err(|source| failed(plan, &file.path, source))?;
    let (mut found, mut from, mut at, mut last): (Vec<_>, usize, usize, Option<Group>) = (Vec::new(), 0, 0, None);
    while let Some(batch) = rows.try_next().await.map_err(|source| failed(plan, &file.path, source))? {
        let groups = decode_groups(plan.window, &batch).map_err(|source| unmergeable(plan, &file.path, source))?;
        for group in groups {
            if last.as_ref().is_some_and(|last| *last > group) {
                found.push((from, at - from));
                from = at;
            }
            last = Some(group);
            at += 1;
        }
        if found.len() > MERGE_CURSORS_MAX {
            return Ok(Vec::new());
        }
    }
    found.push((from, at - from));
    Ok(found)
}
