//! Merged cells on their way into the window's table: in files of one day each, and of so many days in one commit.

use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::error::ArrowError;

use super::Sealer;
use crate::clock::DAY_US;
use crate::contract::DATE;
use crate::lake::error::LakeError;
use crate::lake::output::{Output, OutputPlan};
use crate::lake::partition::{day_text, is_four_digit_year};
use crate::lake::schema::without;
use crate::limits::{MERGE_OUTPUT_BYTES, PARTIALS_GROUP_BYTES, PARTITIONS_PER_COMMIT_MAX};
use crate::window::merging::{Cell, Group, Sealing, encode_sealed};

/// Merged cells on their way into the window's table.
pub(super) struct Rows<'a> {
    sealer: &'a Sealer,
    sealing: Sealing,
    pub output: Output,
    cells: Vec<(Group, Cell)>,
    cells_bytes: usize,
    day: Option<i64>,
    days: usize,
}

impl<'a> Rows<'a> {
    /// None yet.
    pub fn new(sealer: &'a Sealer, sealing: Sealing) -> Self {
        let plan = OutputPlan {
            table: sealer.spec.name.clone(),
            schema: without(&sealer.plan.sealed_schema, DATE),
            prefix: "seal",
            data_change: true,
            target_bytes: sealer.target_bytes,
            group_bytes: PARTIALS_GROUP_BYTES,
        };
        let output = Output::new(&sealer.store, &sealer.clock, plan, None);
        Self { sealer, sealing, output, cells: Vec::new(), cells_bytes: 0, day: None, days: 0 }
    }

    /// Whether this cell would be of one day too many for a commit.
    pub fn is_full_before(&self, group: &Group) -> bool {
        self.days >= PARTITIONS_PER_COMMIT_MAX && self.day != Some(day_of(group))
    }

    /// Adds a cell, not below the last one.
    pub async fn push(&mut self, group: Group, cell: Cell) -> Result<(), LakeError> {
        let day = Some(day_of(&group));
        if day != self.day {
            self.flush().await?;
            (self.day, self.days) = (day, self.days + 1);
        }
        self.cells_bytes += group.bytes() + cell.bytes();
        self.cells.push((group, cell));
        if self.cells_bytes > MERGE_OUTPUT_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Writes what has gathered, which is of one day.
    async fn flush(&mut self) -> Result<(), LakeError> {
        let cells = std::mem::take(&mut self.cells);
        self.cells_bytes = 0;
        if cells.is_empty() {
            return Ok(());
        }
        let day = self.day.and_then(|day| i32::try_from(day).ok()).filter(|day| is_four_digit_year(*day));
        self.output.turn_to(day.and_then(day_text)).await?;
        let batch =
            self.batch(&cells).map_err(|source| LakeError::Rows { table: self.sealer.spec.name.clone(), source })?;
        self.output.write(&batch).await
    }

    fn batch(&self, cells: &[(Group, Cell)]) -> Result<RecordBatch, ArrowError> {
        let mut batch = encode_sealed(&self.sealer.plan, cells, self.sealing)?;
        batch.remove_column(batch.schema().index_of(DATE)?);
        Ok(batch)
    }

    /// What was written; `None` if that is nothing.
    pub async fn finish(mut self) -> Result<Option<Output>, LakeError> {
        if let Err(error) = self.flush().await {
            self.output.abort().await;
            return Err(error);
        }
        self.output.finish_file().await?;
        Ok((self.output.rows > 0).then_some(self.output))
    }
}

fn day_of(group: &Group) -> i64 {
    group.start_us.div_euclid(DAY_US)
}
