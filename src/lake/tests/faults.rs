//! An object store that fails as S3 does: before it stores, after it stored, or by saying that it has what it has not.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::oneshot;

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

/// A store with faults on demand.
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Mutex<Vec<(String, Fault)>>,
    puts: Mutex<Vec<String>>,
}

impl Faulty {
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, faults: Mutex::default(), puts: Mutex::default() }
    }

    /// The next PUT whose path contains `part` meets this fault. In order for equal parts.
    pub fn next_put(&self, part: &str, fault: Fault) {
        self.faults.lock().unwrap().push((part.to_owned(), fault));
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
        self.puts.lock().unwrap().push(location.to_string());
        let mut faults = self.faults.lock().unwrap();
        let index = faults.iter().position(|(part, _)| location.as_ref().contains(part.as_str()))?;
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
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
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
