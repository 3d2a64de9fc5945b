//! Where the tables are: a local folder or an S3 prefix, behind the few questions that the lake asks of it.
//!
//! Every object is written once under a name that is never used again, or by a conditional PUT. Options come from
//! the configuration and the default credential chain alone; no environment variable without a prefix is read here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use url::Url;
use uuid::Uuid;

use super::credentials::ChainCredentials;
use super::error::LakeError;
use super::moment::MomentClock;
use crate::limits::LOG_ENTRY_BYTES_MAX;

/// One request, its body included; a flush over a slow line must still get through.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The store's own retries end here; beyond it our loop takes over, which looks before it repeats and tells people.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the lake is and how it is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LakeConfig {
    /// `s3://bucket/prefix`, `file:///absolute/folder`, or a plain path.
    pub uri: String,
    /// The bucket's region; without one, the SDK's default chain says.
    pub region: Option<String>,
    /// Another S3 than AWS's. Plain `http://` is allowed if it says so.
    pub endpoint: Option<String>,
}

/// An opened lake. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LakeStore {
    objects: Arc<dyn ObjectStore>,
    root: String,
    uri: String,
    /// If the lake is a folder of this machine.
    folder: Option<PathBuf>,
}

/// How a conditional PUT ended, if it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Created {
    /// Stored, with this ETag.
    Yes(Option<String>),
    /// The store says that there is one already. It may be our own, or (S3's 409) none at all.
    Exists,
}

impl LakeStore {
    /// Opens the lake; a local folder is created if missing. No request is made to S3, except for credentials.
    pub async fn open(config: &LakeConfig) -> Result<Self, LakeError> {
        let refused = |reason: String| LakeError::Location { uri: config.uri.clone(), reason };
        match config.uri.split_once("://") {
            Some(("s3", _)) => Self::open_s3(config).await,
            Some(("file", _)) => {
                let url = Url::parse(&config.uri).map_err(|error| refused(error.to_string()))?;
                let folder = url.to_file_path();
                Self::open_folder(config, folder.map_err(|()| refused("expected file:///absolute/folder".to_owned()))?)
            }
            Some((scheme, _)) => {
                Err(refused(format!("scheme {scheme:?} is not supported (expected s3://, file:/// or a path)")))
            }
            None if config.uri.is_empty() => Err(refused("is empty (expected s3://, file:/// or a path)".to_owned())),
            None => Self::open_folder(config, PathBuf::from(&config.uri)),
        }
    }

    /// As [`Self::open`], but makes nothing: `None` if the lake is a folder that is not there. An error if something
    /// else stands in its place.
    pub async fn open_existing(config: &LakeConfig) -> Result<Option<Self>, LakeError> {
        let Some(folder) = folder_of(config) else { return Self::open(config).await.map(Some) };
        match folder {
            folder if folder.is_dir() => Self::open(config).await.map(Some),
            folder if folder.exists() => {
                let reason = "is a file; the lake is a folder".to_owned();
                Err(LakeError::Location { uri: config.uri.clone(), reason })
            }
            _not_there => Ok(None),
        }
    }

