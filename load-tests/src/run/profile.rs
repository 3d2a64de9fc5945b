//! What is posted, and to what: a TOML file, so that a run can be named, repeated and argued about.

use std::path::Path;

use anyhow::{Context, bail};
use pintail::demo::Kind;
use pintail::demo::pinterest::EmulationOptions;
use pintail::toml_doc::{At, ByteSize, Document, DurationMs, Problems, Section};
use serde::{Deserialize, Serialize};

/// Those that are in the binary: name and text.
pub const SHIPPED: [(&str, &str); 11] = [
    ("canonical", include_str!("../../profiles/canonical.toml")),
    ("burst", include_str!("../../profiles/burst.toml")),
    ("skewed", include_str!("../../profiles/skewed.toml")),
    ("hot_shard", include_str!("../../profiles/hot_shard.toml")),
    ("dirty", include_str!("../../profiles/dirty.toml")),
    ("reshard", include_str!("../../profiles/reshard.toml")),
    ("catch_up", include_str!("../../profiles/catch_up.toml")),
    ("quota", include_str!("../../profiles/quota.toml")),
    ("soak", include_str!("../../profiles/soak.toml")),
    ("many_shards", include_str!("../../profiles/many_shards.toml")),
    ("huge", include_str!("../../profiles/huge.toml")),
];

/// Kinesis takes no larger one without being told to.
const RECORD_BYTES_MAX: u64 = 1_000_000;

/// How far apart records are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// As strangers send them: by chance, and now and then many at once.
    #[default]
    Poisson,
    /// As a metronome.
    Steady,
}

/// More at times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Burst {
    /// So many times the rate.
    pub factor: f64,
    /// From the start of one to the start of the next.
    pub every_ms: u64,
    /// How long one takes.
    pub for_ms: u64,
}

/// Shares of records that are not as they should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Dirt {
    /// Actions posted again.
    pub duplicates: f64,
    /// Actions cut short.
    pub orphans: f64,
    /// Records accompanied by what is no record.
    pub garbage: f64,
    /// Records damaged on their way.
    pub damage: f64,
}

impl Dirt {
    /// As the emulation takes them.
    pub fn options(self, seed: u64) -> EmulationOptions {
        let Self { duplicates, orphans, garbage, damage } = self;
        EmulationOptions { seed, duplicates, orphans, garbage, damage, mixed_timestamps: true }
    }
}

/// One profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name: the shipped one's, or the file's.
    pub name: String,
    /// What it is for, in a line.
    pub about: String,
    /// How long is posted.
    pub duration_ms: u64,
    /// Records a second over all streams, without bursts.
    pub rate: f64,
    /// How far apart they are.
    pub arrivals: Arrivals,
    /// How long the producer waits for records that go in the same call.
    pub linger_ms: u64,
    /// Parts of pin, geo and user; a stream without a part is not there.
    pub streams: [f64; 3],
    /// Shards of each stream.
    pub shards: u32,
    /// All windows together; up to five they are the shipped ones.
    pub windows: u32,
    /// The size of every record, if not the emulation's.
    pub record_bytes: Option<u64>,
    /// Share of the records that have one and the same key.
    pub hot_share: f64,
    /// Exponent of a Zipf distribution of keys; 0: the emulation's own keys.
    pub key_skew: f64,
    /// Of the records.
    pub dirt: Dirt,
    /// More at times.
    pub burst: Option<Burst>,
    /// Between two splits or merges.
    pub reshard_every_ms: Option<u64>,
    /// What Pintail has to catch up with when it starts, as time at this rate.
    pub behind_ms: u64,
    /// Whether a shard gives Pintail no more than Kinesis's shards give.
    #[serde(default)]
    pub quotas: bool,
    /// `lake.flush_interval`
    pub flush_interval_ms: u64,
    /// `lake.flush_bytes`
    pub flush_bytes: u64,
    /// `budget.bytes`
    pub budget_bytes: u64,
    /// `source.reads_per_second`
    pub reads_per_second: f64,
    /// Between two looks at how far the live windows are.
    pub look_interval_ms: u64,
}

