//! One piece of work in a process of its own.

use std::ffi::OsStr;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::ours::Work;

/// Beyond it a process is given up.
const PATIENCE: Duration = Duration::from_secs(900);

/// The highest core that this process may use: interrupts are mostly the first one's.
pub fn last_core() -> anyhow::Result<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("the cores of this process are not known")?;
    let cores = (0..CpuSet::count()).rev();
    let mut free = cores.filter(|core| allowed.is_set(*core).unwrap_or(false));
    free.next().context("this process may use no core")
}

/// A program with these arguments, and nothing of the environment but what finds programs and caches.
pub fn command<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(program);
    let kept =
        ["PATH", "HOME", "TMPDIR", "JAVA_HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.args(arguments).env_clear().envs(kept).env("PYTHONDONTWRITEBYTECODE", "1").env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts it where it may use this core and no other.
pub fn pinned(mut command: Command, core: usize) -> anyhow::Result<Child> {
    let this_thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(this_thread).context("the cores of this thread are not known")?;
    let mut only = CpuSet::new();
    only.set(core).with_context(|| format!("core {core}"))?;
    // A child has the cores of the thread that starts it.
    sched_setaffinity(this_thread, &only).with_context(|| format!("core {core} is not ours to use"))?;
    let child = command.spawn().with_context(|| format!("{command:?} does not start"));
    sched_setaffinity(this_thread, &allowed).context("the cores of this thread cannot be given back")?;
    child
}

/// Runs it to its end, and reads what it says of its work.
pub async fn work(command: Command, core: Option<usize>) -> anyhow::Result<Work> {
    let said = said(command, core).await?;
    serde_json::from_str(&said).with_context(|| format!("it says {said:?} of its work"))
}

/// Runs it to its end, on one core if one is named: the last line of its standard output.
pub async fn said(mut command: Command, core: Option<usize>) -> anyhow::Result<String> {
    let child = match core {
        Some(core) => pinned(command, core)?,
        None => command.spawn().with_context(|| format!("{command:?} does not start"))?,
    };
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    let Output { status, stdout, stderr } = ended.with_context(|| format!("not done after {PATIENCE:?}"))??;
    if !status.success() {
        bail!("{status}: {}", story(&stderr));
    }
    Ok(String::from_utf8_lossy(&stdout).lines().last().unwrap_or_default().to_owned())
}

/// The last thing that was said.
fn story(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("without a word").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_has_one_core_and_this_one_has_its_own_afterwards() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let core = last_core().unwrap();
        let said = said(command("grep", ["Cpus_allowed_list", "/proc/self/status"]), Some(core)).await.unwrap();
        assert_eq!(said, format!("Cpus_allowed_list:\t{core}"));
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
    }

    #[tokio::test]
    async fn a_process_that_fails_says_why_and_one_that_says_nothing_is_no_answer() {
        let core = last_core().unwrap();
        let failed = work(command("sh", ["-c", "echo 'no such column' >&2; exit 3"]), Some(core)).await.unwrap_err();
        assert!(format!("{failed:#}").contains("exit status: 3: no such column"), "{failed:#}");
        let silent = work(command("sh", ["-c", "echo hello"]), None).await.unwrap_err();
        assert!(format!("{silent:#}").contains("\"hello\""), "{silent:#}");
        let line = r#"{"rows":null,"cpu_s":0.5,"wall_s":1.0,"rss_peak_bytes":7,"version":"1"}"#;
        let told = work(command("sh", ["-c", &format!("echo warming up; echo '{line}'")]), None).await.unwrap();
        assert_eq!((told.rows, told.cpu_s, told.reading_s), (None, 0.5, None));
    }
}
