//! Large answers: a few on their way at a time.
//!
//! An answer is in memory until its client has read it, and a client may read slowly. A connection has its limits; this is
//! the limit for all of them together.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::error::RequestError;
use super::line::Line;
use crate::limits::{SERVE_LARGE_BYTES, SERVE_LARGE_MAX};

/// Who may send one.
#[derive(Debug, Clone)]
pub struct LargeAnswers {
    slots: Arc<Semaphore>,
}

impl Default for LargeAnswers {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(SERVE_LARGE_MAX)) }
    }
}

impl LargeAnswers {
    /// Whether an answer of so many bytes may go out. A large one takes a place, which its connection gives back when the
    /// answer is out, or with itself.
    pub fn let_out(&self, bytes: usize, line: &Line) -> Result<(), RequestError> {
        if bytes > SERVE_LARGE_BYTES {
            let slot = Arc::clone(&self.slots).try_acquire_owned();
            line.hold(slot.map_err(|_| RequestError::TooManyLarge)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio_util::sync::CancellationToken;

    use super::super::connections::Patience;
    use super::*;

    fn line() -> Line {
        let hour = Duration::from_secs(3600);
        let patience = Patience { silence_max: hour, head_max: hour, answer_max: hour };
        Line::open(patience, CancellationToken::new(), Arc::new(Notify::new()))
    }

    #[test]
    fn of_large_answers_a_few_are_on_their_way_and_small_ones_as_many_as_there_are() {
        let answers = LargeAnswers::default();
        let let_out = |line: &Line| answers.let_out(SERVE_LARGE_BYTES + 1, line);
        let mut lines: Vec<Line> = (0..SERVE_LARGE_MAX).map(|_| line()).collect();
        lines.iter().for_each(|line| let_out(line).unwrap());
        let refused = let_out(&line()).unwrap_err();
        assert!(refused.to_string().contains("4 large answers are on their way; ask for less"), "{refused}");
        assert!(answers.let_out(SERVE_LARGE_BYTES, &line()).is_ok());
        lines[0].sending();
        lines[0].sent();
        let next = line();
        assert!(let_out(&next).is_ok(), "the first one is out");
        assert!(let_out(&lines[0]).is_err());
        drop(lines.pop());
        assert!(let_out(&lines[0]).is_ok(), "the last one's connection is gone");
    }
}
