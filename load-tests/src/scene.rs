//! One Kinesis, one lake, one set of contracts: where a test takes place.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use pintail::checkpoint::{LedgerView, SequenceNumber, ShardId};
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use pintail::demo::contracts::shipped;
use pintail::demo::kinesis::EmbeddedKinesis;
use pintail::lake::{LakeConfig, LakeStore, read_ledgers};
use tempfile::TempDir;
use tokio::process::Command;
use url::Url;

use crate::child::Child;
use crate::kinesis_proxy::KinesisProxy;
use crate::poster::Poster;
use crate::processor::Processor;
use crate::s3::S3Server;
use crate::tables::Snapshot;
use crate::verify::{Verdict, look, verify};
use crate::wait::{PATIENCE, until_within};
use crate::windows::{SHIPPED, Window};

/// A running Pintail, here or in a process of its own.
pub trait Instance {
    /// Fails if it has ended.
    fn alive(&mut self) -> anyhow::Result<()>;
    /// What it has to say, for the message of a failed test.
    fn story(&self) -> String;
}

/// What the configuration file says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `lake.flush_interval`
    pub flush_interval_ms: u64,
    /// `lake.flush_bytes`, if not the default.
    pub flush_bytes: Option<String>,
    /// `source.start`
    pub start: &'static str,
    /// `source.on_data_loss`
    pub on_data_loss: &'static str,
    /// `source.reads_per_second`
    pub reads_per_second: f64,
    /// `aws.region`
    pub region: String,
    /// `aws.endpoint`, if not AWS's own.
    pub endpoint: Option<String>,
    /// The streams that are read.
    pub streams: Vec<Kind>,
    /// Further sections of the file, as TOML.
    pub sections: String,
    /// The size of all windows, as the contracts have it.
    pub window_s: u64,
}

impl Settings {
    /// The configuration file of this pipeline on this lake (`uri`, and `endpoint` if it has one). A stream may have
    /// another name than its contract's file.
    pub fn to_toml<N: AsRef<str>>(&self, pipeline: &str, lake: &str, stream: impl Fn(Kind) -> N) -> String {
        let Self { flush_interval_ms, flush_bytes, start, on_data_loss, reads_per_second, .. } = self;
        let flush_bytes = flush_bytes.as_ref().map(|bytes| format!("flush_bytes = {bytes:?}\n")).unwrap_or_default();
        let endpoint = self.endpoint.as_ref().map(|url| format!("endpoint = {url:?}\n")).unwrap_or_default();
        let mut text = format!(
            "pipeline = {pipeline:?}\n\n[lake]\n{lake}\n{flush_bytes}flush_interval = \"{flush_interval_ms}ms\"\n\n\
             [source]\nstart = {start:?}\non_data_loss = {on_data_loss:?}\nreads_per_second = {reads_per_second:?}\n\n\
             [serve]\nlisten = \"127.0.0.1:0\"\n\n[aws]\nregion = {:?}\n{endpoint}\n{}",
            self.region, self.sections,
        );
        for kind in self.streams.iter().copied() {
            let (stream, contract) = (stream(kind), kind.name());
            text.push_str(&format!("\n[[stream]]\nname = {:?}\ncontract = \"{contract}.toml\"\n", stream.as_ref()));
        }
        text
    }
}

/// The place. Its folder vanishes with it.
pub struct Scene {
    /// Holds the three streams.
    pub kinesis: EmbeddedKinesis,
    /// Holds the lake, if the lake is not a folder.
    pub s3: Option<S3Server>,
    /// For the next start.
    pub settings: Settings,
    folder: TempDir,
    children: Cell<u32>,
}

impl Scene {
    /// The three streams with so many shards each, the shipped contracts, and no lake yet.
    pub async fn new(shards: u32) -> anyhow::Result<Self> {
        let kinesis = EmbeddedKinesis::start(&Kind::ALL.map(Kind::name), shards).await?;
        let settings = Settings {
            flush_interval_ms: 250,
            flush_bytes: None,
            start: "trim_horizon",
            on_data_loss: "fail",
            reads_per_second: 5.0,
            region: "us-east-1".to_owned(),
            endpoint: Some(kinesis.endpoint()),
            streams: Kind::ALL.to_vec(),
            sections: String::new(),
            window_s: 60,
        };
        let scene = Self { kinesis, s3: None, settings, folder: tempfile::tempdir()?, children: Cell::new(0) };
        for kind in Kind::ALL {
            std::fs::write(scene.contract(kind), shipped(kind).1)?;
        }
        Ok(scene)
    }

