//! Files of partials, merged into one row a window and key: one cursor a file, the lowest group next.
//!
//! Files are written in the order of their groups, so a merge holds a few rows of each and never a window whole. No
//! file is trusted with that: of a file every row group is read that may have a wanted row, and one that turns out to be
//! in disorder (another engine has rewritten it) is put in order, in as many passes as that takes.

mod disorder;
mod file;

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use deltalake::arrow::array::RecordBatch;

use super::error::LakeError;
use super::store::LakeStore;
use crate::contract::WindowPlan;
use crate::limits::{
    MERGE_CURSOR_BYTES_MIN, MERGE_CURSORS_MAX, MERGE_DECODED_BYTES_MAX, MERGE_ENCODED_BYTES_MAX,
    MERGE_GATHERED_BYTES_MAX, MERGE_HELD_BYTES_MAX,
};
use crate::window::merging::{Cell, Group, Undecodable, decode_current};
use file::{Cursor, Opened};

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

/// Paths of files that are known to be in disorder.
pub(crate) type Disordered = BTreeSet<String>;

/// Why files cannot be merged.
#[derive(Debug)]
pub(crate) enum MergeError {
    /// Rows of this file are not in order.
    Disorder(String),
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
    pub async fn open(plan: MergePlan<'a>, inputs: &[Input], disordered: &Disordered) -> Result<Self, MergeError> {
        let (mut files, mut encoded_bytes) = (Vec::new(), 0);
        for input in inputs {
            let file = Opened::of(plan, input).await?;
            encoded_bytes += file.encoded_bytes();
            // Two can always be merged, or nothing ever would.
            if encoded_bytes > MERGE_ENCODED_BYTES_MAX && files.len() >= 2 {
                return Err(MergeError::TooMany);
            }
            files.push(Arc::new(file));
        }
        let mut merge = Self { plan, cursors: side_by_side(plan, &files, disordered)?, heads: BinaryHeap::new() };
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

/// Cursors over files, which together hold no more than they may.
fn side_by_side<T: Mergeable>(
    plan: MergePlan<'_>,
    files: &[Arc<Opened>],
    disordered: &Disordered,
) -> Result<Vec<Cursor<T>>, MergeError> {
    let in_disorder = files.iter().filter(|file| disordered.contains(&file.path)).count();
    let room_bytes = MERGE_GATHERED_BYTES_MAX / in_disorder.max(1) as u64;
    let share_bytes = (MERGE_DECODED_BYTES_MAX / files.len().max(1) as u64).max(MERGE_CURSOR_BYTES_MIN);
    let mut held_bytes = 0;
    let cursor = |file: &Arc<Opened>| {
        if disordered.contains(&file.path) {
            return Cursor::sorting(file, room_bytes);
        }
        let pace = file.pace::<T>(plan.window, share_bytes);
        held_bytes += pace.held_bytes;
        Cursor::new(file, pace)
    };
    let cursors = files.iter().map(cursor).collect();
    match files.len() > 2 && (held_bytes > MERGE_HELD_BYTES_MAX || files.len() > MERGE_CURSORS_MAX) {
        true => Err(MergeError::TooMany),
        false => Ok(cursors),
    }
}

/// Notes which of these files turned out to be in disorder; a second time it is an error.
pub(crate) fn note_disorder(
    plan: MergePlan<'_>,
    inputs: &[Input],
    path: String,
    known: &mut Disordered,
) -> Result<(), MergeError> {
    if !inputs.iter().any(|input| input.path == path) || known.contains(&path) {
        return Err(MergeError::Disorder(path));
    }
    tracing::debug!(
        table = plan.table,
        path,
        "a file is not in the order of its keys and is sorted while it is merged"
    );
    known.insert(path);
    Ok(())
}
