//! What can go wrong with the lake, and, in one place, what is done about it.

use std::error::Error;

use deltalake::arrow::error::ArrowError;
use deltalake::parquet::errors::ParquetError;
use object_store::client::{HttpError, HttpErrorKind};

use crate::error_chain::chain;
use crate::window::Undecodable;

/// Everything that this room can fail with.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The configured location cannot be one.
    #[error("lake uri {uri:?}: {reason}")]
    Location {
        /// As configured.
        uri: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The object store did not do what it was asked.
    #[error("{action} {path}")]
    Store {
        /// What was asked: `read`, `list`, `write`, ...
        action: &'static str,
        /// Of which object or prefix.
        path: String,
        /// The store's answer.
        #[source]
        source: object_store::Error,
    },
    /// A table's log does not say what a Delta log must say.
    #[error("table {table}, log version {version}: {reason}")]
    Log {
        /// The table.
        table: String,
        /// The entry.
        version: u64,
        /// What is wrong.
        reason: String,
    },
    /// A checkpoint file cannot be read.
    #[error("checkpoint {path}: {reason}")]
    Checkpoint {
        /// The file.
        path: String,
        /// What could not be done.
        reason: &'static str,
        /// Parquet's answer.
        #[source]
        source: ParquetError,
    },
    /// A checkpoint cannot be read, and what stands before it in the log is not whole any more.
    #[error(
        "table {table}: its log checkpoint {path} is broken, and the entries that it stands for are not all there \
         (restore that file from a copy or an older version of the object; nothing else holds the table's positions)"
    )]
    BrokenCheckpoint {
        /// The table.
        table: String,
        /// The file.
        path: String,
        /// What reading it said.
        #[source]
        source: Box<LakeError>,
    },
    /// The table is not, or no longer, one that Pintail may write. Nothing was written.
    #[error("table {table} is refused: {reason}")]
    Refused {
        /// The table.
        table: String,
        /// What was found, what was expected, and the mend.
        reason: String,
    },
    /// The stream's tables and its contract do not fit; every reason.
    #[error("the tables do not fit the contract:\n{}", problems.join("\n"))]
    Drift {
        /// One line each.
        problems: Vec<String>,
    },
    /// Rows could not be arranged as the table's columns.
    #[error("arranging rows for table {table}")]
    Rows {
        /// The table.
        table: String,
        /// Arrow's answer.
        #[source]
        source: ArrowError,
    },
    /// Rows could not be encoded, or a file of a table not decoded.
    #[error("encoding or decoding a file of table {table}")]
    Encode {
        /// The table.
        table: String,
        /// Parquet's answer.
        #[source]
        source: ParquetError,
    },
    /// A file of a table cannot be read.
    #[error("table {table}: its file {path} cannot be read")]
    File {
        /// The table.
        table: String,
        /// The file.
        path: String,
        /// Parquet's answer, or the store's.
        #[source]
        source: ParquetError,
    },
    /// A file of a table is not there, where the table's log says that it is, or said so a moment ago.
    #[error("table {table}: its file {path} is gone (restore it from a copy or an older version of the object)")]
    FileGone {
        /// The table.
        table: String,
        /// The file.
        path: String,
    },
    /// A version that was pinned can not be read any more.
    #[error("version {version} of table {table} is not there any more: its log or its files were cleaned up")]
    VersionGone {
        /// The table.
        table: String,
        /// The version.
        version: u64,
    },
    /// A rewrite of files came too late. Nothing was written, or what was written is a commit like any other.
    #[error("table {table}: {reason}")]
    Overtaken {
        /// The table.
        table: String,
        /// Who was faster.
        reason: String,
    },
    /// Files that the table consists of cannot be read, by anybody.
    #[error(
        "table {table} names {count} data file(s) that cannot be read: {} (restore them under these names, or remove \
         them from the table if their rows are given up)",
        files.join("; ")
    )]
    BrokenFiles {
        /// The table.
        table: String,
        /// How many are known.
        count: usize,
        /// The first of them, each with what is wrong.
        files: Vec<String>,
    },
    /// More files than can be merged side by side; compaction makes fewer of them.
    #[error("table {table}: its files are too many to be merged at once, and are compacted first")]
    TooManyFiles {
        /// The table.
        table: String,
    },
    /// Rows of a partials table cannot be added up.
    #[error("table {table}: the rows of its file {path} cannot be added up")]
    Unmergeable {
        /// The table.
        table: String,
        /// The file.
        path: String,
        /// What is wrong with them.
        #[source]
        source: Box<Undecodable>,
    },
    /// An entry of the rows log that a follower still needs is not there any more.
    #[error(
        "table {table} has not applied version {version} of {rows}, whose log entry is gone; the files staged there \
         are not in the table (restore {rows}/_delta_log/{version:020}.json, or rebuild the table from the rows)"
    )]
    StagedGone {
        /// The follower.
        table: String,
        /// Its rows table.
        rows: String,
        /// The first version that is missing.
        version: u64,
    },
}

