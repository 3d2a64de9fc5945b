//! What is there before anything has happened.

use super::*;

/// Their labels come from records.
const OPEN: [&str; 3] = ["pintail_nulls_total", "pintail_unknown_fields_total", "pintail_records_without_time_total"];

#[test]
fn every_counter_whose_labels_are_known_is_there_with_0_before_its_first_event() {
    let registry = Registry::new().unwrap();
    let tables = ["orders".to_owned()];
    let stream = registry.stream("orders");
    stream.tables(&tables);
    let (_shard, maintenance) = (stream.shard(&ShardId::new("shardId-0")), registry.maintenance("orders", &tables));
    maintenance.windows(["orders_by_minute"]);
    let _live = registry.grafana_live();
    let text = registry.render();
    for name in Registry::counters() {
        let zeros = text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.ends_with(" 0"));
        assert_eq!(zeros.count() > 0, !OPEN.contains(&name), "{name} in {text}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with("pintail_maintenance_failures_total{")).count(), 6);
    assert_eq!(text.lines().filter(|line| line.starts_with("pintail_reads_total{")).count(), 6);
}
