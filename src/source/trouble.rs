//! One line on the status board for many readers: the stream is ready only when none of them is in trouble.
//!
//! And one line in the log for each cause: an endpoint that is away befalls every shard at once, at every attempt, in
//! words that differ by a request's id.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Fault, ReadError};
use crate::error_chain::chain;
use crate::status::StreamBoard;

/// Who on the status board speaks for the source.
const WHO: &str = "source";

/// The troubles of one stream's source, by whom they befell. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Troubles {
    board: StreamBoard,
    open: Arc<Mutex<Open>>,
}

impl Troubles {
    /// None so far.
    pub fn new(board: StreamBoard) -> Self {
        Self { board, open: Arc::default() }
    }

    /// `who` (a shard, or the listing) cannot work because of `error`. Logged when it is the first with this fault.
    pub fn raise(&self, who: &str, error: &ReadError) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let what = chain(error);
        if open.raise(who, error.fault, &what) {
            tracing::warn!(stream = self.board.stream(), who, reason = what, "cannot read, will try again");
        }
        self.show(&open);
    }

    /// `who` works. Logged when it was the last with its fault.
    pub fn clear(&self, who: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(over) = open.clear(who) {
            if let Some(fault) = over {
                tracing::info!(stream = self.board.stream(), who, over = %fault, "reads again");
            }
            self.show(&open);
        }
    }

    /// `who` does not try any more, which mends nothing.
    pub fn leave(&self, who: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.clear(who).is_some() {
            self.show(&open);
        }
    }

    fn show(&self, open: &Open) {
        let Open(open) = open;
        match open.first_key_value() {
            None => self.board.resolved(WHO),
            Some((who, (_, what))) if open.len() == 1 => self.board.trouble(WHO, format!("{who}: {what}")),
            Some((who, (_, what))) => {
                self.board.trouble(WHO, format!("{who}: {what} (and {} more)", open.len() - 1));
            }
        }
    }
}

/// Who is in trouble: with which fault, in which words.
#[derive(Debug, Default)]
struct Open(BTreeMap<String, (Fault, String)>);

impl Open {
    /// Whether nobody had this fault before.
    fn raise(&mut self, who: &str, fault: Fault, what: &str) -> bool {
        let news = !self.has(fault);
        self.0.insert(who.to_owned(), (fault, what.to_owned()));
        news
    }

    /// `None`: `who` was in no trouble. Otherwise the fault, if nobody has it any more.
    fn clear(&mut self, who: &str) -> Option<Option<Fault>> {
        let (fault, _) = self.0.remove(who)?;
        Some((!self.has(fault)).then_some(fault))
    }

    fn has(&self, fault: Fault) -> bool {
        self.0.values().any(|(open, _)| *open == fault)
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Call;
    use super::*;
    use crate::status::StatusBoard;

    #[test]
    fn the_stream_is_ready_only_when_the_last_trouble_is_over() {
        let board = StatusBoard::default().stream("s");
        let troubles = Troubles::new(board.clone());
        let denied = ReadError::new(Call::GetRecords, Fault::AccessDenied, "denied");
        troubles.raise("shard a", &denied);
        troubles.raise("shard b", &denied);
        let line = board.snapshot().trouble["source"].clone();
        assert!(line.starts_with("shard a: ") && line.ends_with("denied (and 1 more)"), "{line}");
        troubles.clear("shard a");
        let line = board.snapshot().trouble["source"].clone();
        assert!(line.starts_with("shard b: ") && line.ends_with("denied"), "{line}");
        troubles.clear("shard b");
        assert!(!board.snapshot().trouble.contains_key("source"));
    }

    #[test]
    fn an_outage_of_many_shards_is_news_twice_however_often_it_is_met() {
        let (mut open, mut news) = (Open::default(), 0);
        for attempt in 0..12 {
            for shard in 0..100 {
                let what = format!("request {attempt}-{shard} failed");
                news += u32::from(open.raise(&format!("shard {shard}"), Fault::Unavailable, &what));
            }
        }
        let overs = (0..100).filter_map(|shard| open.clear(&format!("shard {shard}")).flatten()).count();
        assert_eq!((news, overs), (1, 1));
        assert_eq!(open.clear("shard 0"), None);
        assert!(open.raise("shard 0", Fault::Unavailable, "again"), "the next outage is news");
        assert!(open.raise("shard 1", Fault::AccessDenied, "denied"), "and so is another cause");
    }
}
