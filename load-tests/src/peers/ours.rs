//! Pintail's side of the paths that begin with a file: its rooms, in a process of their own like everybody else's.
//!
//! The file is read and cut into records within the time that is measured, for the others read it too; how much of the
//! time that was is told apart, because no service spends it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use bytes::{Buf, Bytes};
use clap::ValueEnum;
use deltalake::arrow::array::RecordBatch;
use memchr::{memchr, memrchr};
use pintail::demo::Kind;
use pintail::record::RawBatch;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::clock::{cpu_s, rss_peak_bytes, timed};
use crate::rooms::Rooms;

/// What a shard gives in a second is the most that one read brings for long.
const READ_BYTES: usize = 2_000_000;
/// Kinesis answers with no more records than this.
const READ_RECORDS: usize = 10_000;

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Job {
    /// To cleaned columns in memory, which are dropped as soon as they are whole.
    Clean,
    /// To Parquet files under zstd 1.
    Parquet,
}

impl Job {
    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Parquet => "parquet",
        }
    }
}

/// What one process says of its work: Pintail's and everybody's last line of standard output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Rows that came out, if it counts them.
    pub rows: Option<u64>,
    /// User and system time of the work alone, all threads.
    pub cpu_s: f64,
    /// The same by the clock on the wall.
    pub wall_s: f64,
    /// Of `cpu_s`: reading the file and cutting it into records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading_s: Option<f64>,
    /// The most that was resident at once.
    pub rss_peak_bytes: u64,
    /// What did it.
    pub version: String,
}

/// Does one path on one file; Parquet files go to `out`, which is made.
pub fn work(kind: Kind, path: Job, input: &Path, out: &Path) -> anyhow::Result<Work> {
    let mut rooms = Rooms::of(kind)?;
    let mut files = Files::new(path, out)?;
    let (before_s, started) = (cpu_s()?, Instant::now());
    let (mut rows, mut reading_s) = (0, 0.0);
    let mut lines = Lines::open(input)?;
    loop {
        let (raw, took_s) = timed(|| lines.read(&mut rooms))?;
        reading_s += took_s;
        if raw.records.is_empty() {
            break;
        }
        let cleaned = rooms.clean(raw);
        rows += cleaned.rows.num_rows() as u64;
        files.take(&mut rooms, cleaned.rows)?;
    }
    files.finish(&mut rooms)?;
    Ok(Work {
        rows: Some(rows),
        cpu_s: cpu_s()? - before_s,
        wall_s: started.elapsed().as_secs_f64(),
        reading_s: Some(reading_s),
        rss_peak_bytes: rss_peak_bytes()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Where cleaned rows go.
struct Files {
    folder: Option<PathBuf>,
    written: u32,
}

impl Files {
    fn new(path: Job, out: &Path) -> anyhow::Result<Self> {
        let folder = (path == Job::Parquet).then(|| out.to_owned());
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(Self { folder, written: 0 })
    }

    fn take(&mut self, rooms: &mut Rooms, rows: RecordBatch) -> anyhow::Result<()> {
        if self.folder.is_none() {
            std::hint::black_box(&rows);
            return Ok(());
        }
        let files = rooms.hold(rows)?;
        self.write(files)
    }

    fn finish(&mut self, rooms: &mut Rooms) -> anyhow::Result<()> {
        let files = rooms.flush()?;
        self.write(files)
    }

    fn write(&mut self, files: Vec<Bytes>) -> anyhow::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for file in files {
            let path = folder.join(format!("{}.parquet", self.written));
            std::fs::write(&path, file).with_context(|| path.display().to_string())?;
            self.written += 1;
        }
        Ok(())
    }
}

/// A file of lines, in the portions in which Kinesis would deliver them.
struct Lines {
    file: File,
    /// What was read of it, whose memory is used again.
    block: Bytes,
    /// The lines in it that are still to be delivered.
    lines: Bytes,
    /// What is behind the last of them: a line that is not whole.
    begun: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Ok(Self { file, block: Bytes::new(), lines: Bytes::new(), begun: Vec::new() })
    }

    /// The next portion; without records at the end.
    fn read(&mut self, rooms: &mut Rooms) -> anyhow::Result<RawBatch> {
        if self.lines.is_empty() {
            self.fill()?;
        }
        let lines = std::iter::from_fn(|| {
            let line = self.lines.split_to(memchr(b'\n', &self.lines)?);
            self.lines.advance(1);
            Some(line)
        });
        rooms.answer(lines.take(READ_RECORDS))
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        self.lines = Bytes::new();
        let mut block = match std::mem::take(&mut self.block).try_into_mut() {
            Ok(mut used) => {
                used.clear();
                Vec::from(used)
            }
            Err(_still_held) => Vec::new(),
        };
        block.reserve(READ_BYTES);
        block.append(&mut self.begun);
        let room = READ_BYTES.saturating_sub(block.len());
        self.file.by_ref().take(room as u64).read_to_end(&mut block)?;
        let end = memrchr(b'\n', &block).map_or(0, |last| last + 1);
        ensure!(end > 0 || block.is_empty(), "a line of more than {READ_BYTES} bytes, or the last without its end");
        self.begun.extend_from_slice(&block[end..]);
        self.block = Bytes::from(block);
        self.lines = self.block.slice(..end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::data::lines;
    use crate::peers::profile::Profile;

    #[test]
    fn every_good_line_of_a_file_is_a_row_of_the_parquet_files() {
        let folder = tempfile::tempdir().unwrap();
        for kind in Kind::ALL {
            let lines = lines(folder.path(), kind, 4_000, 3).unwrap();
            let (whole, valid) = (folder.path().join("whole"), folder.path().join("valid"));
            let done = work(kind, Job::Parquet, &lines.whole, &whole).unwrap();
            assert_eq!(done.rows, Some(lines.records));
            assert!(done.cpu_s >= done.reading_s.unwrap() && done.rss_peak_bytes > 0);
            assert_eq!(work(kind, Job::Clean, &lines.valid, &valid).unwrap().rows, Some(lines.records));
            assert!(!valid.exists(), "nothing is written of what stays in memory");
            work(kind, Job::Parquet, &lines.valid, &valid).unwrap();
            let profile = Profile::of(&whole).unwrap();
            assert_eq!((profile.rows, profile.differences(&Profile::of(&valid).unwrap())), (lines.records, vec![]));
            std::fs::remove_dir_all(whole).unwrap();
            std::fs::remove_dir_all(valid).unwrap();
        }
    }
}
