//! Pintail in a process of its own, which can be killed.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, bail, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use tokio::process::Command;

use crate::http::get;
use crate::scene::Instance;
use crate::wait::{PATIENCE, until};

const STORY_LINES: usize = 30;

/// Holds the process id of a parent that must not be outlived.
const PARENT: &str = "LOAD_TESTS_PARENT";

/// Called by a process that is about to be Pintail: if a [`Child`] started it, it is killed when its parent dies,
/// however that dies. Run by hand it has nobody to follow.
pub fn die_with_parent() -> anyhow::Result<()> {
    let Ok(parent) = std::env::var(PARENT) else { return Ok(()) };
    set_pdeathsig(Signal::SIGKILL).context("the death of the parent cannot be heard of")?;
    // It may have died before.
    ensure!(getppid().to_string() == parent, "the parent {parent} is gone");
    Ok(())
}

/// Makes what is started killed by our death, if it calls [`die_with_parent`] first, and by its handle's end.
pub(crate) fn die_with_us(command: &mut Command) -> &mut Command {
    command.env(PARENT, std::process::id().to_string()).kill_on_drop(true)
}

/// A running one. Dropping it kills it, and so does the death of this process.
pub struct Child {
    process: tokio::process::Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Child {
    /// Runs `program pintail run` with this configuration file, in an environment of credentials, `PINTAIL_LOG` and
    /// nothing else. Standard error goes to a file, which must not exist yet.
    pub fn run(program: Command, config: &Path, log: &str, stderr: PathBuf) -> anyhow::Result<Self> {
        Self::call(program, &["run"], config, log, stderr)
    }

    /// The same for any command of Pintail that takes a configuration file. Standard output goes to a file too.
    pub fn call(
        mut program: Command,
        command: &[&str],
        config: &Path,
        log: &str,
        stderr: PathBuf,
    ) -> anyhow::Result<Self> {
        program
            .env_clear()
            .envs([("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local"), ("AWS_REGION", "us-east-1")])
            .env("AWS_EC2_METADATA_DISABLED", "true");
        Self::call_as_we_are(program, command, config, log, stderr)
    }

    /// The same in our own environment, with our credentials.
    pub fn call_as_we_are(
        mut program: Command,
        command: &[&str],
        config: &Path,
        log: &str,
        stderr: PathBuf,
    ) -> anyhow::Result<Self> {
        let file = File::create_new(&stderr).with_context(|| stderr.display().to_string())?;
        let stdout = stderr.with_extension("out");
        program
            .arg("pintail")
            .args(command)
            .args(["--log-format", "json", "--config"])
            .arg(config)
            .env("PINTAIL_LOG", log)
            .stdin(Stdio::null())
            .stdout(File::create_new(&stdout).with_context(|| stdout.display().to_string())?)
            .stderr(file);
        let process = die_with_us(&mut program).spawn().with_context(|| format!("{program:?} does not start"))?;
        Ok(Self { process, stdout, stderr })
    }

    /// Where it serves HTTP, as soon as its log says so.
    pub async fn address(&mut self) -> anyhow::Result<SocketAddr> {
        until("a child says where it listens", async || {
            self.alive()?;
            let lines = self.stderr()?;
            let entries = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let mut addresses = entries.filter_map(|entry| entry.get("address")?.as_str()?.parse().ok());
            Ok(addresses.next())
        })
        .await
    }

    /// Waits until it reads and commits: from then on, told to end, it drains.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let address = self.address().await?;
        until("a child is ready", async || {
            self.alive()?;
            Ok((get(address, "/readyz").await?.status == 200).then_some(()))
        })
        .await
    }

    /// Everything that it wrote to standard error.
    pub fn stderr(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.stderr).with_context(|| self.stderr.display().to_string())
    }

    /// The lines of its log that hold all of these words.
    pub fn lines(&self, words: &[&str]) -> anyhow::Result<Vec<String>> {
        let log = self.stderr()?;
        let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        Ok(lines.map(str::to_owned).collect())
    }

    /// SIGSTOP: it keeps its connections and what it knows, and does nothing.
    pub fn freeze(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT
    pub fn thaw(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.alive()?;
        Ok(kill(self.pid()?, signal)?)
    }

    /// Its process id.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.process.id().context("the child is gone")?)?))
    }

    /// Everything that it wrote to standard output.
    pub fn stdout(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.stdout).with_context(|| self.stdout.display().to_string())
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill_9(mut self) -> anyhow::Result<()> {
        self.kill().await
    }

    /// The same, and what it wrote can still be read.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.alive()?;
        self.process.kill().await.context("a child cannot be killed")
    }

    /// SIGKILL, unless it has ended before; then with which code.
    pub async fn kill_or_ended(mut self) -> anyhow::Result<Option<i32>> {
        if let Some(status) = self.process.try_wait()? {
            return Ok(status.code());
        }
        self.process.kill().await.context("a child cannot be killed")?;
        Ok(None)
    }

    /// SIGTERM, as soon as it takes that for a request: before, it would die of it like anything that has hardly begun.
    pub async fn ask_to_end(&mut self) -> anyhow::Result<()> {
        until("a child takes SIGTERM for a request", async || {
            self.alive()?;
            Ok(self.catches(Signal::SIGTERM)?.then_some(()))
        })
        .await?;
        self.signal(Signal::SIGTERM)
    }

    fn catches(&self, signal: Signal) -> anyhow::Result<bool> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).context("no SigCgt in its status")?;
        Ok(u64::from_str_radix(caught.trim(), 16)? >> (signal as i32 - 1) & 1 == 1)
    }

    /// SIGTERM, and waits for its end. What it logged of a stream's things must have named the stream.
    pub async fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        self.ask_to_end().await?;
        let status = self.ended().await?;
        let unnamed = self.lines_of_no_stream()?;
        ensure!(unnamed.is_empty(), "of which stream? {unnamed:#?}");
        Ok(status)
    }

    /// Lines of its log about a shard, or about attempts at something, without a stream.
    fn lines_of_no_stream(&self) -> anyhow::Result<Vec<String>> {
        let is_unnamed = |line: &&str| {
            let entry: Option<serde_json::Value> = serde_json::from_str(line).ok();
            let has = |key| entry.as_ref().is_some_and(|entry| entry.get(key).is_some());
            (has("shard") || has("who") || has("attempts")) && !has("stream")
        };
        Ok(self.stderr()?.lines().filter(is_unnamed).map(str::to_owned).collect())
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        Ok(ended.with_context(|| format!("the child does not end; {}", self.story()))??)
    }
}

impl Instance for Child {
    fn alive(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the child has ended with {status}"),
        }
    }

    fn story(&self) -> String {
        let text = self.stderr().unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(STORY_LINES)..].join("\n");
        format!("the end of the child's log:\n{last}")
    }
}
