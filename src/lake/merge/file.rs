//! One file that is merged: its wanted row groups one after the other, some rows at a time.
//!
//! What a reader of a column holds is mostly its decompressor, which is large beside a few rows. So a row group whose
//! rows take less than its readers is decoded at once, and its readers go.

use std::collections::VecDeque;
use std::sync::Arc;

use deltalake::arrow::array::RecordBatch;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use deltalake::parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use deltalake::parquet::file::statistics::Statistics;
use futures::TryStreamExt;

use super::{Input, MergeError, MergePlan, Mergeable, Starts};
use crate::contract::WindowPlan;
use crate::contract::window::WINDOW_START;
use crate::lake::error::LakeError;
use crate::lake::reading::Source;
use crate::limits::{COLUMN_READER_BYTES, MERGE_CURSOR_BYTES_MIN, PAGE_BYTES, READ_WHOLE_BYTES_MAX};
use crate::window::merging::{Group, Undecodable, decoded_row_bytes};

/// Rows decoded at a time, however small they are; a row group that is decoded at once may have more.
pub(super) const BATCH_ROWS_MAX: u64 = 8192;

/// A file whose footer was read.
pub(super) struct Opened {
    pub path: String,
    size: u64,
    source: Source,
    metadata: ArrowReaderMetadata,
    /// Row groups that may have a wanted row.
    groups: Vec<usize>,
}

/// Rows of a file that are read one after the other.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// They lie in these row groups,
    groups: Vec<usize>,
    /// behind so many others,
    offset: usize,
    /// and are so many.
    rows: usize,
}

/// How much of a part is decoded at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    batch_rows: usize,
    /// The readers go after each batch, and the place is sought anew.
    parks: bool,
    /// What it has in memory between two batches, about.
    pub held_bytes: u64,
}

impl Opened {
    /// With `whole` all row groups are taken, so that places in it are those in the file.
    pub async fn of(plan: MergePlan<'_>, input: &Input, whole: bool) -> Result<Self, MergeError> {
        let Input { path, size } = input.clone();
        let found = Source::of(plan.store, plan.table, &path, size).await?;
        let (mut source, _) = found.ok_or_else(|| MergeError::Gone(path.clone()))?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load_async(&mut source, options).await;
        let metadata = metadata.map_err(|source| failed(plan, &path, source))?;
        let starts = if whole { Starts::ALL } else { plan.starts };
        let groups = wanted_groups(metadata.metadata(), starts);
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

    /// Its wanted rows, a row group at a time.
    pub fn parts(&self) -> VecDeque<Part> {
        let part = |group: &usize| Part { groups: vec![*group], offset: 0, rows: self.rows(*group) };
        self.groups.iter().map(part).collect()
    }

    /// A stretch of its rows, if all of its row groups are taken.
    pub fn stretch(&self, (offset, rows): (usize, usize)) -> VecDeque<Part> {
        VecDeque::from([Part { groups: self.groups.clone(), offset, rows }])
    }

    /// How these parts are read when about so many bytes may be decoded at a time.
    pub fn pace<T: Mergeable>(&self, window: &WindowPlan, parts: &VecDeque<Part>, decoded_bytes: u64) -> Pace {
        let (row_bytes, readers_bytes) = (self.row_bytes(window), self.readers_bytes::<T>(window));
        let rows = parts.iter().map(|part| part.rows).max().unwrap_or(0);
        let at_once_bytes = row_bytes.saturating_mul(rows as u64);
        if at_once_bytes <= decoded_bytes + readers_bytes {
            return Pace { batch_rows: rows.max(1), parks: false, held_bytes: at_once_bytes };
        }
        let batch_rows = self.batch_rows(window, decoded_bytes);
        let held_bytes = row_bytes * batch_rows as u64 + readers_bytes;
        Pace { batch_rows, parks: false, held_bytes }
    }

    /// The same, with no reader between two batches, which takes more time.
    pub fn parking_pace(&self, window: &WindowPlan, decoded_bytes: u64) -> Pace {
        let batch_rows = self.batch_rows(window, decoded_bytes.max(MERGE_CURSOR_BYTES_MIN));
        Pace { batch_rows, parks: true, held_bytes: self.row_bytes(window) * batch_rows as u64 }
    }

    pub fn builder(&self) -> ParquetRecordBatchStreamBuilder<Source> {
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.source.clone(), self.metadata.clone());
        builder.with_row_groups(self.groups.clone())
    }

    fn rows(&self, group: usize) -> usize {
        usize::try_from(self.metadata.metadata().row_group(group).num_rows()).unwrap_or(0)
    }

    fn wanted(&self) -> impl Iterator<Item = &RowGroupMetaData> {
        self.groups.iter().map(|group| self.metadata.metadata().row_group(*group))
    }

