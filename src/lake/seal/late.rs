//! Late records: those that came after their window was sealed, counted as they come, from the files that brought them.
//!
//! They are counted for people, and noted for whoever corrects. What counts in the end is what anybody finds by taking
//! the difference between partials and sealed rows; of windows whose partials are not kept there is none to be taken,
//! so that their records are counted apart. Each process that seals counts all of them.

use super::revise::Dirty;
use super::tail::Tail;
use super::{Sealed, Sealer};
use crate::lake::commit::TableLog;
use crate::lake::merge::{Input, Merge, MergeError, MergePlan, Starts};
use crate::window::merging::Cell;

impl Sealer {
    /// Records that came since the last look to windows which were sealed before they came.
    pub(super) async fn tell_late(
        &mut self,
        tail: &mut Tail,
        log: &TableLog,
        dropped_us: i64,
        tell: &mut dyn FnMut(Sealed),
    ) -> Result<(), MergeError> {
        let now = self.progress(log.state());
        let (mut late, mut too_late) = (0, 0);
        for fresh in tail.take_fresh() {
            // What somebody else has sealed since our last look was made from this file too, and for that it was in time.
            let is_new = fresh.version > now.from_version;
            let through_us = if is_new { now } else { self.before.unwrap_or_default() }.through_us();
            let dropped = Starts { from_us: i64::MIN, to_us: dropped_us.min(through_us) };
            let sealed = Starts { from_us: dropped.to_us, to_us: through_us };
            if sealed.meet(fresh.starts) {
                late += self.count(&fresh.file, sealed).await?;
            }
            if dropped.meet(fresh.starts) {
                too_late += self.count(&fresh.file, dropped).await?;
            }
        }
        if late > 0 {
            tell(Sealed::Late { records: late });
        }
        if too_late > 0 {
            tell(Sealed::TooLate { records: too_late });
        }
        Ok(())
    }

    async fn count(&mut self, file: &Input, starts: Starts) -> Result<u64, MergeError> {
        let partials = self.plan.partials_table();
        let plan = MergePlan { store: &self.store, table: &partials, window: &self.plan, starts };
        let mut merge = match Merge::<Cell>::open(plan, std::slice::from_ref(file), &self.disordered).await {
            // Its rows are in another file by now; who takes the difference finds them.
            Err(MergeError::Gone(_)) => {
                self.dirty = Dirty::Unknown;
                return Ok(0);
            }
            opened => opened?,
        };
        let mut records = 0;
        while let Some((group, cell)) = merge.next().await? {
            records += cell.records;
            self.dirty.note(group.start_us);
        }
        Ok(records)
    }
}
