//! One clock for several processes: the kernel's, which counts from the boot. A moment crosses over as a number.

use std::time::Duration;

use anyhow::Context;
use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// A moment, as this process and as every other one calls it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    here: Instant,
    since_boot: Duration,
}

impl Clock {
    /// Reads both clocks.
    pub fn read() -> anyhow::Result<Self> {
        let since_boot = clock_gettime(ClockId::CLOCK_MONOTONIC).context("the kernel's clock")?;
        Ok(Self { here: Instant::now(), since_boot: Duration::from(since_boot) })
    }

    /// Microseconds since the boot.
    pub fn us(&self, at: Instant) -> u64 {
        let later = at.saturating_duration_since(self.here);
        let earlier = self.here.saturating_duration_since(at);
        u64::try_from((self.since_boot + later).saturating_sub(earlier).as_micros()).unwrap_or(u64::MAX)
    }

    /// The moment so many microseconds after the boot.
    pub fn instant(&self, us: u64) -> Instant {
        let since_boot = Duration::from_micros(us);
        let earlier = self.since_boot.saturating_sub(since_boot);
        let before = self.here.checked_sub(earlier).unwrap_or(self.here);
        before + since_boot.saturating_sub(self.since_boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_comes_back_from_another_process() {
        let (here, there) = (Clock::read().unwrap(), Clock::read().unwrap());
        for moment in [Instant::now(), Instant::now() + Duration::from_secs(3), here.here] {
            let back = there.instant(here.us(moment));
            let error = back.saturating_duration_since(moment).max(moment.saturating_duration_since(back));
            assert!(error < Duration::from_millis(200), "{error:?}");
        }
    }
}
