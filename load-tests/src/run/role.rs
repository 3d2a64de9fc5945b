//! The processes beside Pintail: this binary again, as a Kinesis, an S3 or a producer, so that what each of them costs
//! is counted apart. They die with the harness, however that dies.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use nix::unistd::Pid;
use pintail::demo::kinesis::EmbeddedKinesis;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::produce;
use crate::child::die_with_us;
use crate::kinesis_proxy::{KinesisProxy, Quota};
use crate::s3::S3Server;

/// What this binary is asked to be.
#[derive(Debug, Clone, Subcommand)]
pub enum Role {
    /// A Kinesis without streams; says its address
    Kinesis {
        /// Says a second address, where every shard gives its readers what Kinesis's shards give
        #[arg(long)]
        quotas: bool,
    },
    /// An S3 with one bucket; says its address
    S3,
    /// Posts what the order on standard input says, and says how it goes
    Producer,
}

impl Role {
    fn name(&self) -> &'static str {
        match self {
            Self::Kinesis { .. } => "kinesis",
            Self::S3 => "s3",
            Self::Producer => "producer",
        }
    }

    fn flags(&self) -> &'static [&'static str] {
        match self {
            Self::Kinesis { quotas: true } => &["--quotas"],
            Self::Kinesis { quotas: false } | Self::S3 | Self::Producer => &[],
        }
    }

    /// Plays it, to its end or until SIGTERM. Ctrl-C is the harness's business: on a terminal it reaches everybody, and
    /// the harness still needs its servers for a while.
    pub async fn play(self) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let ignoring = async { while interrupt.recv().await.is_some() {} };
        tokio::select! {
            done = self.work() => done,
            () = ignoring => bail!("signals cannot be heard any more"),
        }
    }

    async fn work(self) -> anyhow::Result<()> {
        match self {
            Self::Kinesis { quotas } => {
                let kinesis = EmbeddedKinesis::start(&[], 1).await?;
                say_address(&kinesis.endpoint())?;
                let proxy = if quotas { Some(KinesisProxy::start(&kinesis.endpoint()).await?) } else { None };
                if let Some(proxy) = &proxy {
                    proxy.limit(Quota::KINESIS);
                    say_address(&proxy.endpoint())?;
                }
                until_terminated().await
            }
            Self::S3 => {
                let s3 = S3Server::start().await?;
                say_address(&s3.endpoint())?;
                until_terminated().await
            }
            Self::Producer => produce::produce().await,
        }
    }
}

fn say_address(endpoint: &str) -> anyhow::Result<()> {
    say(&endpoint.trim_start_matches("http://").parse::<SocketAddr>()?)
}

async fn until_terminated() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    terminate.recv().await;
    Ok(())
}

/// One line of JSON to the harness.
pub(super) fn say(what: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}

/// A process with a role.
pub struct Player {
    name: &'static str,
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Player {
    /// Starts one; `order` goes to its standard input.
    pub async fn start(program: &str, role: Role, order: &[u8]) -> anyhow::Result<Self> {
        let name = role.name();
        let mut command = Command::new(program);
        command.args(["role", name]).args(role.flags()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = die_with_us(&mut command).spawn().with_context(|| format!("the {name} does not start"))?;
        let mut stdin = process.stdin.take().context("its standard input is ours")?;
        stdin.write_all(order).await.with_context(|| format!("the {name} does not listen"))?;
        drop(stdin);
        let stdout = process.stdout.take().context("its standard output is ours")?;
        Ok(Self { name, process, said: BufReader::new(stdout).lines() })
    }

    /// What it says next; `None` if it has ended, and well.
    pub async fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        if let Some(line) = self.said.next_line().await? {
            return Ok(Some(serde_json::from_str(&line).with_context(|| format!("the {} says {line:?}", self.name))?));
        }
        let status = self.process.wait().await?;
        ensure!(status.success(), "the {} has ended with {status}; why is above", self.name);
        Ok(None)
    }

    /// What a server says first, and again for each further address that it serves.
    pub async fn address(&mut self) -> anyhow::Result<SocketAddr> {
        self.next().await?.with_context(|| format!("the {} has ended before it served", self.name))
    }

    /// Its process id.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        let id = self.process.id().with_context(|| format!("the {} is gone", self.name))?;
        Ok(Pid::from_raw(i32::try_from(id)?))
    }
}

/// The file that a producer writes its book to, below this folder.
pub(super) fn book_file(folder: &std::path::Path, phase: &str) -> PathBuf {
    folder.join(format!("book-{phase}.txt"))
}
