//! Sealed history as people see it: rows of the table, and beside each start how many records came too late for it.

use std::sync::{MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

use super::{History, Start};
use crate::contract::WindowPlan;
use crate::contract::window::SealPolicy;
use crate::window::StreamWindows;
use crate::window::group::KeyValue;
use crate::window::json::value_json;
use crate::window::view::LiveFilter;

/// One declared window, as far as it is sealed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SealedWindow {
    /// The stream.
    pub stream: String,
    /// The window's name, and its table's.
    pub window: String,
    /// Its size.
    pub every_ms: i64,
    /// How far its starts are apart: its size, unless it slides.
    pub hop_ms: i64,
    /// Names of its keys.
    pub keys: Vec<String>,
    /// Names of its measures.
    pub measures: Vec<String>,
    /// Whether late records lead to a further revision of their row.
    pub revises: bool,
    /// Windows that end at or before this are sealed, epoch ms; `None`: none is.
    pub through_ms: Option<i64>,
    /// Sealed windows that begin at or after this are kept here, epoch ms; older ones are in the table alone. `None`:
    /// none was found yet.
    pub since_ms: Option<i64>,
    /// As of when the table was read, epoch ms, if it cannot be read now; `None`: as of now.
    pub as_of_ms: Option<i64>,
    /// Newest first.
    pub starts: Vec<SealedStart>,
}

/// One sealed start of a window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SealedStart {
    /// Start, epoch ms.
    pub start_ms: i64,
    /// End, exclusive, epoch ms.
    pub end_ms: i64,
    /// Records in all its rows.
    pub records: u64,
    /// How many keys it has.
    pub keys: usize,
    /// Records that came after it was sealed and are in no row of it, as far as the live view still has the start;
    /// `None` if it has not.
    pub late: Option<u64>,
    /// The highest revision of its rows.
    pub revision: i64,
    /// Whether no record is missing because the window's definition is younger than the start.
    pub complete: bool,
    /// Whether rows of all its keys are kept; if not, of the largest.
    pub whole: bool,
    /// One row a key, most records first.
    pub rows: Vec<SealedRow>,
}

/// One key of a sealed start: its last revision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SealedRow {
    /// As in the live view.
    pub key: Vec<Value>,
    /// As in the live view.
    pub measures: Vec<Value>,
    /// Records in it.
    pub records: u64,
    /// 0 unless it was corrected.
    pub revision: i64,
}

impl StreamWindows {
    /// The sealed windows that are wanted. Of a start that is not kept whole, a question for keys counts what is kept.
    pub fn sealed(&self, filter: &LiveFilter) -> Vec<SealedWindow> {
        let windows = self.contract.windows.iter().enumerate().filter(|(_, plan)| filter.wants(plan));
        windows
            .map(|(index, plan)| {
                let mut window = self.sealed_window(index, plan, filter);
                self.count_late(index, plan, filter, &mut window.starts);
                window
            })
            .collect()
    }

    fn sealed_window(&self, index: usize, plan: &WindowPlan, filter: &LiveFilter) -> SealedWindow {
        let histories = self.histories();
        let History { rows, through_ms, since_us, blind_since_ms } = &histories[index];
        let wanted = rows.starts.iter().rev().filter(|(start_us, _)| filter.wants_start(**start_us));
        let starts = wanted.filter_map(|(start_us, start)| start.shown(plan, *start_us, filter));
        SealedWindow {
            stream: self.stream.clone(),
            window: plan.name.clone(),
            every_ms: plan.every_us / 1000,
            hop_ms: plan.pane_us / 1000,
            keys: plan.keys.iter().map(|key| key.name.clone()).collect(),
            measures: plan.measures.iter().map(|measure| measure.name.clone()).collect(),
            revises: matches!(plan.seal, SealPolicy::Revise { .. }),
            through_ms: *through_ms,
            since_ms: since_us.map(|us| us.div_euclid(1000)),
            as_of_ms: *blind_since_ms,
            starts: starts.take(filter.starts_max.unwrap_or(usize::MAX)).collect(),
        }
    }

    /// What the partials hold more than the sealed rows: the live view has the partials' sums.
    fn count_late(&self, index: usize, plan: &WindowPlan, filter: &LiveFilter, starts: &mut [SealedStart]) {
        let (Some(newest), Some(oldest)) = (starts.first(), starts.last()) else { return };
        let of_them = LiveFilter {
            since_ms: Some(oldest.start_ms),
            until_ms: Some(newest.end_ms),
            rows_max: Some(0),
            keys: filter.keys.clone(),
            ..LiveFilter::default()
        };
        let live = self.live_window(index, plan, &of_them);
        for start in starts.iter_mut().filter(|start| start.whole || filter.keys.is_empty()) {
            let live = live.starts.iter().find(|live| live.start_ms == start.start_ms);
            start.late = live.and_then(|live| (live.records - live.pending).checked_sub(start.records));
        }
    }

    pub(super) fn histories(&self) -> MutexGuard<'_, Vec<History>> {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Start {
    /// `None` if it has none of the keys that are wanted.
    fn shown(&self, plan: &WindowPlan, start_us: i64, filter: &LiveFilter) -> Option<SealedStart> {
        let wanted = self.rows.iter().filter(|row| filter.wants_key(plan, &row.key));
        let (keys, records) = match filter.keys.is_empty() {
            true => (self.keys, self.records),
            false => (wanted.clone().count(), wanted.clone().map(|row| row.records).sum()),
        };
        let key_json = |key: &[KeyValue]| {
            plan.keys.iter().zip(key).map(|(plan, value)| value_json(Some(plan.output()), value)).collect()
        };
        let rows = wanted.take(filter.rows_max.unwrap_or(usize::MAX)).map(|row| SealedRow {
            key: key_json(&row.key),
            measures: row.measures.clone(),
            records: row.records,
            revision: row.revision,
        });
        (keys > 0).then(|| SealedStart {
            start_ms: start_us.div_euclid(1000),
            end_ms: start_us.saturating_add(plan.every_us).div_euclid(1000),
            records,
            keys,
            late: None,
            revision: self.revision,
            complete: self.complete,
            whole: self.rows.len() == self.keys,
            rows: rows.collect(),
        })
    }
}
