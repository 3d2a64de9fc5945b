//! One file that is merged: its wanted row groups one after the other, some rows at a time.
//!
//! What a reader of a column holds is mostly its decompressor, which is large beside a few rows. So a row group whose
//! rows take less than its readers is decoded at once, and its readers go.

use std::collections::VecDeque;
use std::sync::Arc;

use deltalake::arrow::array::RecordBatch;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use deltalake::parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use deltalake::parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use deltalake::parquet::file::statistics::Statistics;
use deltalake::parquet::schema::types::ColumnDescriptor;
use futures::TryStreamExt;

use super::disorder::Passes;
use super::{Input, MergeError, MergePlan, Mergeable, Starts};
use crate::contract::WindowPlan;
use crate::contract::window::WINDOW_START;
use crate::lake::error::{LakeError, is_gone};
use crate::lake::reading::{Source, reader_of};
use crate::limits::{COLUMN_READER_BYTES, PAGE_BYTES, READ_WHOLE_BYTES_MAX};
use crate::window::merging::{Group, Undecodable, decoded_row_bytes};

/// Rows decoded at a time, however small they are; a row group that is decoded at once may have more.
const BATCH_ROWS_MAX: u64 = 8192;

/// A file whose footer was read.
pub(super) struct Opened {
    pub path: String,
    size: u64,
    source: Source,
    metadata: ArrowReaderMetadata,
    /// Row groups that may have a wanted row.
    groups: Vec<usize>,
}

/// How much of a row group is decoded at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    batch_rows: usize,
    /// What it has in memory between two batches, about.
    pub held_bytes: u64,
}

impl Opened {
    pub async fn of(plan: MergePlan<'_>, input: &Input) -> Result<Self, MergeError> {
        let Input { path, size } = input.clone();
        let found = Source::of(plan.store, plan.table, &path, size).await?;
        let (mut source, _) = found.ok_or_else(|| MergeError::Gone(path.clone()))?;
        let footer = source.get_metadata(None).await;
        let metadata = footer.and_then(reader_of).map_err(|source| failed(plan, &path, source))?;
        let groups = wanted_groups(metadata.metadata(), plan.starts);
        Ok(Self { path, size, source, metadata, groups })
    }

    /// What is in memory of it at a time before it is decoded, with what its footer says.
    pub fn encoded_bytes(&self) -> u64 {
        let footer = self.metadata.metadata().memory_size() as u64;
        if self.size <= READ_WHOLE_BYTES_MAX {
            return footer + self.size;
        }
        let largest = self.wanted().map(|group| group.compressed_size().unsigned_abs()).max();
        footer + largest.unwrap_or(0)
    }

    /// How it is read when about so many bytes may be decoded at a time.
    pub fn pace<T: Mergeable>(&self, window: &WindowPlan, decoded_bytes: u64) -> Pace {
        let (row_bytes, readers_bytes) = (self.row_bytes(window), self.readers_bytes::<T>(window));
        let rows = self.groups.iter().map(|group| self.rows(*group)).max().unwrap_or(0);
        let at_once_bytes = row_bytes.saturating_mul(rows as u64);
        if at_once_bytes <= decoded_bytes + readers_bytes {
            return Pace { batch_rows: rows.max(1), held_bytes: at_once_bytes };
        }
        let batch_rows = (decoded_bytes / row_bytes).clamp(1, BATCH_ROWS_MAX);
        let held_bytes = row_bytes * batch_rows + readers_bytes;
        Pace { batch_rows: usize::try_from(batch_rows).unwrap_or(1), held_bytes }
    }

    fn rows(&self, group: usize) -> usize {
        usize::try_from(self.metadata.metadata().row_group(group).num_rows()).unwrap_or(0)
    }

    fn wanted(&self) -> impl Iterator<Item = &RowGroupMetaData> {
        self.groups.iter().map(|group| self.metadata.metadata().row_group(*group))
    }

