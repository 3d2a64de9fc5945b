//! The thread beside the streams.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::contract;
use crate::demo::Kind;
use crate::demo::contracts::shipped;
use crate::lake::{LakeConfig, MaintenancePlan, MaintenanceService, StreamIdentity, StreamLake};
use crate::toml_doc::Problems;

#[tokio::test]
async fn the_service_looks_again_and_again_and_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let location = LakeConfig { uri: folder.path().display().to_string(), ..LakeConfig::default() };
    let (file, text) = shipped(Kind::Pin);
    let contract = Arc::new(contract::parse(file, text.to_owned(), &Problems::default()).unwrap());
    let plan = MaintenancePlan {
        location: location.clone(),
        pipeline: "p".to_owned(),
        streams: vec![("pin".to_owned(), Arc::clone(&contract))],
        interval: Duration::from_millis(1),
        options: MaintenanceOptions { checkpoint_commits: 1, ..OPTIONS },
        bell: crate::lake::SealBell::default(),
        turn: crate::lake::Turn::default(),
    };
    let (told, mut events) = mpsc::channel(64);
    let stop = CancellationToken::new();
    let observe = move |name: crate::lake::TableName<'_>, event| {
        // Full or closed: the test has seen enough.
        told.try_send((name.table.to_owned(), event)).ok();
    };
    let service = MaintenanceService::start(plan, stop.clone(), observe, |_, _| {}).unwrap();
    let mut seen = async |wanted: Event| {
        let found = async {
            while let Some((table, event)) = events.recv().await {
                if table == "pin" && event == wanted {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.unwrap()
    };
    assert!(seen(Event::Ended(Ended::Absent)).await, "a lake in which there is nothing yet");
    let identity = StreamIdentity { pipeline: "p".to_owned(), stream: "pin".to_owned(), created_at_s: 1 };
    let store = crate::lake::LakeStore::open(&location).await.unwrap();
    StreamLake::open(store, identity, &contract).await.unwrap();
    assert!(seen(Event::Checkpointed { version: 0 }).await);
    stop.cancel();
    assert!(service.ended(Duration::from_secs(20)).await);
}
