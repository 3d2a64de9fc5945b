//! Files of partials, merged into one row a window and key: one cursor a file, the lowest group next.
//!
//! Files are written in the order of their groups, so a merge holds a few rows of each and never a window whole. No
//! file is trusted with that: of a file every row group is read that may have a wanted row. The wanted rows of one that
//! turns out to be in disorder (another engine has rewritten it) are put in order in memory, where they have room there;
//! if not, its ordered stretches are merged as if each were a file.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use deltalake::arrow::array::RecordBatch;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use deltalake::parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use deltalake::parquet::file::statistics::Statistics;
use futures::TryStreamExt;

use super::error::LakeError;
use super::reading::Source;
use super::store::LakeStore;
use crate::contract::WindowPlan;
use crate::contract::window::WINDOW_START;
use crate::limits::{
    MERGE_CURSOR_BYTES_MIN, MERGE_CURSORS_MAX, MERGE_DECODED_BYTES_MAX, MERGE_ENCODED_BYTES_MAX,
    MERGE_GATHERED_BYTES_MAX, READ_WHOLE_BYTES_MAX,
};
use crate::window::merging::{Cell, Group, Undecodable, decode_current, decode_groups, decoded_row_bytes};

const BATCH_ROWS_MAX: u64 = 8192;

/// Windows by their starts, epoch us: from the first one on, up to before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Starts {
    pub from_us: i64,
    pub to_us: i64,
}

impl Starts {
    pub const ALL: Self = Self { from_us: i64::MIN, to_us: i64::MAX };

    /// Whether a window that begins then is of them.
    pub fn hold(self, start_us: i64) -> bool {
        (self.from_us..self.to_us).contains(&start_us)
    }

    /// Whether a file whose starts lie between these may have one of them.
    pub fn meet(self, (first_us, last_us): (i64, i64)) -> bool {
        first_us < self.to_us && last_us >= self.from_us
    }
}

/// A file to be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// Below the table's folder.
    pub path: String,
    pub size: u64,
}

/// Ordered stretches of whole files, (rows before it, rows), for files that are in disorder; none, if there are more of
/// them than can be merged.
pub(crate) type Stretches = BTreeMap<String, Vec<(usize, usize)>>;

/// Why files cannot be merged.
#[derive(Debug)]
pub(crate) enum MergeError {
    /// Rows of this file are not in order.
    Disorder(String),
    /// Rows of this file are in no order, and too many to be put in one.
    Scattered(String),
    /// The file is not there any more: what is known of the table is too old.
    Gone(String),
    /// Side by side they would take more memory than there is.
    TooMany,
    Failed(LakeError),
}

impl From<LakeError> for MergeError {
    fn from(error: LakeError) -> Self {
        Self::Failed(error)
    }
}

impl MergeError {
    /// Of files of this table, for whoever has tried all there is to try.
    pub fn of(self, table: &str) -> LakeError {
        let table = table.to_owned();
        match self {
            Self::Failed(error) => error,
            Self::Gone(path) => LakeError::Overtaken { table, reason: format!("its file {path} is gone") },
            Self::Disorder(path) => LakeError::Overtaken { table, reason: format!("its file {path} has changed") },
            Self::Scattered(path) => LakeError::Refused {
                table,
                reason: format!(
                    "the rows of its file {path} are in no order, and too many to be put in one (rewrite it sorted by \
                     window_start and its keys)"
                ),
            },
            Self::TooMany => LakeError::TooManyFiles { table },
        }
    }
}

/// What rows become, and how two of one group become one.
pub(crate) trait Mergeable: Sized {
    /// The columns that it takes; `None`: all.
    fn columns(window: &WindowPlan) -> Option<Vec<&str>>;
    /// Rows of the window's present definition, each with its group.
    fn decode(window: &WindowPlan, rows: &RecordBatch) -> Result<Vec<(Group, Self)>, Undecodable>;
    fn add(&mut self, other: &Self);
    /// Estimated bytes of heap and stack.
    fn bytes(&self) -> usize;
}

impl Mergeable for Cell {
    fn columns(_: &WindowPlan) -> Option<Vec<&str>> {
        None
    }

