//! The reckoning: the book against the tables, and the tables against each other.
//!
//! Everything is read file by file through deltalake's own reader, so a test of five seconds and a soak of an hour
//! are judged by the same code.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, ensure};
use pintail::checkpoint::ShardId;
use pintail::demo::accepted::AcceptedLog;
use pintail::demo::fingerprint::ExpectedRows;
use pintail::demo::pinterest::Population;
use pintail::demo::readback::{Reckoning, Tally, reckon};
use pintail::demo::{Kind, StreamTables};
use url::Url;

use crate::tables::Snapshot;
use crate::windows::{Cells, SHIPPED, Window};

/// How many differing window cells are told of each window.
const CELLS_TOLD: usize = 3;

/// What was found of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The book against rows and rejects.
    pub reckoning: Reckoning,
    /// Rows of its partials tables that were added up.
    pub partials: u64,
    /// Window cells of which partials and rows say different things, in words; the first few of each window.
    pub cells_differing: Vec<String>,
}

impl Found {
    /// Rejects of all reasons.
    pub fn rejects(&self) -> u64 {
        self.reckoning.rejects.values().sum()
    }

    /// Everything that is not as it must be, one line each.
    pub fn violations(&self) -> Vec<String> {
        let wrong = |(shard, tally): (&ShardId, &Tally)| {
            (!tally.is_clean() || tally.unexpected > 0).then(|| format!("{shard}: {tally:?}"))
        };
        let mut violations: Vec<String> = self.reckoning.shards.iter().filter_map(wrong).collect();
        let (accepted, there) = (self.reckoning.total().accepted, self.reckoning.rows + self.rejects());
        if accepted != there {
            violations.push(format!("{accepted} records were accepted, rows and rejects are {there}"));
        }
        if self.reckoning.unfounded > 0 {
            violations.push(format!("{} recovered rows have no reject of their own", self.reckoning.unfounded));
        }
        violations.extend(self.cells_differing.iter().cloned());
        violations
    }
}

/// What was found, by stream.
pub type Verdict = BTreeMap<Kind, Found>;

/// Reads everything back and says what was found.
pub async fn look(lake: &Url, log: &AcceptedLog, streams: &[Kind]) -> anyhow::Result<Verdict> {
    let mut expected = ExpectedRows::new(Arc::new(Population::new()));
    let mut verdict = Verdict::new();
    for kind in streams.iter().copied() {
        let found = of_stream(lake, log, kind, &mut expected).await;
        verdict.insert(kind, found.with_context(|| format!("stream {}", kind.name()))?);
    }
    Ok(verdict)
}

/// As [`look`]; fails if a record of the book is in no table or in two, if one is altered or out of order, if there is
/// one that the book does not know, or if the partials of a shipped window are not what a GROUP BY over the rows
/// gives.
pub async fn verify(lake: &Url, log: &AcceptedLog, streams: &[Kind]) -> anyhow::Result<Verdict> {
    let verdict = look(lake, log, streams).await?;
    for (kind, found) in &verdict {
        let violations = found.violations();
        ensure!(violations.is_empty(), "stream {}:\n{}", kind.name(), violations.join("\n"));
    }
    Ok(verdict)
}

async fn of_stream(lake: &Url, log: &AcceptedLog, kind: Kind, expected: &mut ExpectedRows) -> anyhow::Result<Found> {
    let (stream, rows) = (kind.name().to_owned(), kind.name().to_owned());
    let tables = StreamTables { rejects: format!("{rows}_rejects"), kind, stream, rows };
    let reckoning = reckon(lake, &tables, log.stream(kind.name()), expected).await?;
    let mut found = Found { reckoning, ..Found::default() };
    for window in SHIPPED.iter().filter(|window| window.kind == kind) {
        let partials = format!("{}_partials", window.name);
        let (added_up, differing) = partials_differing(lake, window, &tables.rows, &partials).await?;
        found.partials += added_up;
        found.cells_differing.extend(differing);
    }
    Ok(found)
}

/// Holds the partials in one table against a GROUP BY over the rows in another: how many partials there are, and the
/// first few cells that differ, in words.
pub async fn partials_differing(
    lake: &Url,
    window: &Window,
    rows: &str,
    partials: &str,
) -> anyhow::Result<(u64, Vec<String>)> {
    let (mut counted, mut grouped, mut added_up) = (Cells::new(), Cells::new(), 0);
    let columns = window.partials_columns();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    Snapshot::each_file(lake, partials, &columns, |file| {
        added_up += window.sum_up(&mut counted, file)?;
        Ok(())
    })
    .await?;
    Snapshot::each_file(lake, rows, &window.rows_columns(), |file| window.group_by(&mut grouped, file)).await?;
    let mut keys: Vec<_> = grouped.keys().chain(counted.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differing = keys.into_iter().filter(|key| grouped.get(*key) != counted.get(*key)).take(CELLS_TOLD);
    let told = differing.map(|key| {
        let (rows, partials) = (grouped.get(key), counted.get(key));
        format!("{}: at {key:?} the rows say {rows:?} and the partials {partials:?}", window.name)
    });
    Ok((added_up, told.collect()))
}