impl Profile {
    /// A shipped one by its name, or a file by its path.
    pub fn load(name: &str) -> anyhow::Result<Self> {
        let problems = Problems::default();
        let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
        let (name, document) = match shipped {
            Some((name, text)) => {
                ((*name).to_owned(), Document::parse(&format!("profile {name}"), (*text).to_owned(), &problems))
            }
            None => {
                let path = Path::new(name);
                if !path.is_file() {
                    let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
                    bail!("there is no profile {name:?}: expected one of {}, or the path of a file", names.join(", "));
                }
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                (stem, Document::read(path, None, &problems))
            }
        };
        let profile = document.as_ref().and_then(|document| Self::read(name, document, &problems));
        problems.into_result()?;
        profile.context("a profile without problems is whole")
    }

    /// Streams that are posted to.
    pub fn kinds(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| self.streams[*kind as usize] > 0.0).collect()
    }

    /// Records that are there before Pintail starts.
    pub fn backlog(&self) -> u64 {
        (self.rate * self.behind_ms as f64 / 1e3).round() as u64
    }

    /// `None` only with a problem noted.
    fn read(name: String, document: &Document, problems: &Problems) -> Option<Self> {
        let mut root = document.root(problems);
        let about = root.required::<String>("about");
        let duration = root.required::<DurationMs>("duration");
        let rate = within(&mut root, "rate", None, 0.01, 1_000_000.0);
        let arrivals = root.optional::<String>("arrivals");
        let profile = Self {
            name,
            about: about.map(|about| about.value).unwrap_or_default(),
            duration_ms: duration.map_or(0, |duration| duration.value.0),
            rate,
            arrivals: arrivals.map_or(Arrivals::Poisson, |at| parse_arrivals(&root, &at)),
            linger_ms: time(&mut root, "linger", 10),
            shards: whole(&mut root, "shards", 2, 1, 1_000),
            windows: whole(&mut root, "windows", 5, 0, 100),
            record_bytes: size(&mut root, "record_bytes"),
            hot_share: within(&mut root, "hot_share", Some(0.0), 0.0, 1.0),
            key_skew: within(&mut root, "key_skew", Some(0.0), 0.0, 5.0),
            streams: streams(root.optional_section("streams")),
            dirt: dirt(root.section("dirt")),
            burst: root.optional_section("burst").map(burst),
            reshard_every_ms: root.optional::<DurationMs>("reshard_every").map(|every| every.value.0),
            behind_ms: time(&mut root, "behind", 0),
            quotas: root.optional::<bool>("quotas").is_some_and(|quotas| quotas.value),
            flush_interval_ms: time(&mut root, "flush_interval", 1_000),
            flush_bytes: size(&mut root, "flush_bytes").unwrap_or(32 << 20),
            budget_bytes: size(&mut root, "budget_bytes").unwrap_or(256 << 20),
            reads_per_second: within(&mut root, "reads_per_second", Some(5.0), 0.01, 5.0),
            look_interval_ms: time(&mut root, "look_interval", 20),
        };
        let place = root.place();
        if profile.kinds().is_empty() {
            problems.note(&place, "no stream has a part in `streams`; expected one above 0");
        }
        if profile.record_bytes.is_some_and(|bytes| !(4_096..=RECORD_BYTES_MAX).contains(&bytes)) {
            problems.note(&place, format_args!("`record_bytes` must be between 4KiB and {RECORD_BYTES_MAX}B"));
        }
        root.finish();
        Some(profile)
    }
}

fn parse_arrivals(root: &Section<'_>, at: &At<String>) -> Arrivals {
    match at.value.as_str() {
        "poisson" => Arrivals::Poisson,
        "steady" => Arrivals::Steady,
        other => {
            let message = format_args!("`arrivals` = {other:?}; expected \"poisson\" or \"steady\"");
            root.problems().note(&at.place, message);
            Arrivals::Poisson
        }
    }
}

fn streams(section: Option<Section<'_>>) -> [f64; 3] {
    let Some(mut section) = section else { return [1.0; 3] };
    let parts = Kind::ALL.map(|kind| within(&mut section, kind.name(), Some(0.0), 0.0, 1_000.0));
    section.finish();
    parts
}

fn dirt(mut section: Section<'_>) -> Dirt {
    let stock = EmulationOptions::default();
    let mut share = |key, default| within(&mut section, key, Some(default), 0.0, 1.0);
    let dirt = Dirt {
        duplicates: share("duplicates", stock.duplicates),
        orphans: share("orphans", stock.orphans),
        garbage: share("garbage", stock.garbage),
        damage: share("damage", stock.damage),
    };
    section.finish();
    dirt
}

