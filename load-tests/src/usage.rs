//! What a process uses, as the kernel counts it.
//!
//! Of a debug build the pages of the program's own file are left out: they are several times a release build's, and say
//! nothing of what it holds. Of a release build everything counts.

use anyhow::Context;
use nix::unistd::{Pid, SysconfVar, sysconf};

/// One process's memory and time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Resident now.
    pub rss_bytes: u64,
    /// The most that was resident at once.
    pub rss_peak_bytes: u64,
    /// User and system time.
    pub cpu_seconds: f64,
}

impl Usage {
    /// Of a process that runs, or is frozen.
    pub fn of(pid: Pid) -> anyhow::Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).context(path)
        };
        let status = read("status")?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            number.with_context(|| format!("process {pid} has no {key} (it has ended)"))
        };
        let stat = read("stat")?;
        // The name, in parentheses, may hold anything; after it come state and numbers, utime and stime the 12th and 13th.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).with_context(|| format!("/proc/{pid}/stat: {stat:?}"))?;
        let ticks_a_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel's clock has no tick")? as f64;
        let program_kib = if cfg!(debug_assertions) { kib("RssFile:")? } else { 0 };
        let held = |kib: u64| kib.saturating_sub(program_kib) * 1024;
        Ok(Self {
            rss_bytes: held(kib("VmRSS:")?),
            rss_peak_bytes: held(kib("VmHWM:")?),
            cpu_seconds: (user + system) / ticks_a_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let memory = vec![1u8; 32 << 20];
        let usage = Usage::of(Pid::this()).unwrap();
        assert!(usage.rss_bytes > memory.len() as u64 && usage.rss_peak_bytes >= usage.rss_bytes, "{usage:?}");
    }
}