    /// The same with the lake on an S3 that fails as it is told. Only children can work on it: credentials come from
    /// the environment, and a test has no environment of its own.
    pub async fn on_s3(shards: u32) -> anyhow::Result<Self> {
        let scene = Self::new(shards).await?;
        Ok(Self { s3: Some(S3Server::start().await?), ..scene })
    }

    /// A proxy in front of the scene's Kinesis. Pintail's next start goes through it; posters do not.
    pub async fn interpose(&mut self) -> anyhow::Result<KinesisProxy> {
        let proxy = KinesisProxy::start(&self.kinesis.endpoint()).await?;
        self.settings.endpoint = Some(proxy.endpoint());
        Ok(proxy)
    }

    /// A poster of its own book.
    pub fn poster(&self, seed: u64) -> Poster {
        Poster::new(&self.kinesis, seed)
    }

    // === Files ===

    /// The S3 of a scene that has one.
    pub fn s3(&self) -> anyhow::Result<&S3Server> {
        self.s3.as_ref().context("the scene's lake is a folder")
    }

    /// The lake's folder; there is none before the first start, and never one if the lake is on S3.
    pub fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    /// The lake as an address.
    pub fn lake_url(&self) -> anyhow::Result<Url> {
        if let Some(s3) = &self.s3 {
            return s3.lake_url();
        }
        Url::from_directory_path(self.lake()).ok().context("the lake's path is absolute")
    }

    /// A stream's contract file.
    pub fn contract(&self, kind: Kind) -> PathBuf {
        self.folder.path().join(format!("{}.toml", kind.name()))
    }

