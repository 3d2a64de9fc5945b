//! Which files are worth compacting, from one pass over the log.
//!
//! Files of one day are merged with files of like size: three sizes, sixteen times apart, so that a row is rewritten
//! about three times on its way from a flush to a full file, and not with every new flush of its day.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::MaintenanceOptions;
use super::small_files::LeftOut;
use crate::contract::DATE;
use crate::lake::output::is_full;
use crate::limits::{COMPACT_CANDIDATES_MAX, COMPACT_GROUPS_MAX, COMPACT_INPUT_FILES_MAX, COMPACT_INPUT_TARGETS_MAX};

const SIZES: usize = 3;
const SIZE_STEP: u64 = 16;

/// A file that may be merged with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SmallFile {
    pub path: String,
    pub size: u64,
    modified_ms: i64,
}

/// Files of one day (`2026-11-22`; `None` = the null partition), oldest first, that one commit replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub day: Option<String>,
    pub files: Vec<SmallFile>,
}

/// Small files in the table as far as its log was read.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    options: MaintenanceOptions,
    left_out: &'a LeftOut,
    files: HashMap<String, (Option<String>, SmallFile)>,
    /// Files known as broken that are in the table.
    broken: HashSet<String>,
}

#[derive(Deserialize)]
struct Line {
    add: Option<Added>,
    remove: Option<Removed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Added {
    path: String,
    size: u64,
    modification_time: i64,
    partition_values: HashMap<String, Option<String>>,
    deletion_vector: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Removed {
    path: String,
}

/// Columns of a checkpoint that the choice needs; statistics, the bulk of it, stay where they are.
pub(super) fn is_needed(column: &str) -> bool {
    matches!(column, "add.path" | "add.size" | "add.modificationTime")
        || column.starts_with("add.partitionValues.")
        || column.starts_with("add.deletionVector.")
}

impl<'a> Candidates<'a> {
    pub fn new(options: MaintenanceOptions, left_out: &'a LeftOut) -> Self {
        Self { options, left_out, files: HashMap::new(), broken: HashSet::new() }
    }

    /// Takes in log actions, in their order.
    pub fn note(&mut self, lines: &[u8]) -> Result<(), String> {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            if let Some(removed) = line.remove {
                self.files.remove(&removed.path);
                self.broken.remove(&removed.path);
            }
            if let Some(added) = line.add {
                self.note_added(added);
            }
        }
        Ok(())
    }

    fn note_added(&mut self, added: Added) {
        let Added { path, size, modification_time, partition_values, deletion_vector } = added;
        let Some(day) = day_of(&partition_values) else { return };
        if self.left_out.broken.contains_key(&path) {
            self.broken.insert(path);
            return;
        }
        let is_ours_to_move = deletion_vector.is_none() && is_plain(&path) && !self.left_out.unfit.contains(&path);
        if !is_ours_to_move
            || is_full(size, self.options.target_file_bytes)
            || self.files.len() >= COMPACT_CANDIDATES_MAX
        {
            return;
        }
        let file = SmallFile { path: path.clone(), size, modified_ms: modification_time };
        self.files.insert(path, (day, file));
    }

    fn size_class(&self, size: u64) -> usize {
        let mut bound = self.options.target_file_bytes / SIZE_STEP;
        let mut class = 0;
        while class + 1 < SIZES && size < bound {
            bound /= SIZE_STEP;
            class += 1;
        }
        class
    }

    /// What is worth it, the most files first; and the files known as broken that are still in the table.
    pub fn groups(self) -> (Vec<Group>, HashSet<String>) {
        let mut days: BTreeMap<Option<String>, [Vec<SmallFile>; SIZES]> = BTreeMap::new();
        let (options, mut groups) = (self.options, Vec::new());
        let classed: Vec<_> = self.files.values().map(|(day, file)| (day, self.size_class(file.size), file)).collect();
        for (day, class, file) in classed {
            days.entry(day.clone()).or_default()[class].push(file.clone());
        }
        for (day, classes) in days {
            let worth: Vec<Vec<SmallFile>> =
                classes.iter().filter(|files| files.len() >= options.compact_files).cloned().collect();
            // Classes that stay below the bound add up, too.
            let together: Vec<SmallFile> = classes.into_iter().flatten().collect();
            let is_worth_together = worth.is_empty() && together.len() >= 2 * options.compact_files;
            let worth = if is_worth_together { vec![together] } else { worth };
            groups.extend(worth.into_iter().flat_map(|files| cut(&day, files, options)));
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.files.len()));
        groups.truncate(COMPACT_GROUPS_MAX);
        (groups, self.broken)
    }
}

