//! How much may be in the air, in bytes, over all streams.
//!
//! A reader reserves the worst case of its next read *before* it calls Kinesis and gives back what the answer did
//! not need; the rest is held until the commit. What a read became, if that is more than the worst case of a read
//! (windows of many keys and sketches), is taken from what is free. Nothing downstream of the read waits for a
//! permit, so no cycle of waits exists. A slow lake therefore slows the reads and never
//! grows the memory. Each stream has a share of its own that no other can take: a stream that cannot commit
//! stops alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Permits are counted in units of this many bytes, since a semaphore counts in u32.
const UNIT_BYTES: u64 = 1024;

/// One stream's share of the byte budget. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    semaphore: Arc<Semaphore>,
    bytes_max: u64,
    waiting: AtomicU64,
    pressure: Notify,
}

impl Budget {
    /// A share of `bytes_max`, rounded down to whole KiB.
    pub fn new(bytes_max: u64) -> Self {
        let units = usize::try_from(bytes_max / UNIT_BYTES).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                semaphore: Arc::new(Semaphore::new(units)),
                bytes_max: units as u64 * UNIT_BYTES,
                waiting: AtomicU64::new(0),
                pressure: Notify::new(),
            }),
        }
    }

    /// Waits until `bytes` are free. First come, first served. More than the whole share is cut to the share:
    /// the caller then reads alone. Dropping the future gives up the place in the queue.
    pub async fn reserve(&self, bytes: u64) -> Permit {
        let units = self.units(bytes.min(self.shared.bytes_max));
        if let Ok(held) = Arc::clone(&self.shared.semaphore).try_acquire_many_owned(units) {
            return Permit { held: Some(held), shared: Some(Arc::clone(&self.shared)) };
        }
        let _waiting = Waiting::enter(&self.shared);
        self.shared.pressure.notify_one();
        // A semaphore that is never closed cannot refuse; an unbacked permit would only under-count.
        let held = Arc::clone(&self.shared.semaphore).acquire_many_owned(units).await.ok();
        Permit { held, shared: Some(Arc::clone(&self.shared)) }
    }

    /// Returns once a reader has had to wait; the writer then flushes early.
    pub async fn pressure(&self) {
        self.shared.pressure.notified().await;
    }

    /// Bytes held by permits.
    pub fn in_use_bytes(&self) -> u64 {
        self.shared.bytes_max - self.shared.semaphore.available_permits() as u64 * UNIT_BYTES
    }

    /// The share's size.
    pub fn bytes_max(&self) -> u64 {
        self.shared.bytes_max
    }

    /// Readers that wait for a permit now.
    pub fn waiting(&self) -> u64 {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
    }
}

struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn enter(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes of the budget, held until dropped.
#[derive(Debug, Default)]
pub struct Permit {
    held: Option<OwnedSemaphorePermit>,
    shared: Option<Arc<Shared>>,
}

impl Permit {
    /// Holds `bytes` from now on: gives the rest back, or takes what is missing from what is free. It does not wait, so
    /// it may get less; then the writer hears that it should flush.
    pub fn settle(&mut self, bytes: u64) {
        let wanted = usize::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(usize::MAX);
        let Self { held: Some(held), shared: Some(shared) } = self else { return };
        drop(held.split(held.num_permits().saturating_sub(wanted)));
        let missing = wanted.saturating_sub(held.num_permits());
        if missing == 0 {
            return;
        }
        let units = u32::try_from(missing.min(shared.semaphore.available_permits())).unwrap_or(u32::MAX);
        match Arc::clone(&shared.semaphore).try_acquire_many_owned(units) {
            Ok(more) if units as usize == missing => held.merge(more),
            Ok(more) => {
                held.merge(more);
                shared.pressure.notify_one();
            }
            // Somebody else was faster.
            Err(_) => shared.pressure.notify_one(),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.num_permits() as u64 * UNIT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_read_waits_until_a_commit_frees_its_bytes_and_the_writer_hears_of_it() {
        let budget = Budget::new(100 * UNIT_BYTES);
        let mut first = budget.reserve(80 * UNIT_BYTES).await;
        assert_eq!(budget.in_use_bytes(), 80 * UNIT_BYTES);
        first.settle(60 * UNIT_BYTES);
        assert_eq!(budget.in_use_bytes(), 60 * UNIT_BYTES);

        let second = budget.reserve(50 * UNIT_BYTES);
        tokio::pin!(second);
        tokio::select! {
            biased;
            _ = &mut second => panic!("50 of 40 free"),
            () = budget.pressure() => {}
        }
        assert_eq!(budget.waiting(), 1);
        drop(first);
        let second = second.await;
        assert_eq!((second.bytes(), budget.waiting()), (50 * UNIT_BYTES, 0));
    }

    #[tokio::test]
    async fn what_a_read_became_is_taken_from_what_is_free_and_beyond_that_the_writer_hears_of_it() {
        let budget = Budget::new(100 * UNIT_BYTES);
        let (mut first, mut second) = (budget.reserve(40 * UNIT_BYTES).await, budget.reserve(20 * UNIT_BYTES).await);
        first.settle(70 * UNIT_BYTES);
        assert_eq!((first.bytes(), budget.in_use_bytes()), (70 * UNIT_BYTES, 90 * UNIT_BYTES));
        let unheard = tokio::time::timeout(std::time::Duration::ZERO, budget.pressure()).await;
        assert!(unheard.is_err(), "nothing was short");
        second.settle(50 * UNIT_BYTES);
        assert_eq!((second.bytes(), budget.in_use_bytes()), (30 * UNIT_BYTES, 100 * UNIT_BYTES));
        budget.pressure().await;
        drop((first, second));
        assert_eq!(budget.in_use_bytes(), 0);
    }

    #[tokio::test]
    async fn more_than_the_share_is_cut_to_it_instead_of_waiting_for_ever() {
        let budget = Budget::new(10 * UNIT_BYTES);
        let all = budget.reserve(u64::MAX).await;
        assert_eq!(all.bytes(), 10 * UNIT_BYTES);
        drop(all);
        assert_eq!(budget.in_use_bytes(), 0);
    }
}