fn burst(mut section: Section<'_>) -> Burst {
    let factor = within(&mut section, "factor", None, 1.0, 1_000.0);
    let every_ms = section.required::<DurationMs>("every").map_or(1, |every| every.value.0);
    let for_ms = section.required::<DurationMs>("for").map_or(1, |time| time.value.0);
    if every_ms == 0 || for_ms > every_ms {
        section.problems().note(&section.place(), "a burst must end before the next one: `for` is longer than `every`");
    }
    section.finish();
    Burst { factor, every_ms: every_ms.max(1), for_ms }
}

/// A number between these, both included. Without a default it must be there.
fn within(section: &mut Section<'_>, key: &str, default: Option<f64>, min: f64, max: f64) -> f64 {
    let found = match default {
        Some(_) => section.optional::<f64>(key),
        None => section.required::<f64>(key),
    };
    let Some(At { value, place }) = found else { return default.unwrap_or(min) };
    if !(min..=max).contains(&value) {
        section.problems().note(&place, format_args!("`{key}` = {value}; expected a number from {min} to {max}"));
    }
    value
}

fn whole(section: &mut Section<'_>, key: &str, default: u32, min: u32, max: u32) -> u32 {
    let Some(At { value, place }) = section.optional::<i64>(key) else { return default };
    match u32::try_from(value).ok().filter(|value| (min..=max).contains(value)) {
        Some(value) => value,
        None => {
            let message = format_args!("`{key}` = {value}; expected a whole number from {min} to {max}");
            section.problems().note(&place, message);
            default
        }
    }
}

fn time(section: &mut Section<'_>, key: &str, default_ms: u64) -> u64 {
    section.optional::<DurationMs>(key).map_or(default_ms, |time| time.value.0)
}

fn size(section: &mut Section<'_>, key: &str) -> Option<u64> {
    section.optional::<ByteSize>(key).map(|size| size.value.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let problems = Problems::default();
        let document = Document::parse("p.toml", text.to_owned(), &problems).unwrap();
        Profile::read("p".to_owned(), &document, &problems).unwrap();
        problems.into_result().map_or_else(|invalid| invalid.problems().to_vec(), |()| Vec::new())
    }

    #[test]
    fn every_shipped_profile_is_read_and_says_what_it_is_for() {
        for (name, _) in SHIPPED {
            let profile = Profile::load(name).unwrap();
            assert!(profile.about.len() > 20 && profile.duration_ms >= 10_000, "{profile:?}");
        }
        let canonical = Profile::load("canonical").unwrap();
        assert_eq!((canonical.streams, canonical.windows, canonical.backlog()), ([1.0; 3], 5, 0));
    }

    #[test]
    fn every_mistake_is_told_with_its_line_and_none_hides_another() {
        let text = "about = \"x\"\nduration = 30\nrate = -1\nshardss = 3\narrivals = \"often\"\nwindows = 500\n\
                    [burst]\nfactor = 20\nevery = \"1s\"\nfor = \"2s\"\n[dirt]\ngarbage = 7\n[streams]\npins = 1\n";
        let expected = [
            "p.toml:2: `duration` = 30; expected a duration with its unit, like \"500ms\", \"5s\", \"1m\", \"2h\" or \
             \"1d\"",
            "p.toml:3: `rate` = -1; expected a number from 0.01 to 1000000",
            "p.toml:5: `arrivals` = \"often\"; expected \"poisson\" or \"steady\"",
            "p.toml:6: `windows` = 500; expected a whole number from 0 to 100",
            "p.toml:14: unknown key `streams.pins`; did you mean `pin`?",
            "p.toml:12: `garbage` = 7; expected a number from 0 to 1",
            "p.toml:7: a burst must end before the next one: `for` is longer than `every`",
            "p.toml:1: no stream has a part in `streams`; expected one above 0",
            "p.toml:4: unknown key `shardss`; did you mean `shards`?",
        ];
        assert_eq!(problems(text), expected);
        let missing = problems("rate = 1\n");
        assert!(missing[0].starts_with("p.toml:1: `about` is missing") && missing.len() == 2, "{missing:?}");
    }

    #[test]
    fn a_name_that_is_no_profile_and_no_file_is_answered_with_those_there_are() {
        let error = Profile::load("canonicle").unwrap_err().to_string();
        assert!(error.contains("\"canonicle\"") && error.contains("canonical, burst"), "{error}");
    }
}
