//! The configuration: one TOML file, every key overridable by environment, everything wrong reported at once.
//!
//! `PINTAIL__LAKE__URI=s3://...` stands for `uri` in `[lake]`. AWS credentials are never configuration: they come
//! from the SDK's default chain. Relations between keys are checked here, before anything opens.

mod address;
mod grafana_live;
mod maintenance;
mod serve;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::address::{endpoint, region};
pub use self::maintenance::MaintenanceSection;
use self::serve::TOKEN_VARIABLE;
use crate::contract::{self, Contract};
use crate::lake::{LakeConfig, WriterOptions};
use crate::limits::READ_COST_MAX;
use crate::serve::{Access, GrafanaLiveConfig};
use crate::source::{ForeignRecords, KinesisConfig, OnDataLoss, StartPosition};
use crate::toml_doc::{At, ByteSize, Cut, Document, DurationMs, Filled, Invalid, Place, Problems, Section};

/// Prefix of environment variables that override keys.
pub const ENV_PREFIX: &str = "PINTAIL__";

/// Keys that the environment can override, as dotted paths.
const OVERRIDABLE: &[&str] = &[
    "pipeline",
    "lake.uri",
    "lake.region",
    "lake.endpoint",
    "lake.flush_interval",
    "lake.flush_bytes",
    "source.start",
    "source.on_data_loss",
    "source.foreign_records",
    "source.reads_per_second",
    "source.align_within",
    "budget.bytes",
    "serve.listen",
    "serve.window_series_max",
    "serve.token_file",
    "serve.protect_metrics",
    "aws.region",
    "aws.endpoint",
    "shutdown.grace",
    "grafana_live.url",
    "grafana_live.token_file",
    "grafana_live.interval",
    "maintenance.enabled",
    "maintenance.interval",
    "maintenance.checkpoint_commits",
    "maintenance.compact_files",
    "maintenance.target_file_bytes",
];

/// A configuration that holds together.
#[derive(Debug, Clone)]
pub struct Config {
    /// Part of every ledger key: never changed once there are tables.
    pub pipeline: String,
    /// Where the tables are.
    pub lake: LakeSection,
    /// How streams are read.
    pub source: SourceSection,
    /// Bytes in flight over all streams; each has an equal share.
    pub budget_bytes: u64,
    /// Where metrics, health, the API and the live page are served.
    pub listen: SocketAddr,
    /// How many keys of each window have series of their own in the metrics.
    pub window_series_max: usize,
    /// Where the windows are pushed to, if anywhere.
    pub grafana_live: Option<GrafanaLiveConfig>,
    /// Who may look there.
    pub access: Access,
    /// Where Kinesis is.
    pub aws: KinesisConfig,
    /// How long a drain may take after SIGTERM.
    pub shutdown_grace: Duration,
    /// How the tables are kept in shape.
    pub maintenance: MaintenanceSection,
    /// The streams.
    pub streams: Vec<StreamConfig>,
}

/// `[lake]`
#[derive(Debug, Clone)]
pub struct LakeSection {
    /// Where the tables are.
    pub location: LakeConfig,
    /// When a micro-batch is committed.
    pub flush: WriterOptions,
}

/// `[source]`
#[derive(Debug, Clone)]
pub struct SourceSection {
    /// What to do about a range that was trimmed before it was read.
    pub on_data_loss: OnDataLoss,
    /// GetRecords calls a second and shard, of the 5 that all its consumers share.
    pub reads_per_second: f64,
    /// How far ahead of the slowest shard, by arrival times, one may be read while catching up.
    pub align_within: Duration,
}

/// `[[stream]]`
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// Name or ARN, as written.
    pub id: String,
    /// What its records are.
    pub contract: Arc<Contract>,
    /// Where a stream that the ledger does not know starts.
    pub start: StartPosition,
    /// What becomes of records in aggregates that landed on a shard not theirs.
    pub foreign_records: ForeignRecords,
}

impl StreamConfig {
    /// The stream's name: the last part of an ARN, or the name itself.
    pub fn name(&self) -> &str {
        name_of(&self.id)
    }
}

fn name_of(id: &str) -> &str {
    id.rsplit_once("stream/").map_or(id, |(_, name)| name)
}

