//! Files that are fetched while those before them are still being decoded.

use std::collections::{BTreeMap, VecDeque};
use std::iter::{Enumerate, Peekable};
use std::vec::IntoIter;

use tokio::task::JoinSet;

use super::parquet::joined;

/// How much is fetched before it is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AheadLimits {
    /// Files, beside the one that was handed out last.
    pub files: usize,
    /// Bytes, with those of the one that was handed out last. The next file is fetched however large it is.
    pub bytes: u64,
}

/// Fetched files in their order. Each is fetched in a task of its own, so that an answer is taken however long the file
/// before it is being decoded: a request that nobody looks after runs into its timeout.
pub(crate) struct Ahead<K, F, T> {
    waiting: Peekable<Enumerate<IntoIter<(u64, K)>>>,
    fetch: F,
    limits: AheadLimits,
    on_the_way: JoinSet<(usize, T)>,
    arrived: BTreeMap<usize, T>,
    /// Bytes of what is on its way, has arrived or was handed out last.
    held: VecDeque<u64>,
    next: usize,
    has_handed_out: bool,
}

impl<K, F, Fetched, T> Ahead<K, F, T>
where
    F: Fn(K) -> Fetched,
    Fetched: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    /// Nothing is fetched yet. Of each file come its bytes in memory and what `fetch` knows it by.
    pub fn new(files: Vec<(u64, K)>, limits: AheadLimits, fetch: F) -> Self {
        Self {
            waiting: files.into_iter().enumerate().peekable(),
            fetch,
            limits,
            on_the_way: JoinSet::new(),
            arrived: BTreeMap::new(),
            held: VecDeque::new(),
            next: 0,
            has_handed_out: false,
        }
    }

    /// The next file; the memory of the one before is given back by now. `None` after the last one.
    pub async fn next(&mut self) -> Option<T> {
        if std::mem::take(&mut self.has_handed_out) {
            self.held.pop_front();
        }
        self.fetch_more();
        loop {
            if let Some(file) = self.arrived.remove(&self.next) {
                self.next += 1;
                self.has_handed_out = true;
                return Some(file);
            }
            let (index, file) = joined(self.on_the_way.join_next().await?).await;
            self.arrived.insert(index, file);
        }
    }

    fn fetch_more(&mut self) {
        while self.held.len() < self.limits.files {
            let held: u64 = self.held.iter().sum();
            let fits = |(_, (bytes, _)): &(usize, (u64, K))| held == 0 || held + bytes <= self.limits.bytes;
            let Some((index, (bytes, file))) = self.waiting.next_if(fits) else { return };
            self.held.push_back(bytes);
            let fetched = (self.fetch)(file);
            self.on_the_way.spawn(async move { (index, fetched.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Takes files of these bytes: their order, and the most that were asked for before those ahead of them were given back.
    async fn taken(sizes: &[u64], limits: AheadLimits) -> (Vec<usize>, usize) {
        let asked = Arc::new(AtomicUsize::new(0));
        let files = sizes.iter().zip(0..).map(|(bytes, index)| (*bytes, index)).collect();
        let fetch = |index: usize| {
            let asked = Arc::clone(&asked);
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                // Later ones come first.
                for _ in 0..7 - index % 7 {
                    tokio::task::yield_now().await;
                }
                index
            }
        };
        let (mut ahead, mut order, mut most) = (Ahead::new(files, limits, fetch), Vec::new(), 0);
        while let Some(index) = ahead.next().await {
            tokio::task::yield_now().await;
            most = most.max(asked.load(Ordering::SeqCst) - order.len());
            order.push(index);
        }
        (order, most)
    }

    #[tokio::test]
    async fn files_come_in_their_order_and_no_more_are_fetched_than_memory_is_for() {
        for (sizes, limits, most) in [
            (vec![1; 100], AheadLimits { files: 8, bytes: 1000 }, 8),
            (vec![1; 100], AheadLimits { files: 1, bytes: 1000 }, 1),
            (vec![4; 20], AheadLimits { files: 8, bytes: 8 }, 2),
            (vec![9; 20], AheadLimits { files: 8, bytes: 8 }, 1),
            (vec![1, 9, 1, 1, 9, 1], AheadLimits { files: 8, bytes: 8 }, 2),
            (vec![], AheadLimits { files: 8, bytes: 8 }, 0),
        ] {
            let (order, found) = taken(&sizes, limits).await;
            assert_eq!(order, (0..sizes.len()).collect::<Vec<_>>());
            assert_eq!(found, most, "{sizes:?} within {limits:?}");
        }
    }

    #[tokio::test]
    async fn what_was_asked_for_is_answered_while_nobody_waits() {
        let (answer, mut answered) = tokio::sync::mpsc::channel(2);
        let fetch = |index| {
            let answer = answer.clone();
            async move { answer.send(index).await.is_ok() }
        };
        let mut ahead = Ahead::new(vec![(1, 0), (1, 1)], AheadLimits { files: 2, bytes: 2 }, fetch);
        assert_eq!(ahead.next().await, Some(true));
        assert_eq!((answered.recv().await, answered.recv().await), (Some(0), Some(1)));
    }
}
