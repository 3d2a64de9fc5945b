//! The records that everybody gets: the posting emulation's, written once as lines of JSON.
//!
//! About one field in twenty is dirty in the ways that the shipped contracts name, and one line in two hundred is no
//! JSON. Beside the whole file lies the same without those lines, for engines that stop at the first. What only
//! Pintail undoes (payloads wrapped or compressed, times in seven forms, white space around texts) is left out: it
//! would only show that the others cannot read it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use pintail::demo::Kind;
use pintail::demo::pinterest::Population;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::seed::Seed;

/// Goes up when the same seed gives other bytes, so that old files are not taken for new ones.
const REVISION: u32 = 1;

/// One field, or one record, in so many is dirty.
const DIRTY_ONE_IN: u64 = 20;

/// One line in so many is no JSON.
const MALFORMED_ONE_IN: u64 = 200;

/// White space that the contracts trim; the emulation's texts have some at their ends.
const BLANK: [char; 7] = [' ', '\t', '\n', '\u{b}', '\u{c}', '\r', '\u{a0}'];

/// One stream's records in files.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Lines {
    /// Every line.
    pub whole: PathBuf,
    /// Only those that are JSON.
    pub valid: PathBuf,
    /// Lines of the whole file.
    pub lines: u64,
    /// Lines of the valid file: what must become rows.
    pub records: u64,
    /// Bytes of the whole file.
    pub bytes: u64,
}

/// The files of one stream with so many lines, which are there already or are written now.
pub fn lines(folder: &Path, kind: Kind, count: u32, seed: u64) -> anyhow::Result<Lines> {
    let name = format!("{}-{count}-{seed}-r{REVISION}", kind.name());
    let manifest = folder.join(format!("{name}.json"));
    if let Ok(text) = std::fs::read_to_string(&manifest) {
        let known: Lines = serde_json::from_str(&text).with_context(|| manifest.display().to_string())?;
        if known.whole.exists() && known.valid.exists() {
            return Ok(known);
        }
    }
    eprintln!("writing {count} {} records to {} ...", kind.name(), folder.display());
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let written = write(folder, &name, kind, count, seed).with_context(|| folder.display().to_string())?;
    std::fs::write(&manifest, serde_json::to_vec_pretty(&written)?)?;
    Ok(written)
}

fn write(folder: &Path, name: &str, kind: Kind, count: u32, seed: u64) -> anyhow::Result<Lines> {
    let (whole, valid) = (folder.join(format!("{name}.jsonl")), folder.join(format!("{name}.valid.jsonl")));
    let mut to_whole = BufWriter::new(File::create(&whole)?);
    let mut to_valid = BufWriter::new(File::create(&valid)?);
    let (population, mut seed) = (Population::new(), Seed::from(seed));
    let (mut records, mut bytes) = (0, 0);
    for number in 0..count {
        let mut line = record(&population, kind, number, &mut seed)?;
        match one_in(&mut seed, MALFORMED_ONE_IN) {
            true => line = malformed(&line, &mut seed),
            false => {
                records += 1;
                writeln!(to_valid, "{line}")?;
            }
        }
        bytes += line.len() as u64 + 1;
        writeln!(to_whole, "{line}")?;
    }
    to_whole.flush()?;
    to_valid.flush()?;
    Ok(Lines { whole, valid, lines: u64::from(count), records, bytes })
}

fn one_in(seed: &mut Seed, many: u64) -> bool {
    seed.below(many) == 0
}

fn record(population: &Population, kind: Kind, number: u32, seed: &mut Seed) -> anyhow::Result<String> {
    let mut record: Value = serde_json::from_str(&population.endless(kind, number))?;
    for value in record.as_object_mut().context("a record is an object")?.values_mut() {
        if let Value::String(text) = value {
            *text = text.trim_matches(BLANK).to_owned();
        }
    }
    match kind {
        Kind::Pin => dirty_pin(&mut record, seed),
        Kind::Geo if one_in(seed, DIRTY_ONE_IN) => dirty_geo(&mut record, seed),
        Kind::User if one_in(seed, DIRTY_ONE_IN) => dirty_user(&mut record, seed),
        Kind::Geo | Kind::User => {}
    }
    Ok(record.to_string())
}

