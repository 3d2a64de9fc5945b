//! The reckoning: the book against the tables, and the tables against each other.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use pintail::demo::accepted::AcceptedLog;
use pintail::demo::readback::{Reckoning, reckon};
use pintail::demo::{Kind, StreamTables};
use url::Url;

use crate::tables::Snapshot;
use crate::windows::{SHIPPED, Window};

/// What was found, by stream.
pub type Verdict = BTreeMap<Kind, Reckoning>;

/// Fails if a record of the book is in no table or in two, if there is one that the book does not know, or if the
/// partials of a shipped window are not what a GROUP BY over the rows gives.
pub async fn verify(lake: &Url, log: &AcceptedLog, streams: &[Kind]) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new();
    for kind in streams.iter().copied() {
        let reckoning = of_stream(lake, log, kind).await.with_context(|| format!("stream {}", kind.name()))?;
        verdict.insert(kind, reckoning);
    }
    Ok(verdict)
}

async fn of_stream(lake: &Url, log: &AcceptedLog, kind: Kind) -> anyhow::Result<Reckoning> {
    let (stream, rows) = (kind.name().to_owned(), kind.name().to_owned());
    let tables = StreamTables { rejects: format!("{rows}_rejects"), stream, rows };
    let found = reckon(lake, &tables, &log.stream(kind.name())).await?;
    let wrong = (found.lost, found.duplicated, found.unexpected);
    ensure!(wrong == (0, 0, 0), "lost, duplicated, unexpected: {wrong:?} in {found:?}");
    ensure!(found.unfounded == 0, "recovered rows without one reject each: {found:?}");
    let rejects: u64 = found.rejects.values().sum();
    ensure!(found.accepted == log.count(kind.name()), "a number was acknowledged twice: {found:?}");
    ensure!(found.accepted == found.rows + rejects, "accepted is not rows + rejects: {found:?}");
    for window in SHIPPED.iter().filter(|window| window.kind == kind) {
        partials_agree(lake, window, &tables.rows, &format!("{}_partials", window.name)).await?;
    }
    Ok(found)
}

/// Fails if the partials in one table are not what a GROUP BY over the rows in the other gives.
pub async fn partials_agree(lake: &Url, window: &Window, rows: &str, partials: &str) -> anyhow::Result<()> {
    let (rows, partials) = (Snapshot::read(lake, rows).await?, Snapshot::read(lake, partials).await?);
    let (counted, expected) = (window.sum_up(&partials)?, window.group_by(&rows)?);
    let differing = expected.keys().chain(counted.keys()).find(|key| expected.get(*key) != counted.get(*key));
    if let Some(key) = differing {
        let (rows, partials) = (expected.get(key), counted.get(key));
        anyhow::bail!("{}: at {key:?} the rows say {rows:?} and the partials {partials:?}", window.name);
    }
    Ok(())
}
