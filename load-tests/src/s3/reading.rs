//! Lakes on an [`S3Server`](super::S3Server) as deltalake reads them.
//!
//! deltalake finds a store by its URL's scheme. This one carries the server's address, so that a URL alone says
//! where a table is, as `file://` does, and scenes of one process do not see each other.

use std::net::SocketAddr;
use std::sync::Arc;

use deltalake::logstore::{
    LogStore, LogStoreFactory, ObjectStoreFactory, ObjectStoreRef, StorageConfig, default_logstore, logstore_factories,
    object_store_factories,
};
use deltalake::{DeltaResult, DeltaTableError, Path};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use url::Url;

use super::BUCKET;

const SCHEME: &str = "s3-server";

/// A client of the server, with made-up credentials.
pub fn client(address: SocketAddr) -> object_store::Result<AmazonS3> {
    AmazonS3Builder::new()
        .with_bucket_name(BUCKET)
        .with_region("us-east-1")
        .with_endpoint(format!("http://{address}"))
        .with_allow_http(true)
        .with_access_key_id("local")
        .with_secret_access_key("local")
        .build()
}

/// The place below the bucket as a URL that deltalake can open.
pub fn url(address: SocketAddr, root: &str) -> Result<Url, url::ParseError> {
    let scheme = Url::parse(&format!("{SCHEME}://"))?;
    object_store_factories().entry(scheme.clone()).or_insert_with(|| Arc::new(Server));
    logstore_factories().entry(scheme).or_insert_with(|| Arc::new(Server));
    Url::parse(&format!("{SCHEME}://{address}/{root}/"))
}

struct Server;

impl ObjectStoreFactory for Server {
    fn parse_url_opts(&self, url: &Url, _config: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        let address = url.host_str().zip(url.port()).and_then(|(host, port)| format!("{host}:{port}").parse().ok());
        let address = address.ok_or_else(|| DeltaTableError::InvalidTableLocation(url.to_string()))?;
        Ok((Arc::new(client(address)?), Path::from_url_path(url.path())?))
    }
}

impl LogStoreFactory for Server {
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(prefixed_store, root_store, location, options))
    }
}