impl Config {
    /// As [`Self::load`], with the environment of this process.
    pub fn load_here(path: &Path) -> Result<Self, Invalid> {
        let is_ours = |variable: &OsString| variable.as_encoded_bytes().starts_with(ENV_PREFIX.as_bytes());
        let ours = std::env::vars_os().filter(|(variable, _)| is_ours(variable));
        let environment: Result<Vec<_>, _> = ours.map(readable).collect();
        Self::load(path, environment?.into_iter())
    }

    /// Reads the file, its contracts, and `environment`. Fails with everything that is wrong.
    pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, Invalid> {
        let problems = Problems::default();
        let (tokens, environment): (Vec<_>, Vec<_>) = environment.partition(|(variable, _)| variable == TOKEN_VARIABLE);
        let token = tokens.first().map(|(_, token)| token.as_str());
        let config = Document::read(path, None, &problems).and_then(|mut document| {
            override_from(environment.into_iter(), &mut document, &problems);
            let folder = path.parent().unwrap_or(Path::new("."));
            read(&document, folder, token, &problems)
        });
        match (config, problems.into_result()) {
            (Some(config), Ok(())) => Ok(config),
            (_, Err(invalid)) => Err(invalid),
            (None, Ok(())) => Err(Invalid::from_text(format!("{}: cannot be used", path.display()))),
        }
    }

    /// Each stream's share of the byte budget.
    pub fn budget_share_bytes(&self) -> u64 {
        self.budget_bytes / self.streams.len().max(1) as u64
    }
}

/// What others keep in the environment may be anything; what is ours is text.
fn readable((variable, value): (OsString, OsString)) -> Result<(String, String), Invalid> {
    let shown = variable.to_string_lossy().into_owned();
    let texts = variable.into_string().and_then(|variable| Ok((variable, value.into_string()?)));
    texts.map_err(|_| Invalid::from_text(format!("environment variable {shown}: its name or its value is not UTF-8")))
}

/// Hands the environment's overrides to the document; a variable that names no key is a problem, since a
/// misspelt override would otherwise silently do nothing.
fn override_from(environment: impl Iterator<Item = (String, String)>, document: &mut Document, problems: &Problems) {
    for (variable, value) in environment {
        let Some(keys) = variable.strip_prefix(ENV_PREFIX) else { continue };
        let path = keys.to_lowercase().replace("__", ".");
        if OVERRIDABLE.contains(&path.as_str()) {
            document.override_value(&path, &variable, &value);
        } else {
            let known = OVERRIDABLE.iter().map(|path| variable_of(path)).chain([TOKEN_VARIABLE.to_owned()]);
            let keys = known.collect::<Vec<_>>().join(", ");
            problems.note(&Place::environment(&variable), format_args!("stands for no key; known: {keys}"));
        }
    }
}

fn variable_of(path: &str) -> String {
    format!("{ENV_PREFIX}{}", path.to_uppercase().replace('.', "__"))
}

fn read(document: &Document, folder: &Path, token: Option<&str>, problems: &Problems) -> Option<Config> {
    let mut root = document.root(problems);
    let pipeline = root.required::<String>("pipeline").filter(|name| usable_pipeline(name, problems));
    let (location, flush) = read_lake(root.section("lake"), problems);
    let (source, defaults) = read_source(root.section("source"), problems);
    let mut budget = root.section("budget");
    let problems_before = problems.count();
    let budget_bytes = budget.optional::<ByteSize>("bytes");
    let is_budget_known = problems.count() == problems_before;
    budget.finish();
    let (listen, access, window_series_max) = serve::read(root.section("serve"), folder, token, problems);
    let grafana_live = grafana_live::read(root.section("grafana_live"), folder, problems);
    let mut aws = root.section("aws");
    let aws_config = KinesisConfig { region: region(&mut aws), endpoint: endpoint(&mut aws, problems) };
    aws.finish();
    let mut shutdown = root.section("shutdown");
    let grace_ms = shutdown.optional::<DurationMs>("grace").map_or(30_000, |grace| grace.value.0);
    shutdown.finish();
    let maintenance = maintenance::read(root.section("maintenance"), problems);
    let told_before = problems.count();
    let sections = root.sections("stream");
    let count = sections.len() as u64;
    if count == 0 && problems.count() == told_before {
        problems.note(&root.place(), "no stream; expected [[stream]] with `name` and `contract` at least once");
    }
    let streams = read_streams(sections, folder, defaults, problems);
    root.finish();
    let budget_place = budget_bytes.as_ref().map_or_else(|| document.place(), |bytes| bytes.place.clone());
    let budget_bytes = budget_bytes.map_or(256 << 20, |bytes| bytes.value.0);
    if is_budget_known {
        check_budget(budget_bytes, flush.flush_bytes, count.max(1), &budget_place, problems);
    }
    let mut location = location?;
    location.region = location.region.or_else(|| aws_config.region.clone());
    Some(Config {
        pipeline: pipeline?.value,
        lake: LakeSection { location, flush },
        source,
        budget_bytes,
        listen,
        access,
        window_series_max,
        grafana_live,
        aws: aws_config,
        shutdown_grace: Duration::from_millis(grace_ms),
        maintenance,
        streams: streams?,
    })
}

