//! Memory that the last reads took, for the next ones.
//!
//! A read needs megabytes for a moment: for its body, and for the payloads in it. Memory that is new each time is cleared
//! by the kernel first, page by page, which costs about as much as everything that is done to the bytes.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::limits::{SPARE_BODIES_MAX, SPARE_BODY_BYTES, SPARE_PIECE_BYTES, SPARE_PIECES_MAX};

/// Buffers that nobody uses. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Spare(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    /// Of how many bytes a buffer is worth it and not too large.
    sizes: RangeInclusive<usize>,
    buffers_max: usize,
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Spare {
    /// For bodies.
    pub fn bodies() -> Self {
        Self::new(SPARE_BODY_BYTES, SPARE_BODIES_MAX)
    }

    /// For pieces of payloads, which have one size.
    pub fn pieces() -> Self {
        Self::new(SPARE_PIECE_BYTES..=SPARE_PIECE_BYTES, SPARE_PIECES_MAX)
    }

    fn new(sizes: RangeInclusive<usize>, buffers_max: usize) -> Self {
        Self(Arc::new(Kept { sizes, buffers_max, buffers: Mutex::default() }))
    }

    /// An empty buffer for so many bytes: the smallest of the spare ones that has room for them, if they are many enough
    /// to be worth it.
    pub fn take(&self, bytes: usize) -> Vec<u8> {
        if !self.0.sizes.contains(&bytes) {
            return Vec::with_capacity(bytes);
        }
        let mut spare = self.0.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = spare.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= bytes);
        let smallest = fitting.min_by_key(|(_, buffer)| buffer.capacity()).map(|(at, _)| at);
        let found = smallest.map(|at| spare.swap_remove(at));
        drop(spare);
        found.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// What is in a buffer; the buffer is spare again when nothing of that is held any more.
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        if !self.0.sizes.contains(&buffer.capacity()) {
            return Bytes::from(buffer);
        }
        Bytes::from_owner(Lent { buffer, spare: self.clone() })
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut spare = self.0.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push(buffer);
        if spare.len() > self.0.buffers_max {
            spare.sort_unstable_by_key(Vec::capacity);
            // The smallest is of use to the fewest.
            spare.remove(0);
        }
    }
}

struct Lent {
    buffer: Vec<u8>,
    spare: Spare,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.spare.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 1000;

    fn spare() -> Spare {
        Spare::new(BYTES..=8 * BYTES, 3)
    }

    fn capacities(spare: &Spare) -> Vec<usize> {
        spare.0.buffers.lock().unwrap().iter().map(Vec::capacity).collect()
    }

    #[test]
    fn a_buffer_is_spare_again_when_the_last_of_it_is_let_go_and_no_sooner() {
        let spare = spare();
        let mut buffer = spare.take(BYTES);
        buffer.extend_from_slice(b"ab");
        let place = buffer.as_ptr();
        let mut lent = spare.lend(buffer);
        let last = lent.split_off(1);
        drop(lent);
        let is_it = |buffer: Vec<u8>| buffer.as_ptr() == place;
        assert!(!is_it(spare.take(BYTES)));
        assert_eq!(&*last, b"b");
        drop(last);
        assert!(!is_it(spare.take(BYTES / 2)), "too few bytes to be worth it");
        assert!(!is_it(spare.take(BYTES + 1)), "it has no room for them");
        let again = spare.take(BYTES);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn the_smallest_that_fits_is_taken_and_the_largest_are_kept() {
        let spare = spare();
        drop([3, 1, 2].map(|times| spare.lend(Vec::with_capacity(times * BYTES))));
        assert_eq!(spare.take(BYTES + 1).capacity(), 2 * BYTES);
        drop([4, 2].map(|times| spare.lend(Vec::with_capacity(times * BYTES))));
        assert_eq!(capacities(&spare), [2 * BYTES, 3 * BYTES, 4 * BYTES]);
    }

    #[test]
    fn no_more_is_kept_than_the_limits_say() {
        let spare = spare();
        let (small, huge) = (Vec::with_capacity(BYTES - 1), Vec::with_capacity(9 * BYTES));
        drop([small, huge].map(|buffer| spare.lend(buffer)));
        assert!(capacities(&spare).is_empty());
        drop((0..9).map(|_| spare.lend(Vec::with_capacity(BYTES))).collect::<Vec<_>>());
        assert_eq!(capacities(&spare), [BYTES; 3]);
    }
}