/// Cuts many files into groups that one commit can replace.
fn cut(day: &Option<String>, mut files: Vec<SmallFile>, options: MaintenanceOptions) -> Vec<Group> {
    files.sort_by(|a, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
    let bytes_max = options.target_file_bytes.saturating_mul(COMPACT_INPUT_TARGETS_MAX);
    let (mut groups, mut group, mut bytes) = (Vec::new(), Vec::new(), 0);
    for file in files {
        bytes += file.size;
        group.push(file);
        if group.len() >= COMPACT_INPUT_FILES_MAX || bytes >= bytes_max {
            groups.push(Group { day: day.clone(), files: std::mem::take(&mut group) });
            bytes = 0;
        }
    }
    if group.len() >= options.compact_files {
        groups.push(Group { day: day.clone(), files: group });
    }
    groups.retain(|group| group.files.len() > 1);
    groups
}

/// The day of a file's partition; the outer `None` if it is no day of ours.
fn day_of(partition_values: &HashMap<String, Option<String>>) -> Option<Option<String>> {
    let day = partition_values.get(DATE).filter(|_| partition_values.len() == 1)?;
    match day.as_deref() {
        // Delta reads the empty text as null.
        None | Some("") => Some(None),
        Some(text) => {
            let parsed = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            (parsed.format("%Y-%m-%d").to_string() == text).then(|| Some(text.to_owned()))
        }
    }
}

/// Relative to the table and written as it is. Others, foreign ones, are left where they are.
fn is_plain(path: &str) -> bool {
    !path.contains('%') && !path.contains("://") && !path.starts_with('/') && !path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: MaintenanceOptions =
        MaintenanceOptions { checkpoint_commits: 1, compact_files: 3, target_file_bytes: 256_000 };

    fn add(path: &str, day: &str, size: u64) -> String {
        format!(
            "{{\"add\":{{\"path\":\"{path}\",\"size\":{size},\"modificationTime\":{size},\
             \"partitionValues\":{{\"_date\":{day}}},\"dataChange\":true}}}}\n"
        )
    }

    fn chosen(lines: &str) -> Vec<(Option<String>, Vec<String>)> {
        let left_out = LeftOut { unfit: HashSet::from(["unfit".to_owned()]), ..LeftOut::default() };
        let mut candidates = Candidates::new(OPTIONS, &left_out);
        candidates.note(lines.as_bytes()).unwrap();
        let paths = |group: Group| (group.day, group.files.into_iter().map(|file| file.path).collect());
        candidates.groups().0.into_iter().map(paths).collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn files_of_one_day_and_of_like_size_are_merged_oldest_first() {
        let (one, two) = ("\"2026-11-22\"", "\"2026-11-23\"");
        let mut lines = add("c", one, 12) + &add("a", one, 10) + &add("b", one, 11);
        lines +=
            &(add("large", one, 20_000) + &add("other", two, 1) + &add("another", two, 2) + &add("full", one, 192_000));
        assert_eq!(chosen(&lines), [(Some("2026-11-22".to_owned()), names(&["a", "b", "c"]))]);
        lines += "{\"commitInfo\":{}}\n{\"remove\":{\"path\":\"b\"},\"add\":null}\n";
        assert!(chosen(&lines).is_empty(), "one of them is gone");
    }

    #[test]
    fn few_of_each_size_are_merged_once_they_are_many_together() {
        let day = "null";
        let few = add("a", day, 1)
            + &add("b", day, 2)
            + &add("c", day, 2_000)
            + &add("d", day, 2_001)
            + &add("e", day, 20_000);
        assert!(chosen(&few).is_empty());
        let more = few + &add("f", day, 20_001);
        assert_eq!(chosen(&more), [(None, names(&["a", "b", "c", "d", "e", "f"]))]);
    }

    #[test]
    fn what_is_not_ours_to_rewrite_is_left_where_it_is() {
        let day = "\"2026-11-22\"";
        let vector =
            add("v", day, 1).replace("\"dataChange\"", "\"deletionVector\":{\"storageType\":\"u\"},\"dataChange\"");
        let two_columns = add("t", day, 1).replace("\"_date\"", "\"region\":\"eu\",\"_date\"");
        let foreign = [add("a%20b", day, 1), add("s3://b/x", day, 1), add("/abs", day, 1), add("../up", day, 1)];
        let strange = [add("day", "\"2026-1-2\"", 1), add("unfit", day, 1), vector, two_columns];
        let lines: String = foreign.into_iter().chain(strange).chain([add("a", day, 1), add("b", day, 2)]).collect();
        assert!(chosen(&lines).is_empty());
    }

    #[test]
    fn a_group_ends_where_enough_work_could_be_lost() {
        let many: String = (0..30).map(|n| add(&format!("f{n:02}"), "null", 100_000 + n)).collect();
        let groups = chosen(&many);
        assert_eq!(groups.iter().map(|(_, files)| files.len()).collect::<Vec<_>>(), [11, 11, 8]);
        assert_eq!(groups[0].1[0], "f00");
    }
}