/// The name is part of ledger keys `pipeline/stream@epoch/shard/..`.
fn usable_pipeline(name: &At<String>, problems: &Problems) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let usable = !name.value.is_empty() && name.value.len() <= 100 && name.value.chars().all(allowed);
    if !usable {
        let value = Cut(&name.value);
        problems.note(
            &name.place,
            format_args!("`pipeline` = {value:?}; expected 1 to 100 letters, digits, `_`, `-` or `.`"),
        );
    }
    usable
}

fn text(section: &mut Section<'_>, key: &str) -> Option<At<String>> {
    section.optional::<Filled>(key).map(|text| At { value: text.value.0, place: text.place })
}

fn read_lake(mut section: Section<'_>, problems: &Problems) -> (Option<LakeConfig>, WriterOptions) {
    let uri = address::lake_uri(&mut section, problems);
    let interval = section.optional::<DurationMs>("flush_interval");
    let flush_bytes = section.optional::<ByteSize>("flush_bytes");
    if let Some(At { value: DurationMs(ms), place }) = &interval
        && !(100..=3_600_000).contains(ms)
    {
        problems.note(place, format_args!("`lake.flush_interval` = {}; expected \"100ms\" to \"1h\"", DurationMs(*ms)));
    }
    if let Some(At { value: ByteSize(bytes), place }) = &flush_bytes
        && *bytes < 1 << 20
    {
        problems.note(place, format_args!("`lake.flush_bytes` = {bytes} bytes; expected at least 1MiB"));
    }
    let region = region(&mut section);
    let endpoint = endpoint(&mut section, problems);
    section.finish();
    let flush = WriterOptions {
        flush_interval: Duration::from_millis(interval.map_or(5_000, |interval| interval.value.0)),
        flush_bytes: flush_bytes.map_or(32 << 20, |bytes| bytes.value.0),
    };
    (uri.map(|uri| LakeConfig { uri, region, endpoint }), flush)
}

/// What `[source]` says for every stream that says nothing of its own.
#[derive(Clone, Copy)]
struct StreamDefaults {
    start: StartPosition,
    foreign_records: ForeignRecords,
}

impl StreamDefaults {
    /// The same keys, in `[source]` and in `[[stream]]`.
    fn overridden_by(self, section: &mut Section<'_>) -> Self {
        let start = section.optional::<StartPosition>("start").map_or(self.start, |start| start.value);
        let foreign_records = section.optional::<ForeignRecords>("foreign_records");
        Self { start, foreign_records: foreign_records.map_or(self.foreign_records, |policy| policy.value) }
    }
}

fn read_source(mut section: Section<'_>, problems: &Problems) -> (SourceSection, StreamDefaults) {
    let defaults = StreamDefaults { start: StartPosition::default(), foreign_records: ForeignRecords::default() };
    let defaults = defaults.overridden_by(&mut section);
    let on_data_loss = section.optional::<OnDataLoss>("on_data_loss").map_or(OnDataLoss::Fail, |policy| policy.value);
    let reads = section.optional::<f64>("reads_per_second");
    if let Some(At { value, place }) = &reads
        && !(0.1..=5.0).contains(value)
    {
        problems.note(place, format_args!("`source.reads_per_second` = {value}; expected 0.1 to 5, which is what a shard gives all its consumers together"));
    }
    let align = section.optional::<DurationMs>("align_within");
    if let Some(At { value: DurationMs(ms), place }) = &align
        && *ms < 1_000
    {
        problems.note(
            place,
            format_args!("`source.align_within` = {}; expected at least \"1s\" (\"366d\" is never)", DurationMs(*ms)),
        );
    }
    section.finish();
    let source = SourceSection {
        on_data_loss,
        reads_per_second: reads.map_or(4.0, |reads| reads.value),
        align_within: Duration::from_millis(align.map_or(600_000, |align| align.value.0)),
    };
    (source, defaults)
}

