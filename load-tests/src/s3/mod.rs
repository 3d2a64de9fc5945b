//! An S3 of the test's own that fails as it is told: on the wire, with real connections.
//!
//! What it stores, it stores as S3 does (conditional puts are atomic, listings are strongly consistent); what it
//! answers is decided by [`Faults`]. So a test can lose the answer to a commit that landed, park a request while a
//! process is frozen, or let a credential expire, and the client under test is the one that runs in production.

mod api;
mod faults;
mod objects;
mod reading;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::AmazonS3;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use url::Url;

use api::Bucket;
pub use faults::{At, Fault, Faults, Held, Request, RuleId, Verb};
use objects::{Condition, Objects};
use wire::Shared;

const BUCKET: &str = "lake";
const ROOT: &str = "tables";

/// Where one is, in this process or in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct S3Place(pub SocketAddr);

impl S3Place {
    /// `http://127.0.0.1:port`
    pub fn endpoint(self) -> String {
        format!("http://{}", self.0)
    }

    /// `s3://lake/tables`
    pub fn lake_uri(self) -> String {
        format!("s3://{BUCKET}/{ROOT}")
    }

    /// The lake as a URL that deltalake opens in this process.
    pub fn lake_url(self) -> anyhow::Result<Url> {
        Ok(reading::url(self.0, ROOT)?)
    }

    /// A client of the bucket, with made-up credentials and object_store's usual patience.
    pub fn client(self) -> anyhow::Result<AmazonS3> {
        Ok(reading::client(self.0)?)
    }
}

/// A running one, with one bucket. It ends when dropped, and all of its connections with it.
pub struct S3Server {
    address: SocketAddr,
    objects: Arc<Objects>,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

impl S3Server {
    /// Starts one on a free port. It checks no signature.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let objects = Arc::<Objects>::default();
        let service = S3ServiceBuilder::new(Bucket { name: BUCKET, objects: Arc::clone(&objects) }).build();
        let shared = Arc::new(Shared { service, faults: Arc::default(), cuts: Default::default() });
        let mut serving = JoinSet::new();
        serving.spawn(wire::serve(listener, Arc::clone(&shared)));
        Ok(Self { address, objects, shared, _serving: serving })
    }

    /// `http://127.0.0.1:port`
    pub fn endpoint(&self) -> String {
        self.place().endpoint()
    }

    /// `s3://lake/tables`
    pub fn lake_uri(&self) -> String {
        self.place().lake_uri()
    }

    /// The lake as a URL that deltalake opens in this process.
    pub fn lake_url(&self) -> anyhow::Result<Url> {
        self.place().lake_url()
    }

    /// A client of the bucket, with made-up credentials and object_store's usual patience.
    pub fn client(&self) -> anyhow::Result<AmazonS3> {
        self.place().client()
    }

    /// What a client needs to know of it.
    pub fn place(&self) -> S3Place {
        S3Place(self.address)
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// How many connections were cut by faults.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.count()
    }

    // === What lies there, without a request ===

    /// The keys with this prefix, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.objects.keys(prefix)
    }

    /// An object's bytes.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.objects.get(key).map(|object| object.bytes)
    }

    /// Puts an object, whatever is there.
    pub fn put(&self, key: &str, bytes: Bytes) {
        // Without a condition there is nothing to refuse.
        self.objects.put(key, bytes, &Condition::None).ok();
    }

    /// Removes every object with this prefix; how many there were.
    pub fn remove_prefix(&self, prefix: &str) -> usize {
        self.objects.remove_prefix(prefix)
    }

    /// Makes every object with this prefix so much older, for log cleanup and vacuum.
    pub fn age(&self, prefix: &str, by: Duration) {
        self.objects.age(prefix, by);
    }
}

#[cfg(test)]
mod tests;