fn dirty_pin(pin: &mut Value, seed: &mut Seed) {
    let descriptions = ["No description available", "No description available Story format", ""];
    let description = descriptions[seed.below(3) as usize];
    let sentinels: [(&[&str], &str); 5] = [
        (&["title"], "No Title Data Available"),
        (&["description"], description),
        (&["poster_name", "follower_count"], "User Info Error"),
        (&["tag_list"], "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"),
        (&["image_src"], "Image src error."),
    ];
    for (fields, sentinel) in sentinels {
        if one_in(seed, DIRTY_ONE_IN) {
            fields.iter().for_each(|field| pin[*field] = json!(sentinel));
        }
    }
}

fn dirty_geo(geo: &mut Value, seed: &mut Seed) {
    match seed.below(5) {
        0 => geo["timestamp"] = json!("N/A"),
        1 => geo["country"] = json!(""),
        2 => geo["latitude"] = Value::Null,
        3 => geo["longitude"] = Value::Null,
        _ => geo["longitude"] = json!(999.0),
    }
}

fn dirty_user(user: &mut Value, seed: &mut Seed) {
    match seed.below(5) {
        0 => user["first_name"] = Value::Null,
        1 => user["last_name"] = Value::Null,
        2 => user["age"] = Value::Null,
        3 => user["age"] = json!(999),
        _ => user["date_joined"] = json!("N/A"),
    }
}

/// The line, broken in one of the ways in which lines break.
fn malformed(line: &str, seed: &mut Seed) -> String {
    match seed.below(4) {
        0 => {
            let at = 1 + seed.below(line.len() as u64 - 1) as usize;
            line[..line.floor_char_boundary(at)].to_owned()
        }
        1 => line.replacen("\":", "\"", 1),
        2 => "<html><body>502 Bad Gateway</body></html>".to_owned(),
        _ => format!("{},\"more\":tru}}", &line[..line.len() - 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_writes_the_same_lines_once_and_the_valid_file_is_all_json() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for kind in Kind::ALL {
            let first = lines(one.path(), kind, 2_000, 7).unwrap();
            let again = lines(other.path(), kind, 2_000, 7).unwrap();
            let read = |path: &Path| std::fs::read_to_string(path).unwrap();
            assert_eq!(read(&first.whole), read(&again.whole));
            let is_json = |text: &str| text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
            let (whole, valid) = (read(&first.whole), read(&first.valid));
            assert_eq!(is_json(&valid) as u64, first.records);
            assert_eq!((is_json(&whole) as u64, whole.lines().count() as u64), (first.records, first.lines));
            assert_eq!(whole.len() as u64, first.bytes);
            assert!((2..40).contains(&(first.lines - first.records)), "{first:?}");

            std::fs::write(&first.valid, "touched").unwrap();
            assert_eq!(lines(one.path(), kind, 2_000, 7).unwrap(), first);
            assert_eq!(read(&first.valid), "touched", "what is there is not written again");
        }
    }

    #[test]
    fn every_kind_of_dirt_is_in_the_lines() {
        let folder = tempfile::tempdir().unwrap();
        let text = |kind| std::fs::read_to_string(lines(folder.path(), kind, 3_000, 1).unwrap().valid).unwrap();
        let pins = text(Kind::Pin);
        for field in
            ["title\":\"No Title", "follower_count\":\"User Info", "tag_list\":\"N,o,", "image_src\":\"Image src"]
        {
            let share = pins.matches(field).count() as f64 / 3_000.0;
            assert!((0.04..0.08).contains(&share), "{field}: {share}");
        }
        let geos = text(Kind::Geo);
        for value in ["\"N/A\"", "\"country\":\"\"", "\"latitude\":null", "\"longitude\":999.0"] {
            assert!(geos.contains(value), "{value}");
        }
        let users = text(Kind::User);
        for value in ["\"first_name\":null", "\"last_name\":null", "\"age\":null", "\"age\":999", "\"N/A\""] {
            assert!(users.contains(value), "{value}");
        }
    }
}
