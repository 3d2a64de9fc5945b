//! Late records that a sealer did not see come are in the corrected rows all the same.

use object_store::ObjectStoreExt;

use super::seal::{
    House, REVISED, SEALED_PARTIALS, contract_with, corrections, late, order, rewrite, with_sealed_orders,
};
use super::*;
use crate::lake::seal::SealEvent;

#[tokio::test]
async fn a_late_record_that_was_read_before_something_went_wrong_is_corrected_afterwards() {
    let lake = Lake::in_memory();
    let mut house = with_sealed_orders(&lake).await;
    let batch = house.batch("a", after(5), &[late(6, 5_000)], None);
    house.commit([batch]).await;
    let version = lake.foreign(SEALED_PARTIALS, &[serde_json::json!({ "add": { "path": "without a size" } })]).await;
    let events = house.seal().await;
    assert!(matches!(events[..], [SealEvent::Failed { .. }]), "{events:?}");

    let entry = super::super::log::entry_path(&lake.store, SEALED_PARTIALS, version);
    lake.faults.inner().put(&entry, "{\"commitInfo\":{}}".into()).await.unwrap();
    assert_eq!(corrections(&house.seal().await), [(1, 1)]);
    assert_eq!(house.seal().await, []);
}

#[tokio::test]
async fn a_late_record_whose_file_was_replaced_before_the_look_is_corrected() {
    let lake = Lake::in_memory();
    let mut house = with_sealed_orders(&lake).await;
    let batch = house.batch("a", after(5), &[late(6, 5_000)], None);
    house.commit([batch]).await;
    let replaced = rewrite(&lake, lake.version(SEALED_PARTIALS).await, |rows| (0..rows).collect()).await;
    lake.faults.inner().delete(&replaced).await.unwrap();
    assert_eq!(corrections(&house.seal().await), [(1, 1)]);
    assert_eq!(house.seal().await, []);
}

#[tokio::test]
async fn what_came_late_to_a_stream_that_was_made_again_is_corrected_once_it_has_a_watermark() {
    let lake = Lake::in_memory();
    let mut former = with_sealed_orders(&lake).await;
    let batch = former.batch("a", after(5), &[late(6, 5_000)], None);
    former.commit([batch]).await;
    let again = StreamIdentity { created_at_s: identity().created_at_s + 1, ..identity() };
    let mut house = House::open_as(again, &lake.store, lake.clock.moments(), &contract_with(REVISED)).await;
    assert_eq!(house.seal().await, [], "nobody knows how far event time has come");
    house.committer.register(&[register("a")]).await.unwrap();
    let batch = house.batch("a", after(0), &[order(7, 14_000)], None);
    house.commit([batch]).await;
    assert_eq!(corrections(&house.seal().await), [(1, 1)]);
}
