//! A read that failed: what is done about it, and how long it waits.

use std::time::Duration;

use tokio::time::Instant;

use super::Reader;
use crate::checkpoint::Position;
use crate::error_chain::chain;
use crate::record::BatchSink;
use crate::source::context::ReaderExit;
use crate::source::error::{Action, ReadError};

impl<S: BatchSink> Reader<S> {
    /// Does what the table says. Returns when it is time to try again.
    pub(super) async fn recover(&mut self, error: ReadError) -> Result<(), ReaderExit> {
        let action = error.action();
        self.metrics.read_result(action.label());
        self.tell_headroom();
        tracing::debug!(stream = self.context.stream.name, shard = %self.shard, ?action, error = chain(&error), "read failed");
        match action {
            Action::AwaitPace => {
                self.pace.throttled(Instant::now());
                if self.pace.is_starved() {
                    self.context.troubles.raise(self.shard.as_str(), &error);
                }
                Ok(())
            }
            Action::RenewIterator => {
                self.iterator = None;
                Ok(())
            }
            Action::RenewIteratorAfterBackoff => {
                self.iterator = None;
                self.wait(&error).await
            }
            Action::Backoff | Action::RestartListing => self.wait(&error).await,
            Action::SettleShard | Action::StreamMissing => Err(ReaderExit::Missing),
            Action::SettleStart => match self.position {
                Position::After(_) if !self.from_horizon => Err(ReaderExit::Refused),
                // No number that could be trimmed: a start in the future, or by a clock ahead of Kinesis's.
                Position::After(_) | Position::Beginning | Position::At(_) | Position::End => self.wait(&error).await,
            },
            Action::RetrySlowly => {
                self.context.troubles.raise(self.shard.as_str(), &error);
                let wait = self.patience.next_wait();
                self.sleep(wait).await
            }
        }
    }

    /// One failed read is nothing to talk about; a shard that cannot be read for seconds is.
    pub(super) async fn wait(&mut self, error: &ReadError) -> Result<(), ReaderExit> {
        let wait = self.backoff.next_wait();
        if self.backoff.is_persistent() {
            self.context.troubles.raise(self.shard.as_str(), error);
        }
        self.sleep(wait).await
    }

    pub(super) async fn sleep(&self, wait: Duration) -> Result<(), ReaderExit> {
        self.stop.or(tokio::time::sleep(wait)).await
    }
}