    /// Whether a lake that is not there can be made: in the folder that would hold it, a file can.
    pub fn check_can_be_made(config: &LakeConfig) -> Result<(), LakeError> {
        let folder = folder_of(config).unwrap_or_default();
        let Some(above) = folder.ancestors().skip(1).find(|above| above.exists()) else { return Ok(()) };
        let probe = above.join(probe_name());
        let made = std::fs::File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe));
        made.map_err(|error| {
            let reason = format!("cannot be made in {}: {error}", above.display());
            LakeError::Location { uri: config.uri.clone(), reason }
        })
    }

    /// Whether objects can be written and deleted: makes one that no reader looks at, at the lake's root, beside the
    /// tables, and deletes it again.
    pub async fn check_writable(&self) -> Result<(), LakeError> {
        let path = Path::from(format!("{}/{}", self.root, probe_name()));
        self.create(&path, Bytes::from_static(b"pintail check\n")).await?;
        self.delete_all(vec![path]).await.map(|_| ())
    }

    /// Deletes what is left in a table's folder of writes that a crash cut off before this (epoch ms); returns how
    /// many files and bytes. A folder's store writes into `NAME#1` and renames, and shows nobody what was not renamed:
    /// neither a listing nor a reader.
    pub(crate) async fn delete_cut_off_writes(&self, table: &str, before_ms: i64) -> Result<(u64, u64), LakeError> {
        let Some(folder) = self.folder.as_ref().map(|folder| folder.join(table)) else { return Ok((0, 0)) };
        let path = folder.display().to_string();
        let swept = tokio::task::spawn_blocking(move || sweep(folder, before_ms)).await;
        let swept = swept.map_err(std::io::Error::other).and_then(|swept| swept);
        swept.map_err(|error| LakeError::Store {
            action: "delete unfinished writes in",
            path,
            source: object_store::Error::Generic { store: "LocalFileSystem", source: error.into() },
        })
    }

    fn open_folder(config: &LakeConfig, folder: PathBuf) -> Result<Self, LakeError> {
        let refused = |reason: String| LakeError::Location { uri: config.uri.clone(), reason };
        std::fs::create_dir_all(&folder).map_err(|error| refused(format!("cannot be created: {error}")))?;
        let folder = folder.canonicalize().map_err(|error| refused(error.to_string()))?;
        let objects = LocalFileSystem::new_with_prefix(&folder).map_err(|error| refused(error.to_string()))?;
        let uri = Url::from_directory_path(&folder)
            .map_err(|()| refused(format!("{} is no absolute path", folder.display())))?;
        Ok(Self { folder: Some(folder), ..Self::with_objects(Arc::new(objects), "", uri.as_str()) })
    }

    async fn open_s3(config: &LakeConfig) -> Result<Self, LakeError> {
        let refused = |reason: String| LakeError::Location { uri: config.uri.clone(), reason };
        let url = Url::parse(&config.uri).map_err(|error| refused(error.to_string()))?;
        let bucket = url.host_str().ok_or_else(|| refused("names no bucket (expected s3://bucket/prefix)".into()))?;
        let sdk = aws_config::defaults(aws_config::BehaviorVersion::latest()).load().await;
        let region = config
            .region
            .clone()
            .or_else(|| sdk.region().map(|region| region.as_ref().to_owned()))
            .ok_or_else(|| refused("no region is set (set [aws] region or AWS_REGION)".into()))?;
        let chain = sdk.credentials_provider().ok_or_else(|| refused("the AWS SDK has no credential chain".into()))?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(region)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(ClientOptions::new().with_timeout(REQUEST_TIMEOUT))
            .with_retry(RetryConfig { retry_timeout: RETRY_TIMEOUT, max_retries: 5, ..RetryConfig::default() })
            .with_credentials(Arc::new(ChainCredentials::new(chain, MomentClock::system())));
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        let objects = builder.build().map_err(|error| refused(error.to_string()))?;
        // As it was written: an address would have it encoded.
        let prefix =
            config.uri.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).map_or("", |(_, prefix)| prefix);
        Ok(Self::with_objects(Arc::new(objects), prefix, &config.uri))
    }

    /// A lake over any object store, with credentials of its own; `root` is the prefix in it, `uri` what people call
    /// it.
    pub fn with_objects(objects: Arc<dyn ObjectStore>, root: &str, uri: &str) -> Self {
        let root = root.trim_matches('/').to_owned();
        Self { objects, root, uri: uri.trim_end_matches('/').to_owned(), folder: None }
    }

    /// What people call the lake, without a trailing slash.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// What people, and other engines, call a table.
    pub fn table_uri(&self, table: &str) -> String {
        format!("{}/{table}", self.uri)
    }

    /// The store itself, for readers that need ranges.
    pub(crate) fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects)
    }

    /// The object with this path in a table's folder.
    pub(crate) fn path(&self, table: &str, relative: &str) -> Path {
        Path::from(format!("{}/{table}/{relative}", self.root))
    }

    /// An object's bytes and description; `None` if there is none. Refuses to load more than a log entry may be.
    pub(crate) async fn read(&self, path: &Path) -> Result<Option<(Bytes, ObjectMeta)>, LakeError> {
        let failed = |source| LakeError::Store { action: "read", path: path.to_string(), source };
        let answer = match self.objects.get_opts(path, GetOptions::default()).await {
            Ok(answer) => answer,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let meta = answer.meta.clone();
        if meta.size > LOG_ENTRY_BYTES_MAX {
            let reason = format!("{path} has {} bytes; at most {LOG_ENTRY_BYTES_MAX} are read", meta.size);
            return Err(LakeError::Refused { table: self.uri.clone(), reason });
        }
        Ok(Some((answer.bytes().await.map_err(failed)?, meta)))
    }

    /// An object's description; `None` if there is none.
    pub(crate) async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>, LakeError> {
        match self.objects.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(LakeError::Store { action: "look at", path: path.to_string(), source }),
        }
    }

    /// Writes an object unless there is one. An error leaves open whether it was written.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Result<Created, LakeError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects.put_opts(path, PutPayload::from_bytes(bytes), options).await {
            Ok(stored) => Ok(Created::Yes(stored.e_tag)),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::Exists)
            }
            Err(source) => Err(LakeError::Store { action: "write", path: path.to_string(), source }),
        }
    }

    /// Writes an object under a name that nobody else uses; writing it twice is writing it once.
    pub(crate) async fn write(&self, path: &Path, bytes: Bytes) -> Result<(), LakeError> {
        match self.objects.put(path, PutPayload::from_bytes(bytes)).await {
            Ok(_) => Ok(()),
            Err(source) => Err(LakeError::Store { action: "write", path: path.to_string(), source }),
        }
    }

    /// Whether a file that was just written is in the table. A folder that is away (a disk that is not mounted) takes files
    /// all the same: the way to them is made anew, and when the folder is back it is without them. So in a folder the
    /// table's log must be there, and after that the file. An S3 that is away takes nothing.
    pub(crate) async fn check_landed(&self, table: &str, path: &Path) -> Result<(), LakeError> {
        let Some(log) = self.folder.as_ref().map(|folder| folder.join(table).join("_delta_log")) else { return Ok(()) };
        let has_log = tokio::task::spawn_blocking(move || has_an_entry(&log)).await.unwrap_or_default();
        if has_log && self.head(path).await?.is_some() {
            return Ok(());
        }
        let source = if has_log { "it is gone" } else { "its table's log is not there (is the folder away?)" };
        let source = object_store::Error::NotFound { path: path.to_string(), source: source.into() };
        Err(LakeError::Store { action: "find what was just written as", path: path.to_string(), source })
    }

    /// Deletes objects, as many at a time as the store takes; one that is gone already is no error. Returns how many
    /// were asked for.
    pub(crate) async fn delete_all(&self, paths: Vec<Path>) -> Result<u64, LakeError> {
        let count = paths.len() as u64;
        let first = paths.first().map_or_else(String::new, Path::to_string);
        let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut deleted = self.objects.delete_stream(paths);
        while let Some(answer) = deleted.next().await {
            match answer {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => {
                    return Err(LakeError::Store { action: "delete", path: format!("{first} and following"), source });
                }
            }
        }
        Ok(count)
    }
}

