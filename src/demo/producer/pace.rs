//! When which record is due: at a steady rate, as the course's emulator sleeps, or as a timetable says.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Pace, Scheduled, Timetable};
use crate::demo::pinterest::{Action, Posting};

/// Records are released in slices of this length: short beside every latency that is measured on them.
const SLICE: Duration = Duration::from_millis(20);

/// A schedule that has fallen behind further than this is moved; catching up would be a burst, not a rate.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// A stream's task has ended; its result says why.
pub(super) struct QueueClosed;

/// A record to put, and when it should have been sent if somebody has said so.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) posting: Posting,
    pub(super) at: Option<Instant>,
}

pub(super) type Queues = [mpsc::Sender<Vec<Due>>; 3];

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
        let slice: Vec<Due> = postings.by_ref().take(due).map(whenever).collect();
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
        enqueue(action.postings.drain(..).map(whenever).collect(), queues).await?;
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// Never earlier than due, and never moved: whoever is late is late by what it shows.
pub(super) async fn feed_on_time(
    records: impl Iterator<Item = Scheduled>,
    timetable: &Timetable,
    queues: &Queues,
) -> Result<(), QueueClosed> {
    let mut records = records.peekable();
    let mut sent_at = timetable.start;
    while let Some(next) = records.peek() {
        tokio::time::sleep_until((timetable.start + next.due).max(sent_at + timetable.linger)).await;
        sent_at = Instant::now();
        let passed = sent_at.saturating_duration_since(timetable.start);
        let mut slice = Vec::new();
        while let Some(record) = records.next_if(|record| record.due <= passed && slice.len() < BATCH_RECORDS_MAX) {
            slice.push(Due { posting: record.posting, at: Some(timetable.start + record.due) });
        }
        if slice.len() == BATCH_RECORDS_MAX {
            // There is more: nothing to wait for.
            sent_at -= timetable.linger;
        }
        enqueue(slice, queues).await?;
    }
    Ok(())
}

fn whenever(posting: Posting) -> Due {
    Due { posting, at: None }
}

async fn enqueue(slice: Vec<Due>, queues: &Queues) -> Result<(), QueueClosed> {
    let mut by_kind = [const { Vec::new() }; 3];
    slice.into_iter().for_each(|record| by_kind[record.posting.kind as usize].push(record));
    for (queue, records) in queues.iter().zip(by_kind) {
        let (mut batch, mut bytes): (Vec<Due>, usize) = (Vec::new(), 0);
        for record in records {
            bytes += record.posting.data.len();
            if batch.len() == BATCH_RECORDS_MAX || (bytes > BATCH_BYTES_MAX && !batch.is_empty()) {
                bytes = record.posting.data.len();
                queue.send(std::mem::take(&mut batch)).await.map_err(|_| QueueClosed)?;
            }
            batch.push(record);
        }
        if !batch.is_empty() {
            queue.send(batch).await.map_err(|_| QueueClosed)?;
        }
    }
    Ok(())
}

/// Whether one call takes both.
pub(super) fn fits(batch: &[Due], more: &[Due]) -> bool {
    let bytes = |records: &[Due]| records.iter().map(|record| record.posting.data.len()).sum::<usize>();
    batch.len() + more.len() <= BATCH_RECORDS_MAX && bytes(batch) + bytes(more) <= BATCH_BYTES_MAX
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
            posted.extend(slice.into_iter().map(|record| record.posting.ind));
        }
        assert_eq!(posted, [7528, 7528, 7528, 2863]);
    }
}
