//! When something was known, by two clocks. The wall clock can be set and CLOCK_BOOTTIME counts a suspended
//! machine: a writer that slept must notice by either. Injectable, so that a test can let a week pass.

use std::sync::Arc;

use nix::time::{ClockId, clock_gettime};

/// One reading of both clocks, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub wall_ms: i64,
    pub boot_ms: i64,
}

impl Moment {
    /// The longer of the two times since `earlier`.
    pub fn ms_since(self, earlier: Self) -> i64 {
        (self.wall_ms - earlier.wall_ms).max(self.boot_ms - earlier.boot_ms)
    }
}

/// Where moments come from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MomentClock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl std::fmt::Debug for MomentClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MomentClock")
    }
}

impl MomentClock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self(Arc::new(|| {
            let wall_ms = crate::clock::now_ms();
            // Without the second clock the first has to do.
            let boot_ms = clock_gettime(ClockId::CLOCK_BOOTTIME)
                .map_or(wall_ms, |time| time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000);
            Moment { wall_ms, boot_ms }
        }))
    }

    /// A clock of the test's own.
    #[cfg(test)]
    pub fn of(read: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Both clocks, now.
    pub fn now(&self) -> Moment {
        (self.0)()
    }
}
