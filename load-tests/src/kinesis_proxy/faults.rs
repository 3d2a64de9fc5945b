//! The rules: which call meets what, and how often.
//!
//! A call meets every rule that matches it, in the order in which they were added. What replaces the answer ends the
//! row, and the rules behind it wait for the next call; delays add up, and edits are made one after the other on the answer that is given in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::wait::PATIENCE;

/// The calls that readers make, and all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// `DescribeStreamSummary`
    DescribeStreamSummary,
    /// `ListShards`
    ListShards,
    /// `GetShardIterator`
    GetShardIterator,
    /// `GetRecords`
    GetRecords,
    /// Any other; handed through.
    Other,
}

/// What a rule sees of a call.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked.
    pub operation: Operation,
    /// Of which stream, by name; also of calls that name it only by an iterator or a token.
    pub stream: &'a str,
    /// Of which shard; empty if the call is not about one.
    pub shard: &'a str,
}

/// A change of an answer's JSON.
pub type Edit = Arc<dyn Fn(&mut Value) + Send + Sync>;

/// What a call meets. The first four fit any call; the functions below make what fits one of them.
#[derive(Clone)]
pub enum Fault {
    /// Answered with this error, without asking the Kinesis behind.
    Refuse {
        /// HTTP status.
        status: u16,
        /// `__type`
        code: &'static str,
    },
    /// Answered later.
    Delay(Duration),
    /// Never answered.
    Stall,
    /// The connection is cut, and nobody behind has been asked.
    Drop,
    /// The Kinesis behind has answered; then the connection is cut.
    AskThenDrop,
    /// Status 200 and this text.
    Body(&'static str),
    /// No record, the same position, and so far behind (ms): `GetRecords` only.
    Empty {
        /// `MillisBehindLatest`
        behind_ms: i64,
    },
    /// An answer that is not an error is changed.
    Edit(Edit),
    /// The answer's `Date` is so far ahead of the clock.
    Ahead(Duration),
}

impl Fault {
    fn client_error(code: &'static str) -> Self {
        Self::Refuse { status: 400, code }
    }

    fn replaces_the_answer(&self) -> bool {
        match self {
            Self::Refuse { .. } | Self::Stall | Self::Drop | Self::Body(_) | Self::Empty { .. } => true,
            Self::Delay(_) | Self::AskThenDrop | Self::Edit(_) | Self::Ahead(_) => false,
        }
    }

    /// The rate of the shard is used up.
    pub fn throttled() -> Self {
        Self::client_error("ProvisionedThroughputExceededException")
    }

    /// The rate of the control plane is used up.
    pub fn limit_exceeded() -> Self {
        Self::client_error("LimitExceededException")
    }

    /// The iterator is too old.
    pub fn expired_iterator() -> Self {
        Self::client_error("ExpiredIteratorException")
    }

    /// The listing's token is too old.
    pub fn expired_next_token() -> Self {
        Self::client_error("ExpiredNextTokenException")
    }

    /// No such stream, or no such shard.
    pub fn not_found() -> Self {
        Self::client_error("ResourceNotFoundException")
    }

    /// The position is not accepted.
    pub fn invalid_argument() -> Self {
        Self::client_error("InvalidArgumentException")
    }

    /// The stream's key is disabled.
    pub fn kms_disabled() -> Self {
        Self::client_error("KMSDisabledException")
    }

    /// The role has no permission.
    pub fn access_denied() -> Self {
        Self::client_error("AccessDeniedException")
    }

    /// The session's credentials have run out.
    pub fn expired_token() -> Self {
        Self::client_error("ExpiredTokenException")
    }

    /// Kinesis has failed.
    pub fn internal_failure() -> Self {
        Self::Refuse { status: 500, code: "InternalFailure" }
    }

    /// Whatever the answer says, it says so after this change.
    pub fn edit(edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(edit))
    }

    /// `GetRecords` says that it is so far behind (ms).
    pub fn behind(behind_ms: i64) -> Self {
        Self::edit(move |answer| answer["MillisBehindLatest"] = json!(behind_ms))
    }

    /// `GetRecords` names no next iterator and no children, as if the shard had ended.
    pub fn no_next() -> Self {
        Self::edit(|answer| {
            remove(answer, "NextShardIterator");
            remove(answer, "ChildShards");
        })
    }

    /// `GetRecords` does not name the children of a shard that has ended.
    pub fn without_children() -> Self {
        Self::edit(|answer| remove(answer, "ChildShards"))
    }

