//! What is sealed, whoever seals it, brought to the history that people look at.
//!
//! Nobody waits for it. A lake that is away is looked into again, and meanwhile the history says as of when it knows.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::now_ms;
use crate::error_chain::chain;
use crate::lake::{SealedTable, StreamLake, Turn};
use crate::window::StreamWindows;

/// How often each table is looked into. Windows are sealed seconds after their end at the soonest.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Follows the windows' tables of one stream.
pub struct SealedTables {
    stream: String,
    windows: Arc<StreamWindows>,
    tables: Vec<Followed>,
    turn: Turn,
}

struct Followed {
    table: SealedTable,
    /// The last look that saw everything.
    looked_ms: i64,
    /// It could not be looked into, and that was told.
    blind: bool,
}

impl SealedTables {
    /// All of this lake's. Each look at one takes its turn.
    pub fn of(lake: &StreamLake, windows: Arc<StreamWindows>, stream: &str, turn: Turn) -> Self {
        let tables = lake.sealed_tables().into_iter();
        let tables = tables.map(|table| Followed { table, looked_ms: now_ms(), blind: false });
        Self { stream: stream.to_owned(), windows, tables: tables.collect(), turn }
    }

    /// Never ends.
    pub async fn follow(mut self) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        for ((window, followed), name) in self.tables.iter_mut().enumerate().zip(self.windows.names()) {
            let _turn = self.turn.taken().await;
            let (stream, begun_ms) = (&self.stream, now_ms());
            match followed.table.look().await {
                Ok(found) => {
                    if let Some(found) = found {
                        self.windows.sealed_found(window, found.through_ms, found.since_us, found.read);
                    }
                    followed.looked_ms = begun_ms;
                    if std::mem::take(&mut followed.blind) {
                        tracing::info!(stream, window = name, "the history of sealed windows is up to date again");
                    }
                }
                Err(error) => {
                    self.windows.sealed_blind(window, followed.looked_ms);
                    if !std::mem::replace(&mut followed.blind, true) {
                        let error = chain(&error);
                        tracing::warn!(
                            stream,
                            window = name,
                            error,
                            "the history of sealed windows stands still, for now"
                        );
                    }
                }
            }
        }
    }
}
