//! An object store that fails as S3 does: before it stores, after it stored, or by saying that it has what it has not.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::oneshot;

use crate::lake::moment::MomentClock;

/// What happens to one PUT.
pub enum Fault {
    /// An error, and nothing is stored.
    Fail,
    /// Stored, and the answer is an error.
    LoseAnswer,
    /// Stored, retried by the client, and so answered as a conflict with itself.
    ConflictWithItself,
    /// S3's 409: answered as a conflict, and nothing is there.
    ConflictWithNothing,
    /// Something else is stored, of the same length.
    Spoil,
    /// Tells the test that it is about to store, and waits for it.
    Hold(oneshot::Sender<()>, oneshot::Receiver<()>),
}

/// A store with faults on demand, and with the test's own idea of when an object was written.
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Mutex<Vec<(String, Fault)>>,
    puts: Mutex<Vec<String>>,
    denied: Mutex<Option<String>>,
    denials: AtomicUsize,
    calls: AtomicUsize,
    on_fault: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    clock: Option<MomentClock>,
    written_ms: Arc<Mutex<HashMap<String, i64>>>,
}

impl Faulty {
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            faults: Mutex::default(),
            puts: Mutex::default(),
            denied: Mutex::default(),
            denials: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            on_fault: Mutex::default(),
            clock: None,
            written_ms: Arc::default(),
        }
    }

    /// Objects are written when this clock says so, for those who list them.
    pub fn timed_by(self, clock: MomentClock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// From now on this object was written at this time, epoch ms.
    pub fn date(&self, location: &Path, ms: i64) {
        self.written_ms.lock().unwrap().insert(location.to_string(), ms);
    }

    /// Requests so far, of any kind.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// What happens beside the next fault.
    pub fn on_fault(&self, hook: impl FnOnce() + Send + 'static) {
        *self.on_fault.lock().unwrap() = Some(Box::new(hook));
    }

    /// The last PUT whose path contains `part`.
    pub fn last_put(&self, part: &str) -> Option<String> {
        self.puts.lock().unwrap().iter().rfind(|path| path.contains(part)).cloned()
    }

    fn dated(&self) -> impl Fn(ObjectMeta) -> ObjectMeta + Send + 'static {
        let (clock, written_ms) = (self.clock.clone(), Arc::clone(&self.written_ms));
        move |mut meta| {
            if let Some(clock) = &clock {
                let mut written_ms = written_ms.lock().unwrap();
                let ms = written_ms.entry(meta.location.to_string()).or_insert_with(|| clock.now().wall_ms);
                meta.last_modified = chrono::DateTime::from_timestamp_millis(*ms).unwrap();
            }
            meta
        }
    }

    /// The next PUT whose path contains `part` meets this fault. In order for equal parts.
    pub fn next_put(&self, part: &str, fault: Fault) {
        self.faults.lock().unwrap().push((part.to_owned(), fault));
    }

    /// From now on no PUT whose path contains `part` is permitted; `None`: all are.
    pub fn deny(&self, part: Option<&str>) {
        *self.denied.lock().unwrap() = part.map(str::to_owned);
    }

    /// PUTs that were not permitted.
    pub fn denials(&self) -> usize {
        self.denials.load(Ordering::SeqCst)
    }

    /// PUTs so far whose path contains `part`.
    pub fn puts(&self, part: &str) -> usize {
        self.puts.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }

    /// Faults that nothing met yet.
    pub fn waiting(&self) -> usize {
        self.faults.lock().unwrap().len()
    }

    pub fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    fn take(&self, location: &Path) -> Option<Fault> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.puts.lock().unwrap().push(location.to_string());
        if let Some(clock) = &self.clock {
            self.date(location, clock.now().wall_ms);
        }
        let mut faults = self.faults.lock().unwrap();
        let index = faults.iter().position(|(part, _)| location.as_ref().contains(part.as_str()))?;
        if let Some(hook) = self.on_fault.lock().unwrap().take() {
            hook();
        }
        Some(faults.remove(index).1)
    }
}

fn broken(what: &'static str) -> Error {
    Error::Generic { store: "faulty", source: what.into() }
}

fn conflict(location: &Path) -> Error {
    Error::AlreadyExists { path: location.to_string(), source: "412".into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if self.denied.lock().unwrap().as_ref().is_some_and(|part| location.as_ref().contains(part)) {
            self.denials.fetch_add(1, Ordering::SeqCst);
            return Err(Error::PermissionDenied { path: location.to_string(), source: "403".into() });
        }
        match self.take(location) {
            None => self.inner.put_opts(location, payload, options).await,
            Some(Fault::Fail) => Err(broken("unreachable")),
            Some(Fault::LoseAnswer) => {
                self.inner.put_opts(location, payload, options).await?;
                Err(broken("connection reset"))
            }
            Some(Fault::ConflictWithItself) => {
                self.inner.put_opts(location, payload, options).await?;
                Err(conflict(location))
            }
            Some(Fault::ConflictWithNothing) => Err(conflict(location)),
            Some(Fault::Spoil) => {
                let spoilt = PutPayload::from(vec![b'x'; payload.content_length()]);
                self.inner.put_opts(location, spoilt, options).await
            }
            Some(Fault::Hold(arrived, go_on)) => {
                arrived.send(()).unwrap();
                go_on.await.unwrap();
                self.inner.put_opts(location, payload, options).await
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.list(prefix).map_ok(self.dated()).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}
