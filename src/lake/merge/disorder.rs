//! A file whose rows are in no order, read in it all the same: as many of its lowest groups as have room in memory, then
//! those above them, by reading the file once more. However many passes that takes, memory is bounded by the room, and
//! whatever order the rows are in.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::file::{Opened, Reading};
use super::{MergeError, MergePlan, Mergeable};
use crate::limits::MERGE_DECODED_BYTES_MAX;
use crate::window::merging::Group;

/// See the file's head.
pub(super) struct Passes {
    file: Arc<Opened>,
    /// For the rows of one pass, by their estimated bytes; one group has room always.
    room_bytes: u64,
    /// The highest group of the passes before.
    above: Option<Group>,
    is_done: bool,
}

impl Passes {
    pub fn new(file: Arc<Opened>, room_bytes: u64) -> Self {
        Self { file, room_bytes, above: None, is_done: false }
    }

    /// The groups of the next pass, lowest first.
    pub async fn next<T: Mergeable>(&mut self, plan: MergePlan<'_>) -> Result<Option<Vec<(Group, T)>>, MergeError> {
        if self.is_done {
            return Ok(None);
        }
        let pace = self.file.pace::<T>(plan.window, MERGE_DECODED_BYTES_MAX);
        let mut reading = Reading::new(&self.file, pace);
        let mut lowest = Lowest { rows: BTreeMap::new(), bytes: 0, room_bytes: self.room_bytes, below: None };
        while let Some(rows) = reading.decode_some::<T>(plan).await? {
            for (group, row) in rows {
                if self.above.as_ref().is_none_or(|above| group > *above) {
                    lowest.take(group, row);
                }
            }
        }
        self.is_done = lowest.below.is_none();
        self.above = lowest.rows.last_key_value().map(|(group, _)| group.clone());
        Ok(Some(lowest.rows.into_iter().collect()))
    }
}

/// The lowest groups of those that were seen.
struct Lowest<T> {
    rows: BTreeMap<Group, T>,
    bytes: u64,
    room_bytes: u64,
    /// Those from this one on had no room.
    below: Option<Group>,
}

impl<T: Mergeable> Lowest<T> {
    fn take(&mut self, group: Group, row: T) {
        if self.below.as_ref().is_some_and(|below| group >= *below) {
            return;
        }
        match self.rows.get_mut(&group) {
            Some(mine) => {
                // Sketches grow as they are added up.
                self.bytes -= mine.bytes() as u64;
                mine.add(&row);
                self.bytes += mine.bytes() as u64;
            }
            None => {
                self.bytes += (group.bytes() + row.bytes()) as u64;
                self.rows.insert(group, row);
            }
        }
        while self.bytes > self.room_bytes && self.rows.len() > 1 {
            let Some((group, row)) = self.rows.pop_last() else { break };
            self.bytes -= (group.bytes() + row.bytes()) as u64;
            self.below = Some(group);
        }
    }
}
