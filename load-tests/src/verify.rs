//! The reckoning: the book against the tables, and the tables against each other.
//!
//! Everything is read file by file through deltalake's own reader, so a test of five seconds and a soak of an hour
//! are judged by the same code.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use anyhow::{Context, ensure};
use pintail::checkpoint::ShardId;
use pintail::demo::accepted::AcceptedLog;
use pintail::demo::fingerprint::ExpectedRows;
use pintail::demo::pinterest::Population;
use pintail::demo::readback::{Reckoning, Tally, reckon};
use pintail::demo::{Kind, StreamTables};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::tables::Snapshot;
use crate::windows::{Cells, Window};

/// How many differing window cells are told of each window.
const CELLS_TOLD: usize = 3;

/// What was found of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The book against rows and rejects.
    pub reckoning: Reckoning,
    /// Rows of its partials tables that were added up.
    pub partials: u64,
    /// Window cells of which partials, sealed rows and rows say different things, in words; the first few of each
    /// window.
    pub cells_differing: Vec<String>,
    /// Rows of its sealed tables.
    pub sealed: u64,
    /// Records that came too late for the sealed row of their window.
    pub late: u64,
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

/// The book against the tables, over all streams.
pub fn total(verdict: &Verdict) -> Tally {
    verdict.values().fold(Tally::default(), |sum, found| sum.plus(found.reckoning.total()))
}

/// Rejects by reason, over all streams.
fn rejects(verdict: &Verdict) -> BTreeMap<String, u64> {
    let mut rejects: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, count) in verdict.values().flat_map(|found| &found.reckoning.rejects) {
        *rejects.entry(reason.clone()).or_default() += count;
    }
    rejects
}

/// What was found over all streams, as figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reckoned {
    /// Acknowledged, and in no table.
    pub lost: u64,
    /// In the tables more than once: each time beyond the first.
    pub duplicated: u64,
    /// Rejects of other bytes, rows of other contents than were posted.
    pub altered: u64,
    /// In a file or in a commit after a later record of their shard, or before their parents' end.
    pub out_of_order: u64,
    /// In the tables, and never acknowledged.
    pub unexpected: u64,
    /// Rows in the rows tables.
    pub rows: u64,
    /// Rejects by reason.
    pub rejects: BTreeMap<String, u64>,
    /// Rows of the partials tables that were held against a GROUP BY of the rows.
    pub partials_checked: u64,
    /// Rows of the sealed tables that were held against a GROUP BY of the rows.
    pub sealed_checked: u64,
}

impl Reckoned {
    /// The book against the tables.
    pub fn of(verdict: &Verdict) -> Self {
        let total = total(verdict);
        Self {
            lost: total.lost,
            duplicated: total.duplicated,
            altered: total.altered,
            out_of_order: total.out_of_order,
            unexpected: total.unexpected,
            rows: verdict.values().map(|found| found.reckoning.rows).sum(),
            rejects: rejects(verdict),
            partials_checked: verdict.values().map(|found| found.partials).sum(),
            sealed_checked: verdict.values().map(|found| found.sealed).sum(),
        }
    }
}

impl Display for Reckoned {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { lost, duplicated, altered, out_of_order, unexpected, .. } = self;
        write!(f, "{lost} lost, {duplicated} duplicated, {altered} altered, {out_of_order} out of order, ")?;
        write!(f, "{unexpected} unexpected")
    }
}

/// Reads everything back and says what was found.
pub async fn look(lake: &Url, log: &AcceptedLog, streams: &[Kind], windows: &[Window]) -> anyhow::Result<Verdict> {
    let mut expected = ExpectedRows::new(Arc::new(Population::new()));
    let mut verdict = Verdict::new();
    for kind in streams.iter().copied() {
        let found = of_stream(lake, log, kind, windows, &mut expected).await;
        verdict.insert(kind, found.with_context(|| format!("stream {}", kind.name()))?);
    }
    Ok(verdict)
}

/// As [`look`]; fails if a record of the book is in no table or in two, if one is altered or out of order, if there is
/// one that the book does not know, or if the partials of a shipped window are not what a GROUP BY over the rows
/// gives.
pub async fn verify(lake: &Url, log: &AcceptedLog, streams: &[Kind], windows: &[Window]) -> anyhow::Result<Verdict> {
    let verdict = look(lake, log, streams, windows).await?;
    for (kind, found) in &verdict {
        let violations = found.violations();
        ensure!(violations.is_empty(), "stream {}:\n{}", kind.name(), violations.join("\n"));
    }
    Ok(verdict)
}

async fn of_stream(
    lake: &Url,
    log: &AcceptedLog,
    kind: Kind,
    windows: &[Window],
    expected: &mut ExpectedRows,
) -> anyhow::Result<Found> {
    let (stream, rows) = (kind.name().to_owned(), kind.name().to_owned());
    let tables = StreamTables { rejects: format!("{rows}_rejects"), kind, stream, rows };
    let reckoning = reckon(lake, &tables, log.stream(kind.name()), expected).await?;
    let mut found = Found { reckoning, ..Found::default() };
    for window in windows.iter().filter(|window| window.kind == kind) {
        let partials = format!("{}_partials", window.name);
        let (added_up, differing) = partials_differing(lake, window, &tables.rows, &partials).await?;
        found.partials += added_up;
        found.cells_differing.extend(differing);
        let sealed = sealed_differing(lake, window, &tables.rows).await?;
        (found.sealed, found.late) = (found.sealed + sealed.rows, found.late + sealed.late);
        found.cells_differing.extend(sealed.differing);
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

/// What was found of one window's sealed rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealedFound {
    /// How many there are.
    pub rows: u64,
    /// Records of sealed windows that are in none of them.
    pub late: u64,
    /// The first few that say what no GROUP BY could, in words.
    pub differing: Vec<String>,
}

/// Holds the sealed rows of a window, one of each window and key, against a GROUP BY over the rows: every window up to
/// the last one that is sealed has its rows, and a row that does not lack a record is what the rows say.
pub async fn sealed_differing(lake: &Url, window: &Window, rows: &str) -> anyhow::Result<SealedFound> {
    let (mut sealed, mut grouped, mut found) = (Cells::new(), Cells::new(), SealedFound::default());
    let columns = window.partials_columns();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    Snapshot::each_file(lake, window.name, &columns, |file| {
        found.rows += window.sealed(&mut sealed, file)?;
        Ok(())
    })
    .await?;
    let Some(last) = sealed.keys().map(|(start, _)| *start).max() else { return Ok(found) };
    Snapshot::each_file(lake, rows, &window.rows_columns(), |file| window.group_by(&mut grouped, file)).await?;
    grouped.retain(|(start, _), _| *start <= last);
    for (key, totals) in &grouped {
        let row = sealed.get(key);
        let missing = totals.records() - row.map_or(0, |row| row.records());
        found.late += u64::try_from(missing).unwrap_or(0);
        if (missing == 0 && row != Some(totals)) || missing < 0 {
            found.differing.push(format!("{}: at {key:?} the rows say {totals:?}, sealed is {row:?}", window.name));
        }
    }
    let unfounded = sealed.keys().filter(|key| !grouped.contains_key(*key));
    found.differing.extend(unfounded.map(|key| format!("{}: {key:?} is sealed without a record", window.name)));
    found.differing.truncate(CELLS_TOLD);
    Ok(found)
}
