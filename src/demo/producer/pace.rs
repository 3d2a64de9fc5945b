//! When which record is due: at a steady rate, or as the course's emulator sleeps.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::{BATCH_RECORDS_MAX, Pace};
use crate::demo::pinterest::{Action, Posting};

/// Records are released in slices of this length: short beside every latency that is measured on them.
const SLICE: Duration = Duration::from_millis(20);

/// A schedule that has fallen behind further than this is moved; catching up would be a burst, not a rate.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// A stream's task has ended; its result says why.
pub(super) struct QueueClosed;

pub(super) type Queues = [mpsc::Sender<Vec<Posting>>; 3];

pub(super) async fn feed(
    actions: impl Iterator<Item = Action>,
    pace: Pace,
    limit: usize,
    queues: &Queues,
) -> Result<(), QueueClosed> {
    match pace {
        Pace::Rate(rate) => feed_at(rate, actions.flat_map(|action| action.postings).take(limit), queues).await,
        Pace::Course => feed_as_the_course(actions, limit, queues).await,
    }
}

async fn feed_at(rate: f64, mut postings: impl Iterator<Item = Posting>, queues: &Queues) -> Result<(), QueueClosed> {
    let mut schedule = Schedule::new(rate, Instant::now());
    let mut slices = tokio::time::interval(SLICE);
    slices.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        slices.tick().await;
        let due = schedule.due(Instant::now());
        let slice: Vec<Posting> = postings.by_ref().take(due).collect();
        let done = slice.len() < due;
        enqueue(slice, queues).await?;
        if done {
            return Ok(());
        }
    }
}

async fn feed_as_the_course(
    actions: impl Iterator<Item = Action>,
    limit: usize,
    queues: &Queues,
) -> Result<(), QueueClosed> {
    let mut left = limit;
    for mut action in actions {
        tokio::time::sleep(Duration::from_secs(u64::from(action.sleep_s))).await;
        action.postings.truncate(left);
        left -= action.postings.len();
        enqueue(action.postings, queues).await?;
        if left == 0 {
            break;
        }
    }
    Ok(())
}

async fn enqueue(slice: Vec<Posting>, queues: &Queues) -> Result<(), QueueClosed> {
    let mut by_kind = [const { Vec::new() }; 3];
    slice.into_iter().for_each(|posting| by_kind[posting.kind as usize].push(posting));
    for (queue, mut postings) in queues.iter().zip(by_kind) {
        while !postings.is_empty() {
            let rest = postings.split_off(postings.len().min(BATCH_RECORDS_MAX));
            queue.send(postings).await.map_err(|_| QueueClosed)?;
            postings = rest;
        }
    }
    Ok(())
}

/// How many records are due at a steady rate.
struct Schedule {
    rate: f64,
    since: Instant,
    released: f64,
}

impl Schedule {
    fn new(rate: f64, since: Instant) -> Self {
        Self { rate, since, released: 0.0 }
    }

    /// Records to release now.
    fn due(&mut self, now: Instant) -> usize {
        let target = now.saturating_duration_since(self.since).as_secs_f64() * self.rate;
        let behind_max = BEHIND_MAX.as_secs_f64() * self.rate;
        self.released = self.released.max(target - behind_max);
        let due = (target - self.released).floor().max(0.0);
        self.released += due;
        due as usize
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::demo::pinterest::{Emulation, EmulationOptions, Population};

    #[test]
    fn a_rate_is_kept_and_a_gap_is_not_made_up_for() {
        let start = Instant::now();
        let mut schedule = Schedule::new(500.0, start);
        assert_eq!(schedule.due(start + Duration::from_millis(100)), 50);
        assert_eq!(schedule.due(start + Duration::from_millis(100)), 0);
        assert_eq!(schedule.due(start + Duration::from_secs(60)), 500);
    }

    #[tokio::test]
    async fn the_courses_pace_sleeps_before_each_action() {
        let (sender, mut queue) = mpsc::channel(100);
        let queues = [sender.clone(), sender.clone(), sender];
        let actions = Emulation::new(Arc::new(Population::new()), EmulationOptions::clean(100));
        let start = Instant::now();
        assert!(feed_as_the_course(actions, 4, &queues).await.is_ok());
        assert!(start.elapsed() >= Duration::from_secs(1), "the second action of seed 100 comes after a second");
        drop(queues);
        let mut posted = Vec::new();
        while let Some(slice) = queue.recv().await {
            posted.extend(slice.into_iter().map(|posting| posting.ind));
        }
        assert_eq!(posted, [7528, 7528, 7528, 2863]);
    }
}
