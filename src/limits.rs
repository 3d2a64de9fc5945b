//! Every fixed bound, with its reason. Nothing in Pintail grows without one of these.
//!
//! Bounds that a user may want to move are configuration ([`crate::config`]); these are not.

use std::time::Duration;

mod lake;

pub use lake::*;

/// GetRecords never answers with more than this (Kinesis API: 10 MiB a call), so it is the worst case of a read.
pub const READ_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// A body of GetRecords with as many bytes as it may have: payloads in base64, and some hundred bytes beside each. More
/// room is not made on the word of a header.
pub const BODY_BYTES_EXPECTED_MAX: usize = 20 * 1024 * 1024;

/// Memory of reads that is kept for the next ones, beside the budget: bodies of these sizes, which a shard's second needs and
/// most larger reads do,
pub const SPARE_BODY_BYTES: std::ops::RangeInclusive<usize> = 256 * 1024..=4 * 1024 * 1024;
/// and so many of them, for two reads that are taken apart at the same moment: 8 MiB;
pub const SPARE_BODIES_MAX: usize = 2;
/// pieces of this size, in which payloads lie that are not large; a read that has less needs one of its own,
pub const SPARE_PIECE_BYTES: usize = 512 * 1024;
/// and so many of them, for the payloads of the same reads, or of one read of 10 MiB, most of it: 8 MiB.
pub const SPARE_PIECES_MAX: usize = 16;

/// Bytes of budget that a payload byte may cost at worst while it is read and cleaned: the SDK's response body and
/// the decoded payloads side by side at first (below 2.5), then payloads, inflated payloads and Arrow columns (below 2.5).
const FLIGHT_FACTOR_NUM: u64 = 5;
const FLIGHT_FACTOR_DEN: u64 = 2;

/// What one read may cost at worst; a reader reserves this before it calls Kinesis.
pub const READ_COST_MAX: u64 = READ_BYTES_MAX * FLIGHT_FACTOR_NUM / FLIGHT_FACTOR_DEN;

/// How often a payload byte is in memory while a read is cleaned: in what was read, where it lies beside others until
/// the last of them is cleaned, and in a column or a reject.
pub const PAYLOAD_COPIES: u64 = 2;

/// Bytes of budget that one record costs beside its payload's while a read is taken apart and cleaned, as row or as
/// reject: what the read's worst case leaves each of the most records that a plain read can have. So no plain read is
/// ever cut, and a large aggregate has as many records as the same permit pays for (10,000 in 10 MiB).
pub const USER_RECORD_COST: u64 = (READ_COST_MAX - PAYLOAD_COPIES * READ_BYTES_MAX) / GET_RECORDS_LIMIT_MAX as u64;

/// Records that one read may have, those in aggregates one by one: each with a window key of its own, they are what a
/// permit pays for until their commit.
pub const READ_RECORDS_MAX: usize = 30_000;

/// Bytes of budget that a cleaned byte costs until its commit: itself, and half as much while it is encoded.
pub const HELD_FACTOR_NUM: u64 = 3;
/// See [`HELD_FACTOR_NUM`]: the factor is 3/2.
pub const HELD_FACTOR_DEN: u64 = 2;

/// What a reject holds beside its payload and its detail, estimated.
pub const REJECT_OVERHEAD_BYTES: usize = 256;

/// One compressed record may inflate to this, the largest legal record; beyond it the record is a reject.
pub const INFLATED_BYTES_MAX: usize = 10 * 1024 * 1024;

/// All compressed records of one read together may inflate to this, what the read's permit pays for. What is more is read
/// again.
pub const INFLATED_BATCH_BYTES_MAX: usize = READ_BYTES_MAX as usize;

/// Repairs (list of one, JSON in a string, base64, compression) may nest this deep.
pub const REPAIR_DEPTH_MAX: usize = 3;

/// JSON nesting beyond this is a reject: a parser's stack is not the sender's to use.
pub const JSON_DEPTH_MAX: usize = 128;

/// Keys and values of one JSON text; more are a reject. A parser needs 24 bytes and more for each, however short it is:
/// the largest legal record of zeros and commas would take 180 MiB that no permit pays for. This is 60 MiB.
pub const JSON_VALUES_MAX: usize = 3 * 512 * 1024;

/// A read with a record beyond this is cleaned alone: what its parser needs beside the permit is needed once, and not
/// on every core.
pub const CLEANED_ALONE_BYTES: usize = 1024 * 1024;

/// Unknown field names counted by name per stream; further ones are counted as `__other__`, so that a sender
/// of random names cannot grow the metrics.
pub const UNKNOWN_FIELDS_MAX: usize = 64;

