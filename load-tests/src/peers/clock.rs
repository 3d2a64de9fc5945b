//! What this process has used so far.

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;

use crate::usage::Usage;

/// User and system time of all threads, in seconds.
pub fn cpu_s() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("the kernel does not say what was used")?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// The most that was resident at once. Not `ru_maxrss`, which is no less than what the process that started this one held.
pub fn rss_peak_bytes() -> anyhow::Result<u64> {
    Ok(Usage::of(Pid::this())?.rss_peak_bytes)
}

/// CPU seconds of some work.
pub fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
    let before = cpu_s()?;
    let done = work()?;
    Ok((done, cpu_s()? - before))
}
