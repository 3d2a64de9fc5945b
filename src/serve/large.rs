//! Large answers: a few on their way at a time.
//!
//! An answer is in memory until its client has read it, and a client may read slowly. A connection has its limits; this is
//! the limit for all of them together.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tokio::sync::Semaphore;

use super::error::RequestError;
use crate::limits::{SERVE_LARGE_BYTES, SERVE_LARGE_MAX, SERVE_PIECE_BYTES};

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
    /// The body of an answer. A large one goes out in pieces, for a connection takes more of them only when it has sent
    /// some; its place is free when it has the last one.
    pub fn body(&self, answer: Vec<u8>) -> Result<Body, RequestError> {
        if answer.len() <= SERVE_LARGE_BYTES {
            return Ok(Body::from(answer));
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| RequestError::TooManyLarge)?;
        let pieces = stream::iter(pieces(Bytes::from(answer)));
        Ok(Body::from_stream(futures::StreamExt::map(pieces, move |piece| {
            let _until_all_are_taken = &slot;
            Ok::<_, std::convert::Infallible>(piece)
        })))
    }
}

fn pieces(mut answer: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = answer.split_to(answer.len().min(SERVE_PIECE_BYTES));
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_large_answers_a_few_are_on_their_way_and_small_ones_as_many_as_there_are() {
        let answers = LargeAnswers::default();
        let large: Vec<u8> = (0..=SERVE_LARGE_BYTES).map(|byte| byte as u8).collect();
        let mut under_way: Vec<Body> = (0..SERVE_LARGE_MAX).map(|_| answers.body(large.clone()).unwrap()).collect();
        let refused = answers.body(large.clone()).unwrap_err();
        assert!(refused.to_string().contains("4 large answers are on their way; ask for less"), "{refused}");
        assert!(answers.body(vec![0; SERVE_LARGE_BYTES]).is_ok());
        let sent = axum::body::to_bytes(under_way.pop().unwrap(), usize::MAX).await.unwrap();
        assert_eq!(sent, large);
        assert!(answers.body(large).is_ok(), "the place of the one that is out");
    }
}
