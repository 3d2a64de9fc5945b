//! The numbers of the pushes to Grafana Live. There are none unless they are configured.

use metrics::Counter;

use super::Registry;

/// How pushes ended.
#[derive(Clone)]
pub struct GrafanaLiveMetrics {
    ok: Counter,
    failed: Counter,
}

impl std::fmt::Debug for GrafanaLiveMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GrafanaLiveMetrics")
    }
}

impl GrafanaLiveMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let pushes = |result| registry.counter("pintail_grafana_live_pushes_total", &[("result", result)]);
        let metrics = Self { ok: pushes("ok"), failed: pushes("failed") };
        metrics.ok.increment(0);
        metrics.failed.increment(0);
        metrics
    }

    /// Grafana took one.
    pub fn pushed(&self) {
        self.ok.increment(1);
    }

    /// One did not arrive, or was refused.
    pub fn failed(&self) {
        self.failed.increment(1);
    }
}