/// A longer unknown field name is cut before it becomes a metric label.
pub const UNKNOWN_FIELD_NAME_BYTES_MAX: usize = 64;

/// A reject's `detail` column is cut to this many bytes; the payload itself is kept whole.
pub const REJECT_DETAIL_BYTES_MAX: usize = 200;

/// Rejects of each stream and reason that are kept for people to look at.
pub const REJECT_SAMPLES_MAX: usize = 5;

/// Payload bytes kept of each. With 13 reasons some 100 KiB a stream at most, escaped.
pub const REJECT_SAMPLE_BYTES_MAX: usize = 256;

/// GetRecords accepts no larger `Limit`.
pub const GET_RECORDS_LIMIT_MAX: i32 = 10_000;

/// Calls a second that Kinesis gives one shard, shared by all its consumers.
pub const SHARD_READS_PER_SECOND: f64 = 5.0;

/// Bytes a second that Kinesis gives one shard, shared by all its consumers.
pub const SHARD_READ_BYTES_PER_SECOND: u64 = 2 * 1000 * 1000;

/// Digits of a sequence number that the ledger can hold: four limbs of 18.
pub const SEQUENCE_DIGITS_MAX: usize = 72;

/// Threads of a runtime for what waits: names that are looked up, and each call of a local lake's folder. Those for work
/// come on top, one a core. Each keeps some megabytes of freed memory for itself, and without a bound there are as many
/// as calls that ever were made at once.
pub const WAITING_THREADS_MAX: usize = 10;

/// Partitions (days) that one commit writes per table; rows of further days go to the null partition, counted.
/// One record a day over a century must not become 36,500 files.
pub const PARTITIONS_PER_COMMIT_MAX: usize = 32;

/// Live windows: starts kept in memory per declared window (of a sliding one, all their panes), and as many ahead of the
/// clock. Older ones, and those farther ahead, stay in the lake.
pub const LIVE_WINDOWS_MAX: usize = 120;

/// Live windows: starts of each window, ahead of the clock, that memory had no room for and that are remembered one by one.
/// With more, the whole days of the farthest are not shown.
pub const LIVE_DROPPED_MAX: usize = 1_000;

/// Live windows: so many such days of each window. With more, nothing from the farthest on is shown before the next start.
pub const LIVE_DROPPED_DAYS_MAX: usize = 1_000;

/// Live windows: starts of each window that a restart brings back from the lake. Enough for what people watch, few
/// enough small files to be there in seconds.
pub const LIVE_WINDOWS_RESTORED: i64 = 15;

/// Live windows: files of one partials table that a restart reads, the newest. Small files at 32 a time: some seconds. Starts
/// that are not wholly in them are not shown, which is told.
pub const LIVE_FILES_RESTORED_MAX: usize = 2_000;

/// Live windows: rows of them that are decoded at a time, sketches and all.
pub const RESTORE_BATCH_ROWS: usize = 1_024;

/// The name of everything beyond a limit of names or keys, taken together.
pub const OTHER: &str = "__other__";

/// Live windows: files that one commit of another process may stage for a window to be shown before the next start, and
/// their bytes. What is more belongs to a replay of days and not to what is live.
pub const LIVE_OTHERS_FILES_MAX: usize = 256;
/// See [`LIVE_OTHERS_FILES_MAX`].
pub const LIVE_OTHERS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Live windows: cells of one commit of another process that are kept until all of it is decoded, estimated; keys beyond
/// it show as `__other__`, unless they are on show already.
pub const LIVE_OTHERS_CELLS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Sealed history: starts of each window that are kept for people. Older ones are in the window's table.
pub const SEALED_STARTS_MAX: usize = 120;

/// Sealed history: keys of each start that are kept, the largest; all are counted.
pub const SEALED_KEYS_MAX: usize = 1_000;

/// Sealed history: bytes kept, shared by all windows of all streams, beside `[budget]`.
pub const SEALED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Sealed history: bytes of a window's table that one look reads, about. A start does not hold up for seconds, nor does a
/// window of millions of keys.
pub const SEALED_READ_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Live windows: bytes of committed cells kept, shared by the streams, beside `[budget]`; new keys beyond a stream's part
/// show as `__other__`.
pub const LIVE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Batches between a stream's readers and its writer. Bytes are bounded by the budget; this bounds the count.
pub const WRITER_QUEUE_BATCHES: usize = 64;

/// A contract or configuration file beyond this is refused unread.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Problems of a contract or configuration that are told; the rest are counted.
pub const PROBLEMS_KEPT_MAX: usize = 100;