/// The folder that a lake of this machine is; `None` if it is elsewhere, or nowhere.
fn folder_of(config: &LakeConfig) -> Option<PathBuf> {
    match config.uri.split_once("://") {
        Some(("file", _)) => Url::parse(&config.uri).ok()?.to_file_path().ok(),
        Some(_) => None,
        None => std::path::absolute(&config.uri).ok(),
    }
}

/// Of a log in a folder.
fn has_an_entry(log: &std::path::Path) -> bool {
    let mut entries = std::fs::read_dir(log).into_iter().flatten().flatten();
    entries.any(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
}

/// Hidden from readers by its underscore, as no table's name begins.
fn probe_name() -> String {
    format!("_pintail-probe-{}", Uuid::new_v4())
}

fn sweep(folder: PathBuf, before_ms: i64) -> std::io::Result<(u64, u64)> {
    let (mut files, mut bytes, mut folders) = (0, 0, vec![folder]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if is_cut_off(&entry.file_name().to_string_lossy()) {
                let found = match entry.metadata() {
                    Ok(found) => found,
                    // Its write has just been finished.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let written = chrono::DateTime::<chrono::Utc>::from(found.modified()?);
                if written.timestamp_millis() < before_ms {
                    std::fs::remove_file(entry.path())?;
                    (files, bytes) = (files + 1, bytes + found.len());
                }
            }
        }
    }
    Ok((files, bytes))
}

/// As the folder's store names what it has not finished.
fn is_cut_off(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn lake_at(folder: &std::path::Path) -> LakeConfig {
        LakeConfig { uri: folder.display().to_string(), ..LakeConfig::default() }
    }

    #[tokio::test]
    async fn a_probe_leaves_nothing_behind_and_a_place_where_nothing_can_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = LakeStore::open(&lake_at(folder.path())).await.unwrap();
        store.check_writable().await.unwrap();
        LakeStore::check_can_be_made(&lake_at(&folder.path().join("a/b"))).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let told = LakeStore::open_existing(&lake_at(&file)).await.unwrap_err().to_string();
        assert!(told.contains("is a file"), "{told}");
        let below = lake_at(&file.join("lake"));
        assert!(LakeStore::open_existing(&below).await.unwrap().is_none());
        let told = LakeStore::check_can_be_made(&below).unwrap_err().to_string();
        assert!(told.contains("cannot be made in") && told.contains("file"), "{told}");
        // Root may write into a folder without permissions; nobody into one that is gone and became a file.
        std::fs::remove_dir_all(folder.path()).unwrap();
        std::fs::write(folder.path(), "x").unwrap();
        assert!(store.check_writable().await.is_err());
        std::fs::remove_file(folder.path()).unwrap();
    }

    #[tokio::test]
    async fn what_was_written_while_the_folder_was_away_is_not_taken_for_the_tables() {
        let folder = tempfile::tempdir().unwrap();
        let store = LakeStore::open(&lake_at(folder.path())).await.unwrap();
        let (entry, file) = (store.path("t", "_delta_log/0.json"), store.path("t", "_date=1/part-a.parquet"));
        store.write(&file, Bytes::from_static(b"1")).await.unwrap();
        let told = store.check_landed("t", &file).await.unwrap_err();
        assert!(told.is_passing() && crate::error_chain::chain(&told).contains("is the folder away?"), "{told:?}");
        store.write(&entry, Bytes::from_static(b"{}")).await.unwrap();
        store.check_landed("t", &file).await.unwrap();
        std::fs::remove_file(folder.path().join("t/_date=1/part-a.parquet")).unwrap();
        assert!(store.check_landed("t", &file).await.unwrap_err().is_passing(), "the log is back, without the file");
    }

    #[tokio::test]
    async fn writes_that_were_cut_off_go_when_they_are_old_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let store = LakeStore::open(&lake_at(folder.path())).await.unwrap();
        let names =
            ["t/_delta_log/3.json#1", "t/_date=1/part-a.parquet#12", "t/_date=1/part-a.parquet", "t/x#y", "u/x#1"];
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "12345").unwrap();
            std::fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(UNIX_EPOCH + Duration::from_secs(1))
                .unwrap();
        }
        assert_eq!(store.delete_cut_off_writes("t", 1_000).await.unwrap(), (0, 0), "not old enough");
        assert_eq!(store.delete_cut_off_writes("t", 1_001).await.unwrap(), (2, 10));
        let left: Vec<bool> = names.iter().map(|name| folder.path().join(name).exists()).collect();
        assert_eq!(left, [false, false, true, true, true]);
    }
}
