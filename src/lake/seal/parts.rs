//! The merged rows of a stretch of starts, however many files they are in.
//!
//! Merged rows come in the order of their starts, so a stretch may as well be merged part after part: all of it, if what its
//! files hold side by side has room in memory, and else as many of its starts at a time as have. What is in too many
//! files then is a single start, which only compaction can mend.

use super::tail::Tail;
use crate::contract::WindowPlan;
use crate::lake::merge::{Disordered, Merge, MergeError, MergePlan, Mergeable, Starts};
use crate::window::merging::Group;

/// See the file's head.
pub(super) struct Parts<'a, T> {
    /// Its starts are what is left: the part that is being merged, and those behind it.
    plan: MergePlan<'a>,
    tail: &'a Tail,
    disordered: &'a Disordered,
    /// The part that is being merged, and the start that it ends before.
    part: Option<(Merge<'a, T>, i64)>,
    /// How long a part is tried to be.
    length_us: i64,
}

impl<'a, T: Mergeable> Parts<'a, T> {
    /// Of these files of the table, the starts of the plan.
    pub async fn open(plan: MergePlan<'a>, tail: &'a Tail, disordered: &'a Disordered) -> Result<Self, MergeError> {
        let mut parts = Self { plan, tail, disordered, part: None, length_us: i64::MAX };
        parts.open_part().await?;
        Ok(parts)
    }

    /// The next group; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<(Group, T)>, MergeError> {
        while let Some((merge, to_us)) = &mut self.part {
            if let Some(row) = merge.next().await? {
                return Ok(Some(row));
            }
            self.plan.starts.from_us = *to_us;
            self.part = None;
            self.length_us = self.length_us.saturating_mul(2);
            self.open_part().await?;
        }
        Ok(None)
    }

    async fn open_part(&mut self) -> Result<(), MergeError> {
        let left = self.plan.starts;
        let span_us = self.tail.span_us(left).filter(|_| left.from_us < left.to_us);
        let Some((first_us, _)) = span_us else { return Ok(()) };
        let mut starts = Starts { to_us: left.to_us.min(first_us.saturating_add(self.length_us)), ..left };
        loop {
            let plan = MergePlan { starts, ..self.plan };
            let error = match Merge::open(plan, &self.tail.files(starts), self.disordered).await {
                Ok(merge) => {
                    self.part = Some((merge, starts.to_us));
                    return Ok(());
                }
                Err(error) => error,
            };
            let half_us = self.tail.span_us(starts).and_then(|span_us| half_us(plan.window, span_us));
            match (error, half_us) {
                (MergeError::TooMany, Some(half_us)) => {
                    starts.to_us = half_us;
                    self.length_us = half_us.saturating_sub(first_us);
                }
                // Of this table, whoever else has files.
                (error @ MergeError::TooMany, None) => return Err(error.of(plan.table).into()),
                (error, _) => return Err(error),
            }
        }
    }
}

/// Where the second half of the panes from the first of these to the second begins; `None` if they are one.
fn half_us(window: &WindowPlan, (first_us, last_us): (i64, i64)) -> Option<i64> {
    let pane = |us: i64| us.div_euclid(window.pane_us);
    let (first, last) = (pane(first_us), pane(last_us));
    (first < last).then(|| (first + (last - first) / 2 + 1).saturating_mul(window.pane_us))
}
