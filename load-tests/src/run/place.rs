//! Where a run takes place: a Kinesis, an S3, the streams and the contracts. What was created at somebody else's is
//! deleted again, whatever happened.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, ensure};
use nix::unistd::Pid;
use pintail::demo::Kind;
use pintail::demo::kinesis::Streams;
use pintail::demo::producer::client;
use tempfile::TempDir;
use tokio::process::Command;

use super::contracts::{contract, windows_of};
use super::profile::Profile;
use super::role::{Player, Role};
use super::target::Target;
use crate::child::Child;
use crate::http::get;
use crate::kinesis_proxy::{USAGE, Usage};
use crate::s3::S3Place;
use crate::scene::Settings;
use crate::windows::Window;

/// The servers of a run.
pub struct Place {
    /// Where records go.
    pub target: Target,
    /// Where Pintail reads them, if that is somewhere else: there shards have quotas.
    metered: Option<SocketAddr>,
    /// The streams of pin, geo and user, whether they are there or not.
    pub names: [String; 3],
    /// The lake's server.
    pub s3: S3Place,
    streams: Streams,
    kinesis: Option<Player>,
    s3_player: Player,
    folder: TempDir,
    /// At somebody else's, to be deleted.
    created: Mutex<Vec<String>>,
}

impl Place {
    /// Starts the servers; without a target a Kinesis too, if need be with quotas. There are no streams yet.
    pub async fn open(program: &str, target: Option<Target>, prefix: &str, quotas: bool) -> anyhow::Result<Self> {
        ensure!(
            target.is_none() || !quotas,
            "a profile with `quotas` needs the harness's own Kinesis; another one has its own quotas, or none"
        );
        let mut metered = None;
        let (kinesis, target) = match target {
            Some(target) => (None, target),
            None => {
                let mut player = Player::start(program, Role::Kinesis { quotas }, &[]).await?;
                let endpoint = format!("http://{}", player.address().await?);
                if quotas {
                    metered = Some(player.address().await?);
                }
                (Some(player), Target::Own { endpoint })
            }
        };
        let mut s3_player = Player::start(program, Role::S3, &[]).await?;
        let s3 = S3Place(s3_player.address().await?);
        let streams = Streams::of(client(&target.sdk_config().await));
        let names = Kind::ALL.map(|kind| format!("{prefix}{}", kind.name()));
        let (folder, created) = (tempfile::tempdir()?, Mutex::default());
        Ok(Self { target, metered, names, s3, streams, kinesis, s3_player, folder, created })
    }

    /// Creates the profile's streams, and writes its contracts.
    pub async fn furnish(&self, profile: &Profile) -> anyhow::Result<()> {
        for kind in profile.kinds() {
            let name = &self.names[kind as usize];
            if self.target.is_foreign() {
                let is_there = self.streams.exists(name).await?;
                ensure!(!is_there, "stream {name:?} is there already and somebody's; choose another `--prefix`");
                self.created.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(name.clone());
            }
            self.streams.create_stream(name, profile.shards).await?;
            std::fs::write(self.folder().join(format!("{}.toml", kind.name())), contract(profile, kind)?)?;
        }
        Ok(())
    }

    /// Starts Pintail in a process of its own.
    pub fn start_pintail(&self, program: &str, profile: &Profile) -> anyhow::Result<Child> {
        let lake = format!("uri = {:?}\nendpoint = {:?}", self.s3.lake_uri(), self.s3.endpoint());
        let settings = Settings {
            flush_interval_ms: profile.flush_interval_ms,
            flush_bytes: Some(format!("{}B", profile.flush_bytes)),
            start: "trim_horizon",
            on_data_loss: "fail",
            reads_per_second: profile.reads_per_second,
            region: self.region()?,
            endpoint: self.metered.map(|address| format!("http://{address}")).or_else(|| self.target.endpoint()),
            streams: profile.kinds(),
            sections: format!("[budget]\nbytes = \"{}B\"\n", profile.budget_bytes),
            window_s: 60,
        };
        let config = self.folder().join("pintail.toml");
        std::fs::write(&config, settings.to_toml("load-test", &lake, |kind| &self.names[kind as usize]))?;
        let (program, stderr) = (Command::new(program), self.folder().join("pintail.log"));
        match self.target.is_foreign() {
            true => Child::call_as_we_are(program, &["run"], &config, "info", stderr),
            false => Child::run(program, &config, "info", stderr),
        }
    }

    fn region(&self) -> anyhow::Result<String> {
        let region = self.streams.client().config().region().context("no region is known; give `--region`")?;
        Ok(region.to_string())
    }

    /// The shipped windows that the contracts have.
    pub fn windows(&self, profile: &Profile) -> Vec<Window> {
        windows_of(profile)
    }

    /// What creates and reshards.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Contracts, configuration, logs and books.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the shards have given Pintail, if they have quotas.
    pub async fn usage(&self) -> anyhow::Result<Option<Vec<Usage>>> {
        let Some(address) = self.metered else { return Ok(None) };
        let answer = get(address, USAGE).await?;
        Ok(Some(serde_json::from_str(&answer.body).context("what the shards have given")?))
    }

    /// The Kinesis, if it is ours.
    pub fn kinesis_pid(&self) -> Option<Pid> {
        self.kinesis.as_ref().and_then(|player| player.pid().ok())
    }

    /// The S3.
    pub fn s3_pid(&self) -> anyhow::Result<Pid> {
        self.s3_player.pid()
    }

    /// Deletes what was created at somebody else's; says what could not be.
    pub async fn clean_up(&self) -> anyhow::Result<()> {
        let created = std::mem::take(&mut *self.created.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let mut left = Vec::new();
        for stream in created {
            match self.streams.delete_stream(&stream).await {
                Ok(()) => eprintln!("deleted stream {stream}"),
                Err(error) => left.push(format!("{:#}", anyhow::Error::new(error))),
            }
        }
        ensure!(left.is_empty(), "these streams are still there, and cost: {}", left.join("; "));
        Ok(())
    }
}
