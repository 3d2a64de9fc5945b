//! The stored figures, and what makes two of them comparable.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts/stored.json");

/// Hash seeds and addresses move a count by one or two in a thousand, those of windows by two in a hundred.
const MARGIN: f64 = 0.05;

/// Of one build.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The compiler.
    rustc: String,
    /// The processor, as far as it decides which code runs.
    processor: String,
    /// By name.
    instructions_per_record: BTreeMap<String, u64>,
}

impl Figures {
    pub fn of_this_build(figures: impl IntoIterator<Item = (String, u64)>) -> Self {
        Self {
            rustc: env!("LOAD_TESTS_RUSTC").to_owned(),
            processor: processor(),
            instructions_per_record: figures.into_iter().collect(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn processor() -> String {
    let widest = if std::is_x86_feature_detected!("avx2") { "with AVX2" } else { "without AVX2" };
    format!("x86_64 {widest}")
}

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> String {
    std::env::consts::ARCH.to_owned()
}

/// `stored.json`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stored {
    debug: Option<Figures>,
    release: Option<Figures>,
}

impl Stored {
    pub fn read() -> Self {
        match std::fs::read(FILE) {
            Ok(text) => serde_json::from_slice(&text).expect("stored.json is as --store writes it"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => panic!("{FILE}: {error}"),
        }
    }

    /// With the figures of this build.
    pub fn with(mut self, figures: Figures) -> Self {
        *self.of_this_build_mut() = Some(figures);
        self
    }

    fn of_this_build_mut(&mut self) -> &mut Option<Figures> {
        if cfg!(debug_assertions) { &mut self.debug } else { &mut self.release }
    }

    pub fn write(&self) {
        let text = serde_json::to_string_pretty(self).expect("figures are JSON");
        std::fs::write(FILE, text + "\n").expect("stored.json can be written");
        eprintln!("stored in {FILE}");
    }
}

/// Says how the figures stand to the stored ones; fails if one is higher by more than the margin.
pub fn compare(stored: &Stored, now: &Figures) -> ExitCode {
    let Some(stored) = stored.clone().of_this_build_mut().take() else {
        println!("nothing is stored for this kind of build; --store stores these figures");
        return ExitCode::SUCCESS;
    };
    if (&stored.rustc, &stored.processor) != (&now.rustc, &now.processor) {
        let (rustc, processor) = (&stored.rustc, &stored.processor);
        println!(
            "not compared: the stored figures are of {rustc} on {processor}, these of {} on {}",
            now.rustc, now.processor
        );
        println!("--store replaces them");
        return ExitCode::SUCCESS;
    }
    let mut is_more = false;
    for (name, count) in &now.instructions_per_record {
        let Some(before) = stored.instructions_per_record.get(name) else {
            println!("{name:<14} {count:>9}  not stored yet");
            continue;
        };
        let change = *count as f64 / *before as f64 - 1.0;
        let verdict = match change {
            change if change > MARGIN => "MORE",
            change if change < -MARGIN => "fewer: store it, or the next one may hide behind it",
            _ => "the same",
        };
        is_more |= change > MARGIN;
        println!("{name:<14} {before:>9} -> {count:>9} {:>+7.2} %  {verdict}", change * 1e2);
    }
    if is_more { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