    /// What one of its wanted rows takes when it is decoded, about. Texts that share a dictionary or a beginning are
    /// longer than they are in a page.
    fn row_bytes(&self, window: &WindowPlan) -> u64 {
        let rows: u64 = self.wanted().map(|group| group.num_rows().unsigned_abs()).sum();
        let decoded_bytes = |column: &ColumnChunkMetaData| {
            let texts = column.unencoded_byte_array_data_bytes().unwrap_or(0);
            column.uncompressed_size().max(texts).unsigned_abs()
        };
        let bytes: u64 = self.wanted().flat_map(RowGroupMetaData::columns).map(decoded_bytes).sum();
        decoded_row_bytes(window) as u64 + bytes / rows.max(1)
    }

    /// What the readers of its columns take within a row group, each with a page.
    fn readers_bytes<T: Mergeable>(&self, window: &WindowPlan) -> u64 {
        let taken = T::columns(window);
        let is_taken = |root: &String| taken.as_ref().is_none_or(|taken| taken.contains(&root.as_str()));
        let of_group = |group: &RowGroupMetaData| {
            let columns =
                group.columns().iter().filter(|column| column.column_path().parts().first().is_some_and(is_taken));
            columns.map(|column| COLUMN_READER_BYTES + column.uncompressed_size().unsigned_abs().min(PAGE_BYTES)).sum()
        };
        self.wanted().map(of_group).max().unwrap_or(0)
    }

    fn stream<T: Mergeable>(
        &self,
        plan: MergePlan<'_>,
        group: usize,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchStream<Source>, MergeError> {
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.source.clone(), self.metadata.clone());
        let builder = builder.with_row_groups(vec![group]).with_batch_size(batch_rows);
        let builder = match T::columns(plan.window) {
            None => builder,
            Some(columns) => {
                let mask = ProjectionMask::columns(builder.parquet_schema(), columns);
                builder.with_projection(mask)
            }
        };
        builder.build().map_err(|source| failed(plan, &self.path, source))
    }
}

/// Row groups that may have a window of these starts, by their statistics, if these are in microseconds as ours are.
fn wanted_groups(metadata: &ParquetMetaData, starts: Starts) -> Vec<usize> {
    let columns = metadata.file_metadata().schema_descr().columns().iter();
    let is_it = |column: &ColumnDescriptor| column.path().parts() == [WINDOW_START] && is_in_microseconds(column);
    let column = columns.enumerate().find(|(_, column)| is_it(column)).map(|(at, _)| at);
    let may_have = |group: &RowGroupMetaData| {
        let Some(Statistics::Int64(bounds)) = column.and_then(|at| group.column(at).statistics()) else { return true };
        match (bounds.min_opt(), bounds.max_opt()) {
            (Some(first_us), Some(last_us)) => starts.meet((*first_us, *last_us)),
            (None, _) | (_, None) => true,
        }
    };
    let groups = metadata.row_groups().iter().enumerate();
    groups.filter(|(_, group)| group.num_rows() > 0 && may_have(group)).map(|(at, _)| at).collect()
}

fn is_in_microseconds(column: &ColumnDescriptor) -> bool {
    match column.logical_type_ref() {
        Some(LogicalType::Timestamp(timestamp)) => timestamp.unit == TimeUnit::MICROS,
        Some(_) => false,
        None => column.converted_type() == ConvertedType::TIMESTAMP_MICROS,
    }
}

fn failed(plan: MergePlan<'_>, path: &str, source: ParquetError) -> MergeError {
    if is_gone(&source) {
        return MergeError::Gone(path.to_owned());
    }
    MergeError::Failed(LakeError::File { table: plan.table.to_owned(), path: path.to_owned(), source })
}

