//! What goes wrong, and when: rules that requests meet on their way in.
//!
//! A rule sees a request as its sender wrote it and decides by itself; so a test says "the third commit of the pin
//! table" in its own words. The first rule that matches and is not spent is the one that counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads an object.
    Get,
    /// Looks at an object.
    Head,
    /// Writes an object, or a step of writing one in parts.
    Put,
    /// Deletes objects. A request that deletes many meets a rule if one of its keys does.
    Delete,
    /// Lists keys; the request's key is the prefix.
    List,
}

/// What a rule sees of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What it does.
    pub verb: Verb,
    /// The key in the bucket.
    pub key: &'a str,
    /// What it sends.
    pub body: &'a [u8],
    /// Whether it is an `If-None-Match: *` put.
    pub if_none_match: bool,
}

impl Request<'_> {
    /// Whether it writes an entry to this table's log that adds files.
    pub fn commits_to(&self, table: &str) -> bool {
        self.writes_to_the_log_of(table) && self.says(b"{\"add\":")
    }

    /// Whether it writes an entry to this table's log that moves positions and adds no file: a registration, or the
    /// progress of a shard without news.
    pub fn commits_only_positions_to(&self, table: &str) -> bool {
        self.writes_to_the_log_of(table) && self.says(b"{\"txn\":") && !self.says(b"{\"add\":")
    }

    fn writes_to_the_log_of(&self, table: &str) -> bool {
        self.verb == Verb::Put && below(self.key, table).is_some_and(|rest| rest.starts_with("_delta_log/"))
    }

    fn says(&self, words: &[u8]) -> bool {
        self.body.windows(words.len()).any(|bytes| bytes == words)
    }

    /// Whether it looks for the entry after the head of this table's log.
    pub fn looks_beyond_the_head_of(&self, table: &str) -> bool {
        self.verb == Verb::Get && below(self.key, table).is_some_and(|rest| rest.ends_with(".json"))
    }

    /// Whether it uploads a data file of this table.
    pub fn uploads_to(&self, table: &str) -> bool {
        self.verb == Verb::Put && below(self.key, table).is_some_and(|rest| rest.ends_with(".parquet"))
    }
}

/// The rest of a key below a table's folder.
fn below<'a>(key: &'a str, table: &str) -> Option<&'a str> {
    key.strip_prefix(super::ROOT)?.strip_prefix('/')?.strip_prefix(table)?.strip_prefix('/')
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is only counted.
    Count,
    /// It has no effect and gets this answer.
    Status {
        /// HTTP's.
        code: u16,
        /// S3's word for it.
        s3_code: &'static str,
    },
    /// It takes effect and gets this answer nevertheless.
    StoreThenStatus {
        /// HTTP's.
        code: u16,
        /// S3's word for it.
        s3_code: &'static str,
    },
    /// It takes effect and the connection is cut without an answer.
    StoreThenDrop,
    /// It has no effect and the connection is cut without an answer.
    Drop,
    /// It takes effect; the connection is cut half-way through the answer's body.
    HalfThenDrop,
    /// It takes effect so much later.
    Delay(Duration),
    /// It has no effect and gets no answer; the connection stays open until the rule is removed.
    Stall,
}

/// When a request is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Before it takes effect.
    Before,
    /// After it has taken effect, before the answer.
    After,
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleId(usize);

type Matches = Box<dyn Fn(&Request<'_>) -> bool + Send + Sync>;

struct Rule {
    matches: Matches,
    fault: Fault,
    left: Option<u32>,
    hits: u64,
    removed: CancellationToken,
}

struct Hold {
    matches: Matches,
    at: At,
    parking: Parking,
}

/// All rules of a server.
#[derive(Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    holds: Mutex<Vec<Hold>>,
}

impl Faults {
    /// From now on requests that match are answered so, `times` times (`None`: until removed or cleared).
    pub fn add(
        &self,
        matches: impl Fn(&Request<'_>) -> bool + Send + Sync + 'static,
        fault: Fault,
        times: Option<u32>,
    ) -> RuleId {
        let mut rules = lock(&self.rules);
        let removed = CancellationToken::new();
        rules.push(Rule { matches: Box::new(matches), fault, left: times, hits: 0, removed });
        RuleId(rules.len() - 1)
    }

    /// Ends a rule. Requests that it stalls are cut off.
    pub fn remove(&self, RuleId(id): RuleId) {
        lock(&self.rules)[id].end();
    }

    /// Ends every rule. Requests that are parked stay parked.
    pub fn clear(&self) {
        lock(&self.rules).iter_mut().for_each(Rule::end);
    }

    /// How many requests met this rule, also after its end.
    pub fn hits(&self, RuleId(id): RuleId) -> u64 {
        lock(&self.rules)[id].hits
    }

    /// The next request that matches is parked, before or after it has taken effect, until released or until the
    /// client hangs up.
    pub fn hold(&self, matches: impl Fn(&Request<'_>) -> bool + Send + Sync + 'static, at: At) -> Held {
        let (reached, seen) = watch::channel(false);
        let parking = Parking { reached, release: CancellationToken::new() };
        let held = Held { seen, release: parking.release.clone() };
        lock(&self.holds).push(Hold { matches: Box::new(matches), at, parking });
        held
    }

    /// The fault that a request meets, if any, and what fires when its rule ends. `keys` differ only for a request
    /// that deletes many.
    pub(super) fn meet(&self, requests: &[Request<'_>]) -> Option<(Fault, CancellationToken)> {
        let mut rules = lock(&self.rules);
        let met = |rule: &&mut Rule| rule.left != Some(0) && requests.iter().any(|request| (rule.matches)(request));
        let rule = rules.iter_mut().find(met)?;
        rule.hits += 1;
        rule.left = rule.left.map(|left| left - 1);
        Some((rule.fault, rule.removed.clone()))
    }

    /// Where a request is to be parked, if anywhere. Each hold is for one request.
    pub(super) fn parking(&self, requests: &[Request<'_>]) -> Option<(At, Parking)> {
        let mut holds = lock(&self.holds);
        let found = holds.iter().position(|hold| requests.iter().any(|request| (hold.matches)(request)))?;
        let hold = holds.remove(found);
        Some((hold.at, hold.parking))
    }
}

impl Rule {
    fn end(&mut self) {
        self.left = Some(0);
        self.removed.cancel();
    }
}

/// The server's side of a hold.
pub(super) struct Parking {
    reached: watch::Sender<bool>,
    release: CancellationToken,
}

impl Parking {
    /// Says that the request is here and waits.
    pub async fn park(&self) {
        self.reached.send_replace(true);
        self.release.cancelled().await;
    }
}

/// The test's side of a hold. Dropping it releases.
#[derive(Debug)]
pub struct Held {
    seen: watch::Receiver<bool>,
    release: CancellationToken,
}

impl Held {
    /// Waits until a request is parked.
    pub async fn reached(&mut self) {
        // The sender lives in the hold or with the parked request; both gone, the client hung up after it was here.
        self.seen.wait_for(|here| *here).await.ok();
    }

    /// Whether the client hung up while its request was parked.
    pub fn is_abandoned(&self) -> bool {
        *self.seen.borrow() && self.seen.has_changed().is_err()
    }

    /// Lets the request go on.
    pub fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts connections, so that a test can see that they were really cut.
#[derive(Debug, Default)]
pub(super) struct Cuts(AtomicU64);

impl Cuts {
    pub fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