    /// `ListShards` does not know this shard.
    pub fn hide(shard: impl Into<String>) -> Self {
        let shard = shard.into();
        Self::edit(move |answer| {
            if let Some(shards) = answer["Shards"].as_array_mut() {
                shards.retain(|listed| listed["ShardId"] != shard.as_str());
            }
        })
    }

    /// `DescribeStreamSummary` says that records are kept for so many hours.
    pub fn retention(hours: u32) -> Self {
        Self::edit(move |answer| answer["StreamDescriptionSummary"]["RetentionPeriodHours"] = json!(hours))
    }
}

fn remove(answer: &mut Value, field: &str) {
    if let Some(fields) = answer.as_object_mut() {
        fields.remove(field);
    }
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(u64);

/// All rules of a proxy, and the count of the calls that it has met.
#[derive(Default)]
pub struct Faults(Mutex<Book>);

#[derive(Default)]
struct Book {
    rules: BTreeMap<RuleId, Rule>,
    next: u64,
    calls: BTreeMap<(Operation, String, String), u64>,
}

type Matches = Box<dyn Fn(&Request) -> bool + Send + Sync>;

struct Rule {
    matches: Matches,
    act: Act,
    left: Option<u32>,
    hits: u64,
}

/// What a rule does to a call.
#[derive(Clone)]
pub(super) enum Act {
    Fault(Fault),
    /// Parked until released.
    Park {
        reached: mpsc::Sender<()>,
        released: CancellationToken,
    },
}

impl Faults {
    /// From now on calls that match meet this, `times` times (`None`: until cleared).
    pub fn add(
        &self,
        matches: impl Fn(&Request) -> bool + Send + Sync + 'static,
        fault: Fault,
        times: Option<u32>,
    ) -> RuleId {
        self.book().add(Box::new(matches), Act::Fault(fault), times)
    }

    /// The rule no longer holds; its hits are still known.
    pub fn remove(&self, rule: RuleId) {
        if let Some(rule) = self.book().rules.get_mut(&rule) {
            rule.left = Some(0);
        }
    }

    /// No rule holds any more.
    pub fn clear(&self) {
        self.book().rules.values_mut().for_each(|rule| rule.left = Some(0));
    }

    /// How many calls have met this rule.
    pub fn hits(&self, rule: RuleId) -> u64 {
        self.book().rules.get(&rule).map_or(0, |rule| rule.hits)
    }

    /// The next call that matches is parked, before anybody behind is asked, until it is released or its client hangs
    /// up. Two of them park two calls.
    pub fn hold(&self, matches: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Held {
        let ((sender, reached), released) = (mpsc::channel(1), CancellationToken::new());
        let act = Act::Park { reached: sender, released: released.clone() };
        self.book().add(Box::new(matches), act, Some(1));
        Held { reached, _release: released.drop_guard() }
    }

    /// Counts a call, and says what it meets.
    pub(super) fn meet(&self, request: &Request) -> Vec<Act> {
        let mut book = self.book();
        let key = (request.operation, request.stream.to_owned(), request.shard.to_owned());
        *book.calls.entry(key).or_default() += 1;
        let mut met = Vec::new();
        let mut parked = false;
        for rule in book.rules.values_mut().filter(|rule| rule.left != Some(0)) {
            let parks = matches!(rule.act, Act::Park { .. });
            if !(parks && parked) && (rule.matches)(request) {
                parked |= parks;
                rule.hits += 1;
                rule.left = rule.left.map(|left| left - 1);
                met.push(rule.act.clone());
                if matches!(&rule.act, Act::Fault(fault) if fault.replaces_the_answer()) {
                    break;
                }
            }
        }
        met
    }

    pub(super) fn calls(&self, matches: impl Fn(&Request) -> bool) -> u64 {
        let book = self.book();
        let counted = book.calls.iter().filter(|((operation, stream, shard), _)| {
            matches(&Request { operation: *operation, stream: stream.as_str(), shard: shard.as_str() })
        });
        counted.map(|(_, count)| count).sum()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn add(&mut self, matches: Matches, act: Act, left: Option<u32>) -> RuleId {
        let id = RuleId(self.next);
        self.next += 1;
        self.rules.insert(id, Rule { matches, act, left, hits: 0 });
        id
    }
}

/// A call that is to be parked, or is. Dropping it releases the call.
pub struct Held {
    reached: mpsc::Receiver<()>,
    _release: DropGuard,
}

impl Held {
    /// Returns once a call is parked; fails if none comes.
    pub async fn reached(&mut self) -> anyhow::Result<()> {
        let parked = tokio::time::timeout(PATIENCE, self.reached.recv()).await;
        parked.ok().flatten().context("no call came that was to be held")
    }

    /// The call goes on.
    pub fn release(self) {}
}