fn unmergeable(plan: MergePlan<'_>, path: &str, source: Undecodable) -> MergeError {
    MergeError::Failed(LakeError::Unmergeable {
        table: plan.table.to_owned(),
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Where a merge is in a file.
pub(super) struct Cursor<T> {
    path: String,
    rows: Rows,
    ready: std::vec::IntoIter<(Group, T)>,
    /// The last group that was decoded.
    last: Option<Group>,
}

enum Rows {
    /// As they stand in the file, which is in order as far as is known.
    Read(Reading),
    /// Of a file that is in disorder.
    Sorted(Passes),
}

impl<T: Mergeable> Cursor<T> {
    pub fn new(file: &Arc<Opened>, pace: Pace) -> Self {
        Self::over(file, Rows::Read(Reading::new(file, pace)))
    }

    /// Over a file in disorder, of which about so many bytes of rows may be held.
    pub fn sorting(file: &Arc<Opened>, room_bytes: u64) -> Self {
        Self::over(file, Rows::Sorted(Passes::new(Arc::clone(file), room_bytes)))
    }

    fn over(file: &Opened, rows: Rows) -> Self {
        Self { path: file.path.clone(), rows, ready: Vec::new().into_iter(), last: None }
    }

    pub async fn next(&mut self, plan: MergePlan<'_>) -> Result<Option<(Group, T)>, MergeError> {
        loop {
            if let Some(row) = self.ready.next() {
                return Ok(Some(row));
            }
            let more = match &mut self.rows {
                Rows::Read(reading) => reading.decode_some(plan).await?,
                Rows::Sorted(passes) => passes.next(plan).await?,
            };
            let Some(rows) = more else { return Ok(None) };
            self.ready = self.in_order(rows)?.into_iter();
        }
    }

    /// The same rows, if they are in order and not below those before them.
    fn in_order(&mut self, rows: Vec<(Group, T)>) -> Result<Vec<(Group, T)>, MergeError> {
        let goes_on = self.last.as_ref().is_none_or(|last| rows.first().is_none_or(|(first, _)| last <= first));
        if !goes_on || !rows.is_sorted_by(|(a, _), (b, _)| a <= b) {
            return Err(MergeError::Disorder(self.path.clone()));
        }
        self.last = rows.last().map(|(group, _)| group.clone()).or_else(|| self.last.take());
        Ok(rows)
    }
}

/// Where a reader is in a file.
pub(super) struct Reading {
    file: Arc<Opened>,
    pace: Pace,
    /// Row groups that are left.
    groups: VecDeque<usize>,
    /// Of the row group that is being read, with the rows that are left of it.
    stream: Option<(ParquetRecordBatchStream<Source>, usize)>,
}

impl Reading {
    pub fn new(file: &Arc<Opened>, pace: Pace) -> Self {
        Self { file: Arc::clone(file), pace, groups: file.groups.iter().copied().collect(), stream: None }
    }

    /// The wanted rows of the next batch, in the file's order.
    pub async fn decode_some<T: Mergeable>(
        &mut self,
        plan: MergePlan<'_>,
    ) -> Result<Option<Vec<(Group, T)>>, MergeError> {
        let Some(batch) = self.next::<T>(plan).await? else { return Ok(None) };
        let rows = T::decode(plan.window, &batch).map_err(|source| unmergeable(plan, &self.file.path, source))?;
        Ok(Some(rows.into_iter().filter(|(group, _)| plan.starts.hold(group.start_us)).collect()))
    }

    /// The next batch. The readers go with the last row of a row group.
    async fn next<T: Mergeable>(&mut self, plan: MergePlan<'_>) -> Result<Option<RecordBatch>, MergeError> {
        let (mut stream, left) = match self.stream.take() {
            Some(reading) => reading,
            None => {
                let next = self.groups.pop_front();
                let Some(group) = next else { return Ok(None) };
                (self.file.stream::<T>(plan, group, self.pace.batch_rows)?, self.file.rows(group))
            }
        };
        let failed = |source| failed(plan, &self.file.path, source);
        match stream.try_next().await.map_err(failed)? {
            Some(batch) => {
                let left = left.saturating_sub(batch.num_rows());
                self.stream = (left > 0).then_some((stream, left));
                Ok(Some(batch))
            }
            None => Err(failed(ParquetError::EOF(format!("{left} rows of a row group are missing")))),
        }
    }
}