    fn decode(window: &WindowPlan, rows: &RecordBatch) -> Result<Vec<(Group, Self)>, Undecodable> {
        decode_current(window, rows)
    }

    fn add(&mut self, other: &Self) {
        self.merge(other);
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }
}

/// What is merged.
#[derive(Clone, Copy)]
pub(crate) struct MergePlan<'a> {
    pub store: &'a LakeStore,
    pub table: &'a str,
    pub window: &'a WindowPlan,
    pub starts: Starts,
}

/// The merged rows of some files, lowest group first.
pub(crate) struct Merge<'a, T> {
    plan: MergePlan<'a>,
    cursors: Vec<Cursor<T>>,
    /// The next row of each cursor that has one.
    heads: BinaryHeap<Head<T>>,
}

impl<'a, T: Mergeable> Merge<'a, T> {
    /// Opens all files.
    pub async fn open(plan: MergePlan<'a>, inputs: &[Input], stretches: &Stretches) -> Result<Self, MergeError> {
        let (mut opened, mut encoded, mut cursors, mut room) = (Vec::new(), 0, Vec::new(), MERGE_GATHERED_BYTES_MAX);
        for input in inputs {
            let its_stretches = stretches.get(&input.path);
            if let Some(its_stretches) = its_stretches {
                if let Some(rows) = gathered(plan, input, &mut room).await? {
                    cursors.push(Cursor {
                        path: input.path.clone(),
                        rows: None,
                        ready: rows.into_iter().collect::<Vec<_>>().into_iter(),
                        last: None,
                    });
                    continue;
                }
                if its_stretches.is_empty() {
                    return Err(MergeError::Scattered(input.path.clone()));
                }
            }
            let file = Opened::of(plan, input, its_stretches.is_some()).await?;
            encoded += file.encoded_bytes();
            // Two can always be merged, or nothing ever would.
            if encoded > MERGE_ENCODED_BYTES_MAX && opened.len() > 2 {
                return Err(MergeError::TooMany);
            }
            opened.push(file);
        }
        let of_files = opened.iter().map(|file| stretches.get(&file.path).map_or(1, Vec::len)).sum::<usize>();
        if cursors.len() + of_files > MERGE_CURSORS_MAX {
            return Err(MergeError::TooMany);
        }
        let mut merge = Self { plan, cursors, heads: BinaryHeap::new() };
        let share = (MERGE_DECODED_BYTES_MAX / of_files.max(1) as u64).max(MERGE_CURSOR_BYTES_MIN);
        for file in opened {
            let whole = [(0, usize::MAX)];
            for stretch in stretches.get(&file.path).map_or(&whole[..], Vec::as_slice) {
                merge.cursors.push(file.cursor(plan, *stretch, share)?);
            }
        }
        for cursor in 0..merge.cursors.len() {
            merge.advance(cursor).await?;
        }
        Ok(merge)
    }

    /// The next group; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<(Group, T)>, MergeError> {
        let Some(Head { group, mut row, cursor }) = self.heads.pop() else { return Ok(None) };
        self.advance(cursor).await?;
        while self.heads.peek().is_some_and(|head| head.group == group)
            && let Some(head) = self.heads.pop()
        {
            row.add(&head.row);
            self.advance(head.cursor).await?;
        }
        Ok(Some((group, row)))
    }

    async fn advance(&mut self, cursor: usize) -> Result<(), MergeError> {
        if let Some((group, row)) = self.cursors[cursor].next(self.plan).await? {
            self.heads.push(Head { group, row, cursor });
        }
        Ok(())
    }
}

/// Ordered so that a heap gives the lowest group first.
struct Head<T> {
    group: Group,
    row: T,
    cursor: usize,
}

impl<T> Ord for Head<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (&other.group, other.cursor).cmp(&(&self.group, self.cursor))
    }
}

impl<T> PartialOrd for Head<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Head<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Head<T> {}

// === One file ===

/// A file whose footer was read.
struct Opened {
    path: String,
    size: u64,
    source: Source,
    metadata: ArrowReaderMetadata,
    /// Row groups that may have a wanted row.
    groups: Vec<usize>,
}