fn read_streams(
    sections: Vec<Section<'_>>,
    folder: &Path,
    defaults: StreamDefaults,
    problems: &Problems,
) -> Option<Vec<StreamConfig>> {
    let mut taken = BTreeMap::new();
    let streams: Vec<Option<StreamConfig>> =
        sections.into_iter().map(|section| read_stream(section, folder, defaults, problems, &mut taken)).collect();
    streams.into_iter().collect()
}

fn read_stream(
    mut section: Section<'_>,
    folder: &Path,
    defaults: StreamDefaults,
    problems: &Problems,
    taken: &mut BTreeMap<String, String>,
) -> Option<StreamConfig> {
    let place = section.place();
    let (name, arn) = (text(&mut section, "name"), text(&mut section, "arn"));
    let named = section.has("name") || section.has("arn");
    let path = section.required::<Filled>("contract").map(|path| At { value: path.value.0, place: path.place });
    let StreamDefaults { start, foreign_records } = defaults.overridden_by(&mut section);
    section.finish();
    let id = match (name, arn) {
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => {
            if !named {
                problems.note(&place, "a stream needs `name` or `arn`");
            }
            None
        }
        (Some(_), Some(arn)) => {
            problems.note(&arn.place, "a stream has `name` or `arn`, not both");
            None
        }
    };
    let path = path.map(|path| At { value: resolve(folder, &path.value), place: path.place });
    let file = path.as_ref().map_or_else(|| "without a contract".to_owned(), |path| path.value.display().to_string());
    let (name, place) = match &id {
        Some(id) => (format!("stream {}", name_of(&id.value)), &id.place),
        None => ("a stream without a name".to_owned(), &place),
    };
    let by = format!("{} ({file})", Cut(&name));
    if id.is_some() {
        claim(taken, &name, &by, place, problems);
    }
    let path = path?;
    let contract = contract::load(&path.value, Some(&path.place), problems)?;
    for table in contract.tables() {
        claim(taken, &format!("table {}", table.to_lowercase()), &by, place, problems);
    }
    Some(StreamConfig { id: id?.value, contract: Arc::new(contract), start, foreign_records })
}

/// Two streams must not share a name, nor two contracts a table.
fn claim(taken: &mut BTreeMap<String, String>, what: &str, by: &str, place: &Place, problems: &Problems) {
    if let Some(first) = taken.insert(what.to_owned(), by.to_owned()) {
        problems
            .note(place, format_args!("{} is already taken by {first}; each must be unique in a pipeline", Cut(what)));
    }
}

fn resolve(folder: &Path, path: &str) -> PathBuf {
    if Path::new(path).is_absolute() { PathBuf::from(path) } else { folder.join(path) }
}

/// A share must hold two worst-case reads beside a full micro-batch, or the stream could wait for itself.
fn check_budget(bytes: u64, flush_bytes: u64, streams: u64, place: &Place, problems: &Problems) {
    let needed = (2 * READ_COST_MAX).saturating_add(flush_bytes);
    let share = bytes / streams;
    if share < needed {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let wanted_mib = mib(needed).saturating_mul(streams);
        problems.note(
            place,
            format_args!(
                "`budget.bytes` = {}MiB gives each of {streams} streams {}MiB; expected at least {wanted_mib}MiB: two reads of \
                 {}MiB and one flush of {}MiB (`lake.flush_bytes`) for each stream; write `bytes = \"{wanted_mib}MiB\"` in [budget]",
                mib(bytes),
                share >> 20,
                mib(READ_COST_MAX),
                mib(flush_bytes),
            ),
        );
    }
}

#[cfg(test)]
mod tests;
