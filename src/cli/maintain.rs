//! `maintain`: one round of maintenance, by hand or by cron.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use super::positions::time;
use crate::config::Config;
use crate::lake::{LakeStore, Maintainer, MaintenanceEnded, MaintenanceEvent, Pressing, SealEvent, Sealers, TableName};
use crate::say::say;

/// When sealing finds too many files, they are compacted, whatever there is, and it looks again.
const ROUNDS_MAX: usize = 3;

/// Everything that can be done for every table; a line for each thing that was done, a table at the end.
pub async fn maintain(path: &Path) -> anyhow::Result<ExitCode> {
    let config = Config::load_here(path)?;
    let uri = &config.lake.location.uri;
    let Some(store) = LakeStore::open_existing(&config.lake.location).await? else {
        bail!("there is no lake at {uri} yet; `pintail run` makes it");
    };
    let pressing = Pressing::default();
    let mut maintainer = Maintainer::new(store.clone(), config.maintenance.options).pressed_by(&pressing);
    for stream in &config.streams {
        maintainer.add(&config.pipeline, stream.name(), &stream.contract);
    }
    let mut sealers = Sealers::new(store, config.maintenance.options).pressing(&pressing);
    for stream in &config.streams {
        sealers.add(&config.pipeline, stream.name(), &stream.contract);
    }
    let (mut done, mut is_sealed) = (Vec::new(), true);
    for _ in 0..ROUNDS_MAX {
        (done, is_sealed) = (Vec::new(), true);
        maintainer.round(true, &mut |table, event| note(table, event, &mut done)).await;
        sealers.look(None, &mut |table, event| is_sealed &= say_sealed(table, &event)).await;
        if pressing.is_empty() {
            break;
        }
    }
    print(&done);
    let well = done.iter().all(|table| matches!(table.ended, MaintenanceEnded::Well(_) | MaintenanceEnded::Absent));
    Ok(if well && is_sealed && pressing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what happened to a window's rows; `false` if it did not work.
fn say_sealed(table: TableName<'_>, event: &SealEvent) -> bool {
    let name = table.table;
    match event {
        SealEvent::Sealed { version, through_ms, rows, .. } => {
            say!("{name}: windows up to {} sealed with {rows} rows in version {version}", time(*through_ms));
        }
        SealEvent::Overtaken => say!("{name}: another process was sealing it"),
        SealEvent::Revised { version, revision, rows, .. } => {
            say!("{name}: {rows} rows corrected, as revision {revision}, in version {version}");
        }
        SealEvent::Late { records } => say!("{name}: {records} records came late"),
        SealEvent::TooLate { records } => say!("{name}: {records} records came too late for any partials"),
        SealEvent::Waits { table } => say!("{name}: {table} is in too many files to be merged, and is compacted first"),
        SealEvent::Failed { reason } => say!("{name}: seal FAILED: {reason}"),
        SealEvent::Recovered => say!("{name}: windows can be sealed again"),
    }
    !matches!(event, SealEvent::Failed { .. })
}

/// What was done for one table.
struct Done {
    table: String,
    files_in: u64,
    files_out: u64,
    checkpoint: Option<u64>,
    log_objects: u64,
    vacuumed: u64,
    failed_steps: u64,
    ended: MaintenanceEnded,
}

/// Prints a line as it happens, and adds it up.
fn note(table: TableName<'_>, event: MaintenanceEvent, done: &mut Vec<Done>) {
    let name = table.table;
    if event == MaintenanceEvent::Begins {
        let ended = MaintenanceEnded::Absent;
        let table = name.to_owned();
        done.push(Done {
            table,
            files_in: 0,
            files_out: 0,
            checkpoint: None,
            log_objects: 0,
            vacuumed: 0,
            failed_steps: 0,
            ended,
        });
    }
    let Some(sum) = done.last_mut() else { return };
    match event {
        MaintenanceEvent::Begins => {}
        MaintenanceEvent::Compacted { version, files_in, files_out, bytes_in, bytes_out } => {
            sum.files_in += files_in;
            sum.files_out += files_out;
            let (before, after) = (size(bytes_in), size(bytes_out));
            say!("{name}: {files_in} files ({before}) became {files_out} ({after}) in version {version}");
        }
        MaintenanceEvent::Dropped { version, through_ms, files, bytes } => {
            let (before, size) = (time(through_ms), size(bytes));
            say!("{name}: {files} files ({size}) of windows before {before} removed in version {version}");
        }
        MaintenanceEvent::Overtaken { reason } => say!("{name}: gave way: {reason}"),
        MaintenanceEvent::Checkpointed { version } => {
            sum.checkpoint = Some(version);
            say!("{name}: log checkpoint of version {version}");
        }
        MaintenanceEvent::Repointed { version } => {
            let now = version.map_or_else(|| "was deleted".to_owned(), |version| format!("names version {version}"));
            say!("{name}: _last_checkpoint led nowhere and {now}");
        }
        MaintenanceEvent::Cleaned { objects, below } => {
            sum.log_objects += objects;
            say!("{name}: {objects} log objects below version {below} deleted");
        }
        MaintenanceEvent::Waits { reason } => say!("{name}: {reason}"),
        MaintenanceEvent::Vacuumed { files: 0, .. } => {}
        MaintenanceEvent::Vacuumed { files, bytes } => {
            sum.vacuumed += files;
            say!("{name}: {files} old data files ({}) deleted", size(bytes));
        }
        MaintenanceEvent::Failed { step, reason } => {
            sum.failed_steps += 1;
            say!("{name}: {} FAILED: {reason}", step.as_str());
        }
        MaintenanceEvent::Ended(ended) => {
            match &ended {
                MaintenanceEnded::Refused(reason) => say!("{name}: REFUSED: {reason}"),
                MaintenanceEnded::Failed(reason) if sum.failed_steps == 0 => say!("{name}: FAILED: {reason}"),
                MaintenanceEnded::Failed(_) | MaintenanceEnded::Well(_) | MaintenanceEnded::Absent => {}
            }
            sum.ended = ended;
        }
    }
}

fn print(done: &[Done]) {
    let width = done.iter().map(|table| table.table.len()).max().unwrap_or(0).max(5);
    say!(
        "\n{:<width$}  {:>9}  {:>15}  {:>10}  {:>11}  {:>13}  state",
        "table",
        "found at",
        "files compacted",
        "checkpoint",
        "log deleted",
        "files deleted"
    );
    for table in done {
        let (version, state) = match &table.ended {
            MaintenanceEnded::Well(version) => (version.to_string(), "ok"),
            MaintenanceEnded::Absent => ("-".to_owned(), "not there yet"),
            MaintenanceEnded::Refused(_) => ("-".to_owned(), "REFUSED"),
            MaintenanceEnded::Failed(_) => ("-".to_owned(), "FAILED"),
        };
        let compacted = match table.files_in {
            0 => "-".to_owned(),
            files_in => format!("{files_in} -> {}", table.files_out),
        };
        let checkpoint = table.checkpoint.map_or_else(|| "-".to_owned(), |version| version.to_string());
        say!(
            "{:<width$}  {version:>9}  {compacted:>15}  {checkpoint:>10}  {:>11}  {:>13}  {state}",
            table.table,
            table.log_objects,
            table.vacuumed
        );
    }
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
