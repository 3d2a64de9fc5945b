//! One line on the status board for many readers: the stream is ready only when none of them is in trouble.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::status::StreamBoard;

/// Who on the status board speaks for the source.
const WHO: &str = "source";

/// The troubles of one stream's source, by whom they befell. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Troubles {
    board: StreamBoard,
    open: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Troubles {
    /// None so far.
    pub fn new(board: StreamBoard) -> Self {
        Self { board, open: Arc::default() }
    }

    /// `who` (a shard, or the listing) cannot work because of `what`. Logged when it is news.
    pub fn raise(&self, who: &str, what: String) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(who) != Some(&what) {
            tracing::warn!(who, reason = what, "cannot read, will try again");
            open.insert(who.to_owned(), what);
            self.show(&open);
        }
    }

    /// `who` works.
    pub fn clear(&self, who: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.remove(who).is_some() {
            tracing::info!(who, "reads again");
            self.show(&open);
        }
    }

    fn show(&self, open: &BTreeMap<String, String>) {
        match open.first_key_value() {
            None => self.board.resolved(WHO),
            Some((who, what)) if open.len() == 1 => self.board.trouble(WHO, format!("{who}: {what}")),
            Some((who, what)) => self.board.trouble(WHO, format!("{who}: {what} (and {} more)", open.len() - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::StatusBoard;

    #[test]
    fn the_stream_is_ready_only_when_the_last_trouble_is_over() {
        let board = StatusBoard::default().stream("s");
        let troubles = Troubles::new(board.clone());
        troubles.raise("shard a", "denied".to_owned());
        troubles.raise("shard b", "denied".to_owned());
        assert_eq!(board.snapshot().trouble["source"], "shard a: denied (and 1 more)");
        troubles.clear("shard a");
        assert_eq!(board.snapshot().trouble["source"], "shard b: denied");
        troubles.clear("shard b");
        assert!(!board.snapshot().trouble.contains_key("source"));
    }
}
