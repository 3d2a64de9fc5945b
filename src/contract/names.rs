//! Which names tables and columns may have, and who else has them already.
//!
//! Names are refused here that some engine would choke on later: Delta compares them without regard to case, Spark
//! splits at dots and hides folders that begin with `_`, SQL wants letters, digits and `_`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::toml_doc::{Cut, Place, Problems};

/// A folder's name, and the path of everything inside it, must stay within what file systems take.
const NAME_BYTES_MAX: usize = 200;

/// What is wrong with the name of a table or window, which is also a folder's name.
pub(super) fn table_fault(name: &str) -> Option<&'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Some("must have 1 to 200 letters");
    }
    if !name.chars().all(legal) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Some("must be ASCII letters, digits, `_` and `-`, and begin with a letter or a digit");
    }
    None
}

/// What is wrong with the name of a column.
pub(super) fn column_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Some("must have 1 to 200 letters");
    }
    if name.starts_with('_') {
        return Some("begins with `_`, which is kept for bookkeeping columns like `_shard_id`; take it away");
    }
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Some("must be letters, digits and `_`");
    }
    None
}

/// Names that must differ from each other, also in lower case, each with who has it.
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeMap<String, Owner>);

#[derive(Debug)]
struct Owner {
    name: String,
    /// What is said to whoever comes second, like "is taken by ..".
    by: String,
}

impl Taken {
    /// Takes the name for somebody, of whom the next one is told `by`. False if somebody has it, which is noted.
    pub(super) fn take(&mut self, what: &str, name: &str, by: &str, place: &Place, problems: &Problems) -> bool {
        match self.0.entry(name.to_lowercase()) {
            Entry::Vacant(free) => {
                free.insert(Owner { name: name.to_owned(), by: by.to_owned() });
                true
            }
            Entry::Occupied(owner) => {
                let Owner { name: other, by } = owner.get();
                let case = if other == name {
                    String::new()
                } else {
                    format!(", as `{}`: Delta does not tell upper from lower case", Cut(other))
                };
                problems.note(place, format_args!("{what} `{}` {by}{case}; rename it", Cut(name)));
                false
            }
        }
    }
}
