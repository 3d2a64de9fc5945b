//! How far a stream's tables have followed its rows table, which is how much of the rows log is still needed.
//!
//! A table says it for every stream that it has ever followed, and the one that is farthest behind counts. That may be
//! a stream of another pipeline that nobody runs any more, so whatever waits for it names it.

use std::collections::HashSet;

use super::table::Look;
use crate::lake::entry::plain_path;
use crate::lake::error::LakeError;
use crate::lake::listing::Span;
use crate::lake::log::{TableState, read_table};
use crate::lake::staging::staged_by;
use crate::lake::stream::HANDED_OVER;
use crate::limits::VACUUM_STAGED_MAX;

/// The stream that a table is farthest behind with.
pub(super) struct Applied {
    /// Up to this version of the rows table it is complete.
    pub version: u64,
    /// The transaction that says so.
    id: String,
}

impl Applied {
    fn lowest_of(state: &TableState) -> Option<Self> {
        let applied = state.txns.iter().filter(|(id, applied)| id.ends_with("/applied") && **applied != HANDED_OVER);
        let applied =
            applied.map(|(id, applied)| Self { version: u64::try_from(*applied).unwrap_or(0), id: id.clone() });
        applied.min_by_key(|applied| applied.version)
    }

    fn told(&self, look: &Look<'_>, table: &str) -> String {
        let whose = match self.id.starts_with(look.ours) {
            true => String::new(),
            false => ", which is another pipeline's or stream's: run it, or, if it is retired, hand its part over \
                      (README, Maintenance)"
                .to_owned(),
        };
        format!("{table} has followed {} only up to version {} by {}{whose}", look.rows, self.version, self.id)
    }
}

/// The version after which some following table needs the rows log, and why in words. `Err`: nobody can say.
pub(super) async fn needed_after(look: &Look<'_>) -> Result<Result<(u64, String), String>, LakeError> {
    let mut lowest: Option<(&String, Applied)> = None;
    for follower in look.followers {
        let Some(state) = read_table(look.store, follower, "").await? else {
            return Ok(Err(format!("its follower {follower} is not there")));
        };
        let Some(applied) = Applied::lowest_of(&state) else {
            return Ok(Err(format!("its follower {follower} does not say how far it has followed")));
        };
        if lowest.as_ref().is_none_or(|(_, lowest)| applied.version < lowest.version) {
            lowest = Some((follower, applied));
        }
    }
    Ok(Ok(lowest.map_or((u64::MAX, String::new()), |(table, applied)| (applied.version, applied.told(look, table)))))
}

/// Files that wait in the rows log for a table that follows.
pub(super) struct Waiting {
    /// By their paths.
    pub files: HashSet<String>,
    /// Somebody else's mark, if it makes this look longer than it need be.
    pub slowed: Option<String>,
}

impl Waiting {
    /// For this table, which is in this state.
    pub async fn of(look: &Look<'_>, table: &str, state: &TableState) -> Result<Self, LakeError> {
        let refused = |reason: String| LakeError::Refused { table: table.to_owned(), reason };
        let applied = Applied::lowest_of(state)
            .ok_or_else(|| refused(format!("it does not say how far it has followed {}", look.rows)))?;
        let rows = Span::of(look.store, look.rows).await?;
        let head = rows.ok_or_else(|| refused(format!("{}, which it follows, is not there", look.rows)))?.head();
        let mut files = HashSet::new();
        for version in applied.version.saturating_add(1)..=head {
            for add in staged_by(look.store, look.rows, version, "", table).await? {
                let path = add.get("path").and_then(serde_json::Value::as_str);
                files.extend(path.map(plain_path));
            }
            if files.len() > VACUUM_STAGED_MAX {
                let why = applied.told(look, table);
                return Err(refused(format!("more than {VACUUM_STAGED_MAX} files wait for it: {why}")));
            }
        }
        let is_foreign = applied.version < head && !applied.id.starts_with(look.ours);
        let slowed = is_foreign.then(|| {
            let entries = head - applied.version;
            format!("vacuum has read {entries} log entries of {}, since {}", look.rows, applied.told(look, table))
        });
        Ok(Self { files, slowed })
    }
}