/// Letters of a value or key that a problem echoes.
pub const PROBLEM_VALUE_CHARS_MAX: usize = 80;

/// Columns, and windows, that one contract may declare.
pub const CONTRACT_ITEMS_MAX: usize = 1000;

/// A window shorter than this would have more starts than records.
pub const WINDOW_EVERY_MS_MIN: i64 = 1_000;

/// Panes of a sliding window: a day by minutes. The live view adds that many up.
pub const WINDOW_PANES_MAX: i64 = 1_440;

/// Values that one `where` may name; each is compared with each record.
pub const WHERE_VALUES_MAX: usize = 1_000;

/// Windows, and their grace, are days and not decades: arithmetic on starts cannot overflow.
pub const WINDOW_EVERY_MS_MAX: i64 = 366 * 86_400_000;

/// Records of one window still arrive this long after its end, whatever the contract hopes.
pub const WINDOW_GRACE_MS_MIN: i64 = 2_000;

/// How long a window waits for stragglers unless its contract says otherwise.
pub const WINDOW_GRACE_MS_DEFAULT: i64 = 5_000;

/// For how long after its end a window is corrected, where its contract asks for corrections, unless it says otherwise.
pub const WINDOW_REVISE_FOR_MS_DEFAULT: i64 = 2 * 86_400_000;

/// Old partials go by whole days, so keeping them for less than one is no wish that can be met.
pub const WINDOW_KEEP_MS_MIN: i64 = 86_400_000;

/// Who wants to keep partials for longer than a century keeps them all.
pub const WINDOW_KEEP_MS_MAX: i64 = 100 * 366 * 86_400_000;

/// Distinct counts: registers of an HLL sketch, as a power of two. 4,096 count to within 1.6 % (one standard
/// deviation), which is what Spark, Java and Python take unless told otherwise, so that theirs merge with ours without
/// losing any. A sketch starts with 32 bytes, and has 4 KiB from 385 values on.
pub const DISTINCT_LG_REGISTERS: u8 = 12;

/// Quantiles: the KLL sketch's `k`, the default of all implementations: ranks to within 1.33 % (99 % of the time). Up to
/// this many values it keeps them all and is exact; however many there are, it keeps less than 600.
pub const QUANTILES_K: u16 = 200;

/// Frequent values: slots of the sketch's map for each value that is asked for. With 16 of them counts are exact up to
/// 12 times as many different values, and beyond that off by no more than 22 % of the records divided by how many are
/// asked for.
pub const TOP_SLOTS_EACH: usize = 16;

/// Frequent values: slots at least, for 48 different values without error.
pub const TOP_SLOTS_MIN: usize = 64;

/// Frequent values that a measure may ask for. What it needs are 1,024 slots: a chain of colliding values is never longer
/// than the sketch can count.
pub const TOP_VALUES_MAX: i64 = 64;

/// Frequent values: a longer text counts as its first so many bytes, cut between letters. A sketch of megabytes is
/// none.
pub const TOP_TEXT_BYTES_MAX: usize = 256;

/// Scratch memory that a cleaner keeps from one batch to the next; what one huge record needed beyond it is freed.
pub const SCRATCH_KEPT_BYTES: usize = 1024 * 1024;

/// Scratch memory that a cleaner keeps from one record of a batch to the next. Huge records differ in what they need most:
/// one a copy of its text, another the tape of its values. Kept, each would be there for the largest of its kind.
pub const SCRATCH_IN_BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Names of members that a cleaner remembers in their order; a record with more is read more slowly.
pub const FLAT_NAMES_MAX: usize = 128;

/// A longer name, with its quotes, is not remembered.
pub const FLAT_NAME_BYTES_MAX: usize = 128;

/// What stands between two values, a name and spaces, is not remembered if it is longer.
pub const FLAT_BETWEEN_BYTES_MAX: usize = 192;

/// HTTP: connections at a time; a further client takes the place of the oldest idle one. A page, a scraper and some
/// scripts.
pub const SERVE_CONNECTIONS_MAX: usize = 64;

/// HTTP: a connection this long without a byte is closed. Longer than the usual scrape interval of a minute.
pub const SERVE_SILENCE_MAX: Duration = Duration::from_secs(90);

/// HTTP: a request's head is whole this long after its first byte, or the connection is closed. A head is one packet.
pub const SERVE_HEAD_MAX: Duration = Duration::from_secs(10);

/// HTTP: an answer is out this long after its first byte, or the connection is closed: it is in memory until then,
/// however slowly its client reads.
pub const SERVE_ANSWER_MAX: Duration = Duration::from_secs(120);

