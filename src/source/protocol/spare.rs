//! Memory that the last reads took, for the next ones.
//!
//! A read needs megabytes for a moment: for its body, and for the payloads in it. Memory that is new each time is cleared
//! by the kernel first, page by page, which costs about as much as everything that is done to the bytes.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::limits::{SPARE_BUFFER_BYTES, SPARE_BUFFERS_MAX};

/// Buffers that nobody uses. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    /// An empty buffer for so many bytes: a spare one, if they are many enough to be worth it and it has room for them. Of
    /// several the smallest: a body needs more room than its payloads.
    pub fn take(&self, bytes: usize) -> Vec<u8> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &Vec<u8>| SPARE_BUFFER_BYTES.contains(&bytes) && buffer.capacity() >= bytes;
        let fitting = spare.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        let smallest = fitting.min_by_key(|(_, buffer)| buffer.capacity()).map(|(at, _)| at);
        let found = smallest.map(|at| spare.swap_remove(at));
        drop(spare);
        found.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// What is in a buffer; the buffer is spare again when nothing of that is held any more.
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        if !SPARE_BUFFER_BYTES.contains(&buffer.capacity()) {
            return Bytes::from(buffer);
        }
        Bytes::from_owner(Lent { buffer, spare: self.clone() })
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push(buffer);
        if spare.len() > SPARE_BUFFERS_MAX {
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

    const BYTES: usize = *SPARE_BUFFER_BYTES.start();

    #[test]
    fn a_buffer_is_spare_again_when_the_last_of_it_is_let_go_and_no_sooner() {
        let spare = Spare::default();
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
        let spare = Spare::default();
        let capacities = |spare: &Spare| spare.0.lock().unwrap().iter().map(Vec::capacity).collect::<Vec<_>>();
        let sizes = [3 * BYTES, BYTES, 2 * BYTES];
        drop(sizes.map(|bytes| spare.lend(Vec::with_capacity(bytes))));
        assert_eq!(spare.take(BYTES + 1).capacity(), 2 * BYTES);
        drop([4 * BYTES, 5 * BYTES, 6 * BYTES].map(|bytes| spare.lend(Vec::with_capacity(bytes))));
        assert_eq!(capacities(&spare), [3 * BYTES, 4 * BYTES, 5 * BYTES, 6 * BYTES]);
    }

    #[test]
    fn no_more_is_kept_than_the_limits_say() {
        let spare = Spare::default();
        let small = spare.lend(Vec::with_capacity(BYTES - 1));
        let huge = spare.lend(Vec::with_capacity(SPARE_BUFFER_BYTES.end() + 1));
        let usual: Vec<Bytes> = (0..=SPARE_BUFFERS_MAX).map(|_| spare.lend(spare.take(BYTES))).collect();
        drop((small, huge, usual));
        assert_eq!(spare.0.lock().unwrap().len(), SPARE_BUFFERS_MAX);
    }
}
