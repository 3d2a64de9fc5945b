//! Bounds of the lake: of what it reads and writes at a time, and of what maintenance and sealing do beside the flushes.

/// One entry of a Delta log that somebody else wrote is refused beyond this.
pub const LOG_ENTRY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Maintenance: what is uploaded at a time of a file that it writes. S3 takes no smaller parts than 5 MiB, and at most
/// 10,000 of them.
pub const UPLOAD_PART_BYTES: usize = 8 * 1024 * 1024;

/// Maintenance: log entries held while a checkpoint is made of them; of a longer log, several are made on the way.
pub const CHECKPOINT_TAIL_BYTES: usize = 16 * 1024 * 1024;

/// Maintenance: rows, encoded, that a checkpoint's writer holds. Also what a reader of positions fetches at least.
pub const CHECKPOINT_GROUP_BYTES: usize = 8 * 1024 * 1024;

/// Maintenance: rows of a checkpoint's row group, the smaller of the two bounds. With statistics some 16 MiB of text.
pub const CHECKPOINT_GROUP_ROWS: usize = 16 * 1024;

/// Compaction: small files that one look at a table remembers. Further ones are seen once these are compacted.
pub const COMPACT_CANDIDATES_MAX: usize = 50_000;

/// Compaction: files that one commit replaces; its log entry names them all.
pub const COMPACT_INPUT_FILES_MAX: usize = 1_000;

/// Compaction: a commit replaces no more than this many times the target size, so that little work is lost when
/// another writer removes one of its files first.
pub const COMPACT_INPUT_TARGETS_MAX: u64 = 4;

/// Compaction: commits made of one look at a table.
pub const COMPACT_GROUPS_MAX: usize = 16;

/// A Parquet file that is to be read and is no larger is fetched whole: one request.
pub const READ_WHOLE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Compaction: rows decoded at a time, by the average row of the row group where that is largest.
pub const COMPACT_BATCH_BYTES: u64 = 4 * 1024 * 1024;

/// Compaction: rows, encoded, before they are sent off as a row group.
pub const COMPACT_GROUP_BYTES: usize = 8 * 1024 * 1024;

/// A column that has no more in a file, decoded, goes into it without compression. A codec for each column of each file
/// is made anew, by who writes it and by everybody who reads it, and takes them longer than all the rest that is done to
/// so few bytes; compaction compresses them with those of other files.
pub const UNCOMPRESSED_COLUMN_BYTES_MAX: usize = 16 * 1024;

/// Bytes of rows, decoded, after which a row group of a data file ends. A reader may have to hold all of one, since
/// three payloads of 10 MiB are one page; of usual rows it is some 8 MiB in the file.
pub const ROW_GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Sealing: encoded bytes of the files that are merged side by side. With more, some are compacted first.
pub const MERGE_ENCODED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Sealing: files of one partials table with windows that are not sealed yet, some hundred bytes each.
pub const SEAL_FILES_MAX: usize = 200_000;

/// Sealing: windows with late records that are remembered one by one; with more, all that are corrected are compared.
pub const SEAL_DIRTY_MAX: usize = 1_000;

/// Sealing: bytes of an overlapping window that is being added up, estimated. What is beyond takes another pass. Also of
/// neighbours' panes that are read together, with one window that they add up to.
pub const SEAL_WINDOW_BYTES: usize = 32 * 1024 * 1024;

/// Sealing: overlapping windows that one commit is made of, about.
pub const SEAL_WINDOWS_MAX: usize = 100_000;

/// Sealing: rows decoded at a time, over all files that are merged side by side, about.
pub const MERGE_DECODED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Sealing: rows of files in disorder that are put in order in memory at once, by their estimated bytes. For more, the
/// files are read once more.
pub const MERGE_GATHERED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Sealing: rows decoded at a time of one file at least, however many are merged.
pub const MERGE_CURSOR_BYTES_MIN: u64 = 32 * 1024;

/// What the reader of one column of one Parquet file takes beside its page: 94 KiB for zstd to decompress and 5 to compress
/// (`ZSTD_sizeof_DCtx()` and `ZSTD_sizeof_CCtx()` of 1.5), the rest for what Arrow gathers.
pub const COLUMN_READER_BYTES: u64 = 128 * 1024;

/// Bytes after which Parquet writers end a page, decoded: the default of ours and of most.
pub const PAGE_BYTES: u64 = 1024 * 1024;

/// Sealing: what files in order that are merged side by side hold between two rows, estimated: rows that are decoded, and readers
/// of their columns. With more, some are compacted first.
pub const MERGE_HELD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Compaction: files whose partials are added up at a time. Of more a few rows each would be decoded at a time. As many as
/// a window gets in a minute of commits each second.
pub const FOLD_FILES_MAX: usize = 64;

/// Old partials: files that one commit removes from their table, some hundred bytes each.
pub const DROP_FILES_MAX: usize = 5_000;

/// Old partials are looked for this often: they go by days.
pub const DROP_INTERVAL_MS: i64 = 60 * 60 * 1000;

/// Sealing: files that are merged side by side.
pub const MERGE_CURSORS_MAX: usize = 1_000;

/// Sealing: merged cells, by their estimated bytes, before they are written.
pub const MERGE_OUTPUT_BYTES: usize = 4 * 1024 * 1024;

/// Partials and sealed rows, encoded, before they are sent off as a row group: small ones, since most of a file is passed
/// over when one of its windows is wanted.
pub const PARTIALS_GROUP_BYTES: usize = 1024 * 1024;

/// Compaction: files remembered as ones that Pintail does not rewrite, so that they are not opened at every look.
pub const COMPACT_UNFIT_MAX: usize = 10_000;

/// Compaction: files remembered as ones that cannot be read; each is asked for again at every try. Further ones are
/// found anew.
pub const COMPACT_BROKEN_MAX: usize = 100;

/// Compaction: times that one group is begun again because a file of it turned out not to be decodable.
pub const COMPACT_RESTARTS_MAX: usize = 4;

/// Maintenance: a step that failed is tried again after this long, and after twice as long for each failure more...
pub const MAINTENANCE_RETRY_MS_MIN: i64 = 60 * 1000;

/// ... up to this.
pub const MAINTENANCE_RETRY_MS_MAX: i64 = 60 * 60 * 1000;

/// Log cleanup and vacuum: objects deleted in one request, S3's most.
pub const DELETE_BATCH_MAX: usize = 1_000;

/// Vacuum: old files that are held against the log in one pass over it.
pub const VACUUM_CANDIDATES_MAX: usize = 50_000;

/// Vacuum: files staged for a table that has not applied them yet. Of one that is farther behind nothing is deleted.
pub const VACUUM_STAGED_MAX: usize = 200_000;

/// A file that was uploaded this long ago is not committed any more but uploaded anew: vacuum may take it for one
/// that nobody will ever name.
pub const STAGED_AGE_MS_MAX: i64 = 6 * 60 * 60 * 1000;

/// Vacuum: a file that nothing names is deleted this long after it was uploaded, or later if the table says so.
pub const ORPHAN_AGE_MS_MIN: i64 = 24 * 60 * 60 * 1000;

/// Vacuum: a removed file is kept this long, whatever the table says: somebody may just be reading it.
pub const REMOVED_AGE_MS_MIN: i64 = 60 * 60 * 1000;

const _: () = assert!(STAGED_AGE_MS_MAX * 2 <= ORPHAN_AGE_MS_MIN);
