//! Maintenance inside the service: a thread of low priority with a runtime and a client of its own, so that neither
//! its work nor its waiting is in a reader's way.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Event, Maintainer, MaintenanceOptions, TableName};
use crate::contract::Contract;
use crate::cores::blocking_threads;
use crate::error_chain::chain;
use crate::lake::pressing::Pressing;
use crate::lake::seal::{SealBell, SealEvent, Sealers};
use crate::lake::store::{LakeConfig, LakeStore};
use crate::lake::turn::Turn;
use crate::tell::Tell;

/// Above the default of 0: what else wants the core gets nine tenths of it.
const NICENESS: i32 = 10;

/// Which tables, where, and how often.
#[derive(Debug, Clone)]
pub struct MaintenancePlan {
    /// Where the tables are.
    pub location: LakeConfig,
    /// The pipeline's name.
    pub pipeline: String,
    /// Streams by name, with their contracts.
    pub streams: Vec<(String, Arc<Contract>)>,
    /// How often they are looked at, give or take a quarter, so that two processes part.
    pub interval: Duration,
    /// When something is worth doing.
    pub options: MaintenanceOptions,
    /// Rung when a window may be sealed.
    pub bell: SealBell,
    /// Taken for each look at a table.
    pub turn: Turn,
}

/// A running one.
#[derive(Debug)]
pub struct MaintenanceService {
    ended: oneshot::Receiver<()>,
}

impl MaintenanceService {
    /// Starts the thread. It ends soon after `stop` is cancelled, whatever it is doing: everything it does can be
    /// broken off. `Err` if there can be no thread.
    pub fn start(
        plan: MaintenancePlan,
        stop: CancellationToken,
        mut observe: impl FnMut(TableName<'_>, Event) + Send + 'static,
        mut observe_seals: impl FnMut(TableName<'_>, SealEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let (tell_end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(blocking_threads())
            .enable_all()
            .build()?;
        std::thread::Builder::new().name("maintenance".to_owned()).spawn(move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "maintenance runs at the process's priority");
            }
            runtime.block_on(stop.run_until_cancelled(work(plan, &mut observe, &mut observe_seals)));
            runtime.shutdown_background();
            if tell_end.send(()).is_err() {
                tracing::debug!("maintenance has ended and nobody waits for it");
            }
        })?;
        Ok(Self { ended })
    }

    /// Waits for the thread's end after it was told to, for at most so long. `false`: it is still busy.
    pub async fn ended(self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.ended).await.is_ok()
    }
}

/// Never ends.
async fn work(
    plan: MaintenancePlan,
    observe: &mut (dyn FnMut(TableName<'_>, Event) + Send),
    observe_seals: &mut (dyn FnMut(TableName<'_>, SealEvent) + Send),
) {
    let store = open(&plan).await;
    let pressing = Pressing::default();
    let sealing = seal(&plan, store.clone(), &pressing, observe_seals);
    tokio::join!(sealing, maintain(&plan, store, &pressing, observe));
}

async fn open(plan: &MaintenancePlan) -> LakeStore {
    let mut trouble = Tell::default();
    loop {
        match LakeStore::open(&plan.location).await {
            Ok(store) => {
                if trouble.is_over() {
                    tracing::info!("maintenance has opened the lake");
                }
                return store;
            }
            Err(error) => {
                let error = chain(&error);
                if trouble.is_news(&error, Instant::now()) {
                    tracing::warn!(error, "maintenance cannot open the lake, trying again");
                }
            }
        }
        tokio::time::sleep(about(plan.interval)).await;
    }
}

/// Seals when the bell rings, and looks at every window at once and then now and then. Never ends.
async fn seal(
    plan: &MaintenancePlan,
    store: LakeStore,
    pressing: &Pressing,
    observe: &mut (dyn FnMut(TableName<'_>, SealEvent) + Send),
) {
    let mut sealers = Sealers::new(store, plan.options).taking(&plan.turn).pressing(pressing);
    for (stream, contract) in &plan.streams {
        sealers.add(&plan.pipeline, stream, contract);
    }
    let mut due = Instant::now();
    loop {
        let rung = rung_before(due, &plan.bell).await;
        if rung.is_none() {
            due = Instant::now() + about(plan.interval);
        }
        sealers.look(rung.as_ref(), &mut |table, event| observe(table, event)).await;
    }
}

/// The tables for which it was rung; `None` when all are due, however often it rings: who failed for one window may not be
/// rung for again in a long time.
async fn rung_before(due: Instant, bell: &SealBell) -> Option<BTreeSet<String>> {
    if Instant::now() >= due { None } else { tokio::time::timeout_at(due, bell.rung()).await.ok() }
}

/// Never ends.
async fn maintain(
    plan: &MaintenancePlan,
    store: LakeStore,
    pressing: &Pressing,
    observe: &mut (dyn FnMut(TableName<'_>, Event) + Send),
) {
    let mut maintainer = Maintainer::new(store, plan.options).taking(&plan.turn).pressed_by(pressing);
    for (stream, contract) in &plan.streams {
        maintainer.add(&plan.pipeline, stream, contract);
    }
    loop {
        tokio::time::sleep(about(plan.interval)).await;
        maintainer.round(false, &mut |table, event| observe(table, event)).await;
    }
}

/// The interval, give or take a quarter by chance.
fn about(interval: Duration) -> Duration {
    let quarter_ms = u64::try_from(interval.as_millis() / 4).unwrap_or(u64::MAX);
    let chance_ms = Uuid::new_v4().as_u128() as u64 % (2 * quarter_ms + 1);
    (interval + Duration::from_millis(chance_ms)).saturating_sub(Duration::from_millis(quarter_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_windows_are_due_at_their_time_however_often_the_bell_rings() {
        let (bell, now) = (SealBell::default(), Instant::now());
        bell.ring("some_partials");
        assert_eq!(rung_before(now, &bell).await, None, "all are due");
        let rung = rung_before(now + Duration::from_secs(3600), &bell).await;
        assert_eq!(rung.unwrap().into_iter().collect::<Vec<_>>(), ["some_partials"]);
        assert_eq!(rung_before(now + Duration::from_millis(1), &bell).await, None, "nobody rings");
    }
}