/// HTTP: after the shutdown signal, answers under way have this long; then their connections are cut.
pub const SERVE_GRACE: Duration = Duration::from_secs(1);

/// HTTP: samples of totals kept per stream, one a second, for the page's curves: two minutes.
pub const SERVE_HISTORY_SAMPLES: usize = 120;

/// HTTP: longest path and query. Window names are the longest thing that anyone asks for.
pub const SERVE_URI_BYTES_MAX: usize = 2048;

/// HTTP: looks at the live windows at a time; each copies up to all live cells.
pub const SERVE_LOOKS_MAX: usize = 2;

/// HTTP: pages that are fed at a time, far below all connections: they stay open, and leave room for whoever asks.
pub const SERVE_STREAMS_MAX: usize = 16;

/// HTTP: events that a fed page may be behind; one that does not even take these is cut off and may come again.
pub const SERVE_STREAM_EVENTS_MAX: usize = 12;

/// HTTP: how often the live windows are looked at for pages that are fed, at most.
pub const SERVE_STREAM_INTERVAL: Duration = Duration::from_millis(250);

/// HTTP: a look for them may take this part of the time; with very many keys it comes less often.
pub const SERVE_STREAM_SHARE: u32 = 10;

/// HTTP: newest starts of each window that fed pages get.
pub const SERVE_STREAM_STARTS: usize = 12;

/// HTTP: largest keys of each start that fed pages get.
pub const SERVE_STREAM_ROWS: usize = 20;

/// HTTP: an access token has at least this many letters, so that it is not guessed.
pub const SERVE_TOKEN_LETTERS_MIN: usize = 16;

/// HTTP: and at most so many: it has to fit a header, a cookie and an address.
pub const SERVE_TOKEN_LETTERS_MAX: usize = 256;

/// HTTP: rows of one answer of the API, over all its windows and starts. The starts of a sliding window share what they
/// have in memory; as rows each has its own.
pub const SERVE_ROWS_MAX: usize = 100_000;

/// HTTP: a longer answer is a large one.
pub const SERVE_LARGE_BYTES: usize = 1024 * 1024;

/// HTTP: large answers on their way at a time, however slowly their clients read.
pub const SERVE_LARGE_MAX: usize = 4;

/// Rows of a window start in one answer of the API, unless the question says otherwise. How many keys there are is
/// in the answer too.
pub const SERVE_ROWS_DEFAULT: usize = 1000;

/// Metrics: keys of a window with series of their own, unless the configuration says otherwise. Series are what a
/// Prometheus pays for: a window has this many, twice, for every measure.
pub const WINDOW_SERIES_DEFAULT: usize = 50;

/// Metrics: the most that can be asked for. All countries fit; a scrape stays within seconds.
pub const WINDOW_SERIES_MAX: usize = 1_000;

/// Metrics: a key is cut to this many bytes in a label. Keys are what producers send, and may be mebibytes.
pub const WINDOW_LABEL_BYTES_MAX: usize = 128;

/// Grafana Live: a push that takes longer has failed. The next one says the same, only newer.
pub const GRAFANA_LIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Grafana Live: after a failure nothing is tried for this long.
pub const GRAFANA_LIVE_RETRY: Duration = Duration::from_secs(5);

/// Grafana Live: a window that does not change is told again after this, for those who have just opened a panel.
pub const GRAFANA_LIVE_REPEAT: Duration = Duration::from_secs(5);

/// Grafana Live: after a look at the windows there is a pause of this many times what it took.
pub const GRAFANA_LIVE_WORK_SHARE: u32 = 9;

/// Replay: files of a rejects table, and files of a rows table with recovered rows, whose names are held: some hundred
/// bytes each. Compaction makes them fewer.
pub const REPLAY_FILES_MAX: usize = 500_000;

/// Replay: rejects of one file that are looked up among the recovered rows at a time, some hundred bytes each.
pub const REPLAY_SLICE_ROWS_MAX: u64 = 200_000;

/// Replay: rejects decoded at a time, if their payloads are small enough. More would not be faster.
pub const REPLAY_BATCH_ROWS_MAX: u64 = 1_000;

/// Replay: payload bytes decoded at a time, by the average of the row group where that is largest; a read of the stream brings as much.
pub const REPLAY_BATCH_BYTES: u64 = READ_BYTES_MAX / 4;

const _: () = assert!(READ_COST_MAX > READ_BYTES_MAX);
const _: () = assert!(SERVE_STREAMS_MAX * 2 <= SERVE_CONNECTIONS_MAX);
const _: () = assert!(INFLATED_BATCH_BYTES_MAX as u64 <= READ_COST_MAX);