impl Opened {
    /// With `whole` all row groups are taken, so that places in it are those in the file.
    async fn of(plan: MergePlan<'_>, input: &Input, whole: bool) -> Result<Self, MergeError> {
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

    /// What is in memory of it at a time before it is decoded.
    fn encoded_bytes(&self) -> u64 {
        if self.size <= READ_WHOLE_BYTES_MAX {
            return self.size;
        }
        self.wanted().map(|group| group.compressed_size().unsigned_abs()).max().unwrap_or(0)
    }

    fn wanted(&self) -> impl Iterator<Item = &RowGroupMetaData> {
        self.groups.iter().map(|group| self.metadata.metadata().row_group(*group))
    }

    fn builder(&self) -> ParquetRecordBatchStreamBuilder<Source> {
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.source.clone(), self.metadata.clone());
        builder.with_row_groups(self.groups.clone())
    }

    /// What one of its wanted rows takes when it is decoded, about.
    fn row_bytes(&self, window: &WindowPlan) -> u64 {
        let rows: u64 = self.wanted().map(|group| group.num_rows().unsigned_abs()).sum();
        let bytes: u64 = self.wanted().map(|group| group.total_byte_size().unsigned_abs()).sum();
        decoded_row_bytes(window) as u64 + bytes / rows.max(1)
    }

    /// A cursor over a stretch of its wanted rows, of which about so many bytes are decoded at a time.
    fn cursor<T: Mergeable>(
        &self,
        plan: MergePlan<'_>,
        (offset, limit): (usize, usize),
        decoded_bytes: u64,
    ) -> Result<Cursor<T>, MergeError> {
        let batch_rows = decoded_bytes / self.row_bytes(plan.window);
        let batch_rows = usize::try_from(batch_rows.clamp(1, BATCH_ROWS_MAX)).unwrap_or(1);
        let builder = self.builder().with_batch_size(batch_rows).with_offset(offset).with_limit(limit);
        let builder = match T::columns(plan.window) {
            None => builder,
            Some(columns) => {
                let mask = ProjectionMask::columns(builder.parquet_schema(), columns);
                builder.with_projection(mask)
            }
        };
        let rows = builder.build().map_err(|source| failed(plan, &self.path, source))?;
        Ok(Cursor { path: self.path.clone(), rows: Some(rows), ready: Vec::new().into_iter(), last: None })
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

fn failed(plan: MergePlan<'_>, path: &str, source: ParquetError) -> MergeError {
    if super::files::is_gone(&source) {
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

struct Cursor<T> {
    path: String,
    /// `None`: all of its rows are ready.
    rows: Option<ParquetRecordBatchStream<Source>>,
    ready: std::vec::IntoIter<(Group, T)>,
    /// The last group that was decoded.
    last: Option<Group>,
}

impl<T: Mergeable> Cursor<T> {
    async fn next(&mut self, plan: MergePlan<'_>) -> Result<Option<(Group, T)>, MergeError> {
        loop {
            if let Some(row) = self.ready.next() {
                return Ok(Some(row));
            }
            let Some(rows) = self.decode_some(plan).await? else { return Ok(None) };
            self.ready = self.in_order(rows)?.into_iter();
        }
    }

    /// The wanted rows of the next batch, in the file's order.
    async fn decode_some(&mut self, plan: MergePlan<'_>) -> Result<Option<Vec<(Group, T)>>, MergeError> {
        let Some(rows) = &mut self.rows else { return Ok(None) };
        let batch = rows.try_next().await.map_err(|source| failed(plan, &self.path, source))?;
        let Some(batch) = batch else { return Ok(None) };
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

/// The wanted rows of a file in disorder, put in order and added up in memory; `None` if there is not as much `room`,
/// bytes. Each of its stretches would have pages of its own in memory, and be sought by decoding all that is before it.
async fn gathered<T: Mergeable>(
    plan: MergePlan<'_>,
    input: &Input,
    room: &mut u64,
) -> Result<Option<BTreeMap<Group, T>>, MergeError> {
    let file = Opened::of(plan, input, false).await?;
    let mut cursor: Cursor<T> = file.cursor(plan, (0, usize::MAX), MERGE_DECODED_BYTES_MAX)?;
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
