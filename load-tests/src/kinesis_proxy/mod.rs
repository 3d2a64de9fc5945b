//! A Kinesis that misbehaves on command: real HTTP on a port of its own, in front of one that does not.
//!
//! The embedded Kinesis knows no bad days. This proxy gives it some: it looks at each call's operation, stream and
//! shard, and does to it what a test has asked for ([`Faults`]). Left alone, it is *more* like the real one than what
//! is behind it: it names the children at a shard's end, pages its listings by tokens that must come alone, and
//! answers with at most 10 MiB, after which the shard is locked for five seconds. Told so, it gives a shard's readers no
//! more than Kinesis does ([`Quota`]).
//!
//! What is behind it can be asked directly at the same time: a poster is not to notice anything.

mod faults;
mod quota;
mod server;
mod shards;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use faults::{Edit, Fault, Faults, Held, Operation, Request, RuleId};
pub use quota::{Quota, Usage};
pub use server::USAGE;

use server::{Front, serve};

/// A running proxy; stops, and cuts its connections, when dropped.
pub struct KinesisProxy {
    address: SocketAddr,
    front: Arc<Front>,
    _server: JoinSet<()>,
}

impl KinesisProxy {
    /// In front of this endpoint (`http://host:port`), on a free port.
    pub async fn start(endpoint: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port for a proxy")?;
        let address = listener.local_addr()?;
        let front = Arc::new(Front::new(endpoint));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&front)));
        Ok(Self { address, front, _server: server })
    }

    /// `http://127.0.0.1:port`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What is done to which calls.
    pub fn faults(&self) -> &Faults {
        &self.front.faults
    }

    /// Calls so far that match, whatever became of them.
    pub fn calls(&self, matches: impl Fn(&Request) -> bool) -> u64 {
        self.front.faults.calls(matches)
    }

    /// So many shards on a page of a listing; 1,000 unless told otherwise.
    pub fn page_shards(&self, count: usize) {
        self.front.limits().page_shards = count.max(1);
    }

    /// So many payload bytes in an answer, but at least one record; the answer that is cut there locks its shard for
    /// so long. 10 MiB and five seconds unless told otherwise.
    pub fn reply_bytes(&self, bytes: usize, lock: Duration) {
        let mut limits = self.front.limits();
        (limits.reply_bytes, limits.lock) = (bytes, lock);
    }

    /// From now on every shard gives its readers this much.
    pub fn limit(&self, quota: Quota) {
        self.front.limits().quota = Some(quota);
    }

    /// What each shard has given since it is limited. The same is at [`USAGE`] of its endpoint.
    pub fn usage(&self) -> Vec<Usage> {
        self.front.limits().usage()
    }
}
