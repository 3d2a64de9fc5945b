//! `[maintenance]`: when the tables are looked at, and when something is worth doing.

use std::time::Duration;

use crate::lake::MaintenanceOptions;
use crate::toml_doc::{At, ByteSize, DurationMs, Problems, Section};

/// `[maintenance]`
#[derive(Debug, Clone, Copy)]
pub struct MaintenanceSection {
    /// Whether the service does it itself; if not, somebody runs `pintail maintain`.
    pub enabled: bool,
    /// How often the service looks at the tables.
    pub interval: Duration,
    /// When something is worth doing.
    pub options: MaintenanceOptions,
}

impl Default for MaintenanceSection {
    fn default() -> Self {
        Self { enabled: true, interval: Duration::from_secs(60), options: MaintenanceOptions::default() }
    }
}

pub(super) fn read(mut section: Section<'_>, problems: &Problems) -> MaintenanceSection {
    let enabled = section.optional::<bool>("enabled").is_none_or(|enabled| enabled.value);
    let interval = section.optional::<DurationMs>("interval");
    let (commits, files) = (section.optional::<i64>("checkpoint_commits"), section.optional::<i64>("compact_files"));
    let target = section.optional::<ByteSize>("target_file_bytes");
    section.finish();
    if let Some(At { value: DurationMs(ms), place }) = &interval
        && !(100..=86_400_000).contains(ms)
    {
        problems
            .note(place, format_args!("`maintenance.interval` = {}; expected \"100ms\" to \"1d\"", DurationMs(*ms)));
    }
    if let Some(At { value, place }) = &commits
        && !(1..=10_000).contains(value)
    {
        problems.note(place, format_args!("`maintenance.checkpoint_commits` = {value}; expected 1 to 10000"));
    }
    if let Some(At { value, place }) = &files
        && !(2..=1_000).contains(value)
    {
        problems.note(place, format_args!("`maintenance.compact_files` = {value}; expected 2 to 1000"));
    }
    if let Some(At { value: ByteSize(bytes), place }) = &target
        && !(64 << 10..=4 << 30).contains(bytes)
    {
        let expected = "expected between 64KiB and 4GiB";
        problems.note(place, format_args!("`maintenance.target_file_bytes` = {bytes} bytes; {expected}"));
    }
    let default = MaintenanceSection::default();
    let commits = commits.map(|commits| commits.value.unsigned_abs());
    let files = files.and_then(|files| usize::try_from(files.value).ok());
    MaintenanceSection {
        enabled,
        interval: interval.map_or(default.interval, |interval| Duration::from_millis(interval.value.0)),
        options: MaintenanceOptions {
            checkpoint_commits: commits.unwrap_or(default.options.checkpoint_commits),
            compact_files: files.unwrap_or(default.options.compact_files),
            target_file_bytes: target.map_or(default.options.target_file_bytes, |target| target.value.0),
        },
    }
}