    fn batch_rows(&self, window: &WindowPlan, decoded_bytes: u64) -> usize {
        usize::try_from((decoded_bytes / self.row_bytes(window)).clamp(1, BATCH_ROWS_MAX)).unwrap_or(1)
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

    /// A stream of this part's rows.
    fn stream<T: Mergeable>(
        &self,
        plan: MergePlan<'_>,
        part: &Part,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchStream<Source>, MergeError> {
        let (mut groups, mut offset) = (part.groups.as_slice(), part.offset);
        while let Some((first, later)) = groups.split_first()
            && self.rows(*first) <= offset
        {
            (groups, offset) = (later, offset - self.rows(*first));
        }
        let builder = self.builder().with_row_groups(groups.to_vec());
        let builder = builder.with_batch_size(batch_rows).with_offset(offset).with_limit(part.rows);
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

/// Row groups that may have a window of these starts, by their statistics.
fn wanted_groups(metadata: &ParquetMetaData, starts: Starts) -> Vec<usize> {
    let columns = metadata.file_metadata().schema_descr().columns().iter();
    let column = columns.enumerate().find(|(_, column)| column.path().parts() == [WINDOW_START]).map(|(at, _)| at);
    let may_have = |group: &RowGroupMetaData| {
        let Some(Statistics::Int64(bounds)) = column.and_then(|at| group.column(at).statistics()) else { return true };
        match (bounds.min_opt(), bounds.max_opt()) {
            (Some(first_us), Some(last_us)) => starts.meet((*first_us, *last_us)),
            (None, _) | (_, None) => true,
        }
    };
    let groups = metadata.row_groups().iter().enumerate();
    groups.filter(|(_, group)| may_have(group)).map(|(at, _)| at).collect()
}

pub(super) fn failed(plan: MergePlan<'_>, path: &str, source: ParquetError) -> MergeError {
    if crate::lake::files::is_gone(&source) {
        return MergeError::Gone(path.to_owned());
    }
    MergeError::Failed(LakeError::File { table: plan.table.to_owned(), path: path.to_owned(), source })
}

pub(super) fn unmergeable(plan: MergePlan<'_>, path: &str, source: Undecodable) -> MergeError {
    MergeError::Failed(LakeError::Unmergeable {
        table: plan.table.to_owned(),
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Where a merge is in some parts of a file.
pub(super) struct Cursor<T> {
    path: String,
    /// `None`: all of its rows are ready.
    reading: Option<Reading>,
    ready: std::vec::IntoIter<(Group, T)>,
    /// The last group that was decoded.
    last: Option<Group>,
}

struct Reading {
    file: Arc<Opened>,
    pace: Pace,
    parts: VecDeque<Part>,
    /// Of the first part.
    stream: Option<ParquetRecordBatchStream<Source>>,
}

impl<T: Mergeable> Cursor<T> {
    pub fn new(file: &Arc<Opened>, parts: VecDeque<Part>, pace: Pace) -> Self {
        let reading = Some(Reading { file: Arc::clone(file), pace, parts, stream: None });
        Self { path: file.path.clone(), reading, ready: Vec::new().into_iter(), last: None }
    }

    /// Over rows of this file that are in memory.
    pub fn of_ready(path: String, rows: Vec<(Group, T)>) -> Self {
        Self { path, reading: None, ready: rows.into_iter(), last: None }
    }

    pub async fn next(&mut self, plan: MergePlan<'_>) -> Result<Option<(Group, T)>, MergeError> {
        loop {
            if let Some(row) = self.ready.next() {
                return Ok(Some(row));
            }
            let Some(rows) = self.decode_some(plan).await? else { return Ok(None) };
            self.ready = self.in_order(rows)?.into_iter();
        }
    }

    /// The wanted rows of the next batch, in the file's order.
    pub async fn decode_some(&mut self, plan: MergePlan<'_>) -> Result<Option<Vec<(Group, T)>>, MergeError> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        let Some(batch) = reading.next::<T>(plan).await? else {
            self.reading = None;
            return Ok(None);
        };
        let rows = T::decode(plan.window, &batch).map_err(|source| unmergeable(plan, &self.path, source))?;
        Ok(Some(rows.into_iter().filter(|(group, _)| plan.starts.hold(group.start_us)).collect()))
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

impl Reading {
    /// The next batch. Readers go with the last row of a part, or after every batch.
    async fn next<T: Mergeable>(&mut self, plan: MergePlan<'_>) -> Result<Option<RecordBatch>, MergeError> {
        while self.parts.front().is_some_and(|part| part.rows == 0) {
            self.parts.pop_front();
        }
        let Some(part) = self.parts.front_mut() else { return Ok(None) };
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.file.stream::<T>(plan, part, self.pace.batch_rows)?,
        };
        let failed = |source| failed(plan, &self.file.path, source);
        let Some(batch) = stream.try_next().await.map_err(failed)? else {
            return Err(failed(ParquetError::EOF(format!("{} rows of its row groups are missing", part.rows))));
        };
        let read = batch.num_rows();
        (part.offset, part.rows) = (part.offset + read, part.rows.saturating_sub(read));
        if part.rows > 0 && !self.pace.parks {
            self.stream = Some(stream);
        }
        Ok(Some(batch))
    }
}