    /// Replaces a part of a contract, which must be there.
    pub fn edit_contract(&self, kind: Kind, from: &str, to: &str) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(self.contract(kind))?;
        ensure!(text.contains(from), "{from:?} is not in the contract of {}", kind.name());
        Ok(std::fs::write(self.contract(kind), text.replace(from, to))?)
    }

    /// Windows of so many seconds, which wait three for stragglers: the local Kinesis gives arrivals in whole seconds, and on a
    /// busy machine a record is seen a second after it was put.
    pub fn shorten_windows(&mut self, seconds: u64) -> anyhow::Result<()> {
        let every =
            |seconds| if seconds == 60 { "every = \"1m\"".to_owned() } else { format!("every = \"{seconds}s\"") };
        for kind in Kind::ALL {
            self.edit_contract(kind, &every(self.settings.window_s), &format!("{}\ngrace = \"3s\"", every(seconds)))?;
        }
        self.settings.window_s = seconds;
        Ok(())
    }

    /// The windows of the contracts.
    fn windows(&self) -> Vec<Window> {
        SHIPPED.iter().map(|window| window.of_seconds(self.settings.window_s)).collect()
    }

    /// Writes the configuration file for the present settings.
    pub fn configure(&self) -> anyhow::Result<PathBuf> {
        let lake = match &self.s3 {
            Some(s3) => format!("uri = {:?}\nendpoint = {:?}", s3.lake_uri(), s3.endpoint()),
            None => format!("uri = {:?}", self.lake()),
        };
        let text = self.settings.to_toml("e2e", &lake, Kind::name);
        self.write("pintail.toml", &text)
    }

    /// Writes a file beside the contracts, in one step: a child that was just started may be reading the old one.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let (file, new) = (self.folder.path().join(name), self.folder.path().join(format!("{name}.new")));
        std::fs::write(&new, text)?;
        std::fs::rename(new, &file)?;
        Ok(file)
    }

    // === Pintail ===

    /// Starts Pintail in this process.
    pub async fn start(&self) -> anyhow::Result<Processor> {
        Processor::start(&self.configure()?).await
    }

    /// Starts Pintail in a process of its own; `program` is this package's binary.
    pub fn spawn(&self, program: &str) -> anyhow::Result<Child> {
        self.spawn_by(Command::new(program))
    }

    /// The same by a command that ends in running that binary with the arguments that it is given.
    pub fn spawn_by(&self, program: Command) -> anyhow::Result<Child> {
        Child::run(program, &self.configure()?, "info", self.next_log())
    }

    /// The same with a configuration file that may be wrong, and without logs: standard error is what people are told.
    pub fn spawn_quietly(&self, program: &str, config: &Path) -> anyhow::Result<Child> {
        Child::run(Command::new(program), config, "off", self.next_log())
    }

    /// Calls any command of Pintail that takes a configuration file, in a process of its own.
    pub fn call(&self, program: &str, command: &[&str]) -> anyhow::Result<Child> {
        Child::call(Command::new(program), command, &self.configure()?, "info", self.next_log())
    }

    fn next_log(&self) -> PathBuf {
        let number = self.children.get();
        self.children.set(number + 1);
        self.folder.path().join(format!("child-{number}.log"))
    }

    // === Looking ===

    /// The lake as Pintail opens it; `None` if it is a folder that is not there yet.
    async fn lake_store(&self) -> anyhow::Result<Option<LakeStore>> {
        if let Some(s3) = &self.s3 {
            let url = s3.lake_url()?;
            return Ok(Some(LakeStore::with_objects(Arc::new(s3.client()?), url.path(), &s3.lake_uri())));
        }
        let uri = self.lake().display().to_string();
        Ok(LakeStore::open_existing(&LakeConfig { uri, ..LakeConfig::default() }).await?)
    }

    /// What the ledger in a stream's rows table says of the newest stream of this name; empty without a table.
    pub async fn ledger(&self, kind: Kind) -> anyhow::Result<LedgerView> {
        self.ledger_of(kind.name()).await
    }

    /// The same for any rows table.
    pub async fn ledger_of(&self, table: &str) -> anyhow::Result<LedgerView> {
        let Some(store) = self.lake_store().await? else { return Ok(LedgerView::default()) };
        let ledgers = read_ledgers(&store, table).await?.unwrap_or_default();
        let newest = ledgers.into_iter().max_by_key(|ledger| ledger.identity.created_at_s);
        Ok(newest.map(|ledger| ledger.view).unwrap_or_default())
    }

    /// Waits until the ledger covers everything that is in the book now.
    pub async fn caught_up(&self, log: &AcceptedLog, instance: &mut impl Instance) -> anyhow::Result<()> {
        self.caught_up_within(PATIENCE, log, instance).await
    }

    /// The same with another patience, for much that is to be caught up with.
    pub async fn caught_up_within(
        &self,
        patience: Duration,
        log: &AcceptedLog,
        instance: &mut impl Instance,
    ) -> anyhow::Result<()> {
        let (heads, mut behind) = (log.heads(), Vec::new());
        let covered = until_within(patience, "everything accepted is committed", async || {
            instance.alive()?;
            behind = self.behind(&heads).await?;
            Ok(behind.is_empty().then_some(()))
        });
        let covered = covered.await;
        covered.with_context(|| format!("not committed: {behind:#?}; {}", instance.story()))
    }

    /// The shards whose book goes further than the ledger: the head of the book, and what the ledger says.
    async fn behind(&self, heads: &BTreeMap<(String, ShardId), SequenceNumber>) -> anyhow::Result<Vec<String>> {
        let mut behind = Vec::new();
        for kind in &self.settings.streams {
            let ledger = self.ledger(*kind).await?;
            for ((stream, shard), head) in heads.iter().filter(|((stream, _), _)| stream == kind.name()) {
                let entry = ledger.shards.get(shard);
                if !entry.is_some_and(|entry| entry.ended || entry.position >= Some(*head)) {
                    behind.push(format!("{stream} {shard}: accepted up to {head}, ledger {entry:?}"));
                }
            }
        }
        Ok(behind)
    }

    /// As [`verify`](Self::verify), but says what was found instead of failing.
    pub async fn look(&self, log: &AcceptedLog) -> anyhow::Result<Verdict> {
        look(&self.lake_url()?, log, &self.settings.streams, &self.windows()).await
    }

    /// The folder of contracts, configuration and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A table as deltalake reads it.
    pub async fn table(&self, name: &str) -> anyhow::Result<Snapshot> {
        Snapshot::read(&self.lake_url()?, name).await
    }

    /// Reads everything back: nothing lost, nothing twice, nothing that nobody posted, partials equal to rows.
    pub async fn verify(&self, log: &AcceptedLog) -> anyhow::Result<Verdict> {
        verify(&self.lake_url()?, log, &self.settings.streams, &self.windows()).await
    }
}