/// What to do next about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Try again soon: the store was away, or somebody was in the way.
    Retry,
    /// Say so at once and look again now and then: a person or another engine has to change something.
    Wait,
    /// Give up: trying again gives the same answer.
    Fail,
}

impl LakeError {
    /// The one table from errors to actions.
    pub(crate) fn action(&self) -> Action {
        match self {
            Self::Store { .. } | Self::TooManyFiles { .. } => Action::Retry,
            Self::Checkpoint { source, .. } | Self::File { source, .. } if of_the_store(source).is_some() => {
                Action::Retry
            }
            Self::Log { .. }
            | Self::Checkpoint { .. }
            | Self::BrokenCheckpoint { .. }
            | Self::Refused { .. }
            | Self::FileGone { .. }
            | Self::StagedGone { .. } => Action::Wait,
            Self::Location { .. }
            | Self::Drift { .. }
            | Self::Rows { .. }
            | Self::Encode { .. }
            | Self::File { .. }
            | Self::VersionGone { .. }
            | Self::BrokenFiles { .. }
            | Self::Unmergeable { .. }
            | Self::Overtaken { .. } => Action::Fail,
        }
    }

    /// Whether the same may succeed a little later.
    pub fn is_passing(&self) -> bool {
        self.action() == Action::Retry
    }

    /// Whether it may not be so when everything is looked at once more: the store was away, or a file was compacted and
    /// vacuumed in between.
    pub fn may_pass(&self) -> bool {
        self.is_passing() || matches!(self, Self::FileGone { .. })
    }

    /// Whether a table's log is not what a log must be, and stays so until somebody mends it.
    pub(crate) fn is_damage(&self) -> bool {
        self.action() == Action::Wait
            && !matches!(self, Self::Refused { .. } | Self::FileGone { .. } | Self::StagedGone { .. })
    }

    /// The checkpoint file that is not what a checkpoint must be. None if only the store was away.
    pub(crate) fn broken_checkpoint(&self) -> Option<&str> {
        let Self::Checkpoint { path, source, .. } = self else { return None };
        of_the_store(source).is_none().then_some(path)
    }

    /// Whether there was nobody who could have answered: no such host, or no connection to it.
    pub fn is_unreachable(&self) -> bool {
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<HttpError>() {
                return error.kind() == HttpErrorKind::Connect;
            }
            cause = error.source();
        }
        false
    }

    /// Whether the store answered, and said no. At a start that is a mistake to be told; in flight it is waited for,
    /// since permissions come back.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Store { source, .. } = self else { return false };
        let refused = matches!(
            source,
            object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
                | object_store::Error::NotFound { .. }
        );
        // A listing of a bucket that is not there has no variant of its own, only S3's code in its text.
        refused || chain(source).contains("<Code>NoSuchBucket</Code>")
    }
}

/// What the store answered, if it is the store that is in the way. Otherwise it is the file: codecs, too, have errors that
/// Parquet calls external.
pub(crate) fn of_the_store(error: &ParquetError) -> Option<&object_store::Error> {
    let ParquetError::External(cause) = error else { return None };
    // A writer wraps what its upload has wrapped already.
    cause.downcast_ref().or_else(|| cause.downcast_ref().and_then(of_the_store))
}

/// Whether the file is not there any more.
pub(crate) fn is_gone(error: &ParquetError) -> bool {
    matches!(of_the_store(error), Some(object_store::Error::NotFound { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_is_not_there_is_a_refusal_and_a_server_that_is_away_is_not() {
        let listing = |text: &'static str| LakeError::Store {
            action: "list",
            path: "x/_delta_log".to_owned(),
            source: object_store::Error::Generic { store: "S3", source: text.into() },
        };
        assert!(listing("404 Not Found: <Error><Code>NoSuchBucket</Code></Error>").is_refusal());
        assert!(!listing("connection refused").is_refusal());
    }

    #[test]
    fn a_server_without_a_connection_is_unreachable_and_one_that_is_slow_is_not() {
        let failed = |kind| LakeError::Store {
            action: "write",
            path: "x".to_owned(),
            source: object_store::Error::Generic { store: "S3", source: HttpError::new(kind, Refused).into() },
        };
        assert!(failed(HttpErrorKind::Connect).is_unreachable());
        assert!(!failed(HttpErrorKind::Timeout).is_unreachable());
    }

    #[derive(Debug, thiserror::Error)]
    #[error("connection refused")]
    struct Refused;
}
