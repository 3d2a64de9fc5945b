//! Tables made, adopted and refused.

use deltalake::arrow::datatypes::Schema;
use object_store::path::Path;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::faults::Fault;
use super::*;
use crate::lake::error::LakeError;
use crate::lake::schema::schema_string;

async fn open(lake: &Lake) -> Result<StreamLake, LakeError> {
    StreamLake::open_tables(lake.store.clone(), identity(), tables(), lake.clock.moments()).await
}

#[tokio::test]
async fn of_two_processes_that_make_the_tables_at_once_one_makes_them_and_both_have_them() {
    let lake = Lake::in_memory();
    let ((arrived, at_put), (go, go_on)) = (oneshot::channel(), oneshot::channel());
    lake.faults.next_put("orders/_delta_log", Fault::Hold(arrived, go_on));
    let second = async {
        at_put.await.unwrap();
        let second = open(&lake).await.unwrap();
        go.send(()).unwrap();
        second
    };
    let (first, second) = both(open(&lake), second).await;
    let first = first.unwrap();
    assert_eq!(first.rows.state(), second.rows.state());
    for table in [ROWS, REJECTS, PARTIALS] {
        assert_eq!(lake.version(table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn tables_are_made_once_though_every_answer_is_lost() {
    let lake = Lake::in_memory();
    for _ in 0..3 {
        lake.faults.next_put("00000000000000000000.json", Fault::LoseAnswer);
    }
    open(&lake).await.unwrap();
    open(&lake).await.unwrap();
    assert_eq!((lake.faults.waiting(), lake.version(ROWS).await), (0, 0));
    let actions = lake.entry(ROWS, 0).await;
    assert_eq!(actions[1]["protocol"], json!({ "minReaderVersion": 1, "minWriterVersion": 2 }));
    let configuration = &actions[2]["metaData"]["configuration"];
    assert_eq!(configuration["delta.logRetentionDuration"], "interval 7 days");
    assert_eq!(actions[2]["metaData"]["partitionColumns"], json!(["_date"]));
    assert_eq!(lake.entry(PARTIALS, 0).await[3]["metaData"]["configuration"]["pintail.definition"], "d1");
}

/// Writes version 0 of the rows table as somebody else would.
async fn made_by_others(lake: &Lake, change: impl Fn(&mut Vec<Value>, &mut Value, &mut Value)) {
    let mut schema: Value = serde_json::from_str(&schema_string(&rows_schema()).unwrap()).unwrap();
    let mut metadata = json!({ "id": "theirs", "format": { "provider": "parquet", "options": {} },
        "partitionColumns": ["_date"], "configuration": {}, "createdTime": 1 });
    let mut protocol = json!({ "minReaderVersion": 1, "minWriterVersion": 2 });
    change(schema["fields"].as_array_mut().unwrap(), &mut metadata, &mut protocol);
    metadata["schemaString"] = json!(schema.to_string());
    let lines = format!("{}\n{}", json!({ "protocol": protocol }), json!({ "metaData": metadata }));
    let path = Path::from("lake/orders/_delta_log/00000000000000000000.json");
    lake.faults.inner().put(&path, lines.into()).await.unwrap();
}

#[tokio::test]
async fn a_table_of_others_is_adopted_by_name_and_gets_the_columns_that_it_lacks() {
    let lake = Lake::in_memory();
    made_by_others(&lake, |fields, _, _| {
        fields.reverse();
        fields.retain(|field| field["name"] != "tags");
        fields.push(json!({ "name": "theirs", "type": "double", "nullable": true, "metadata": { "comment": "x" } }));
    })
    .await;
    let opened = open(&lake).await.unwrap();
    let metadata = &opened.rows.state().metadata;
    assert_eq!((metadata.id.as_str(), lake.version(ROWS).await), ("theirs", 1));
    let schema: Value = serde_json::from_str(&metadata.schema_string).unwrap();
    let names: Vec<&str> = schema["fields"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert_eq!(names[7..], ["theirs", "tags"]);
    assert_eq!(schema["fields"][8]["type"], json!({ "type": "array", "elementType": "string", "containsNull": true }));
    assert_eq!(open(&lake).await.unwrap().rows.state().version, 1, "nothing to add any more");
}

#[tokio::test]
async fn what_pintail_cannot_honour_is_refused_with_what_was_found() {
    type Change = fn(&mut Vec<Value>, &mut Value, &mut Value);
    let cases: [(Change, &str); 11] = [
        (|f, _, _| f[0]["type"] = json!("integer"), "\"id\" is \"integer\" in the table and \"long\" in the contract"),
        (|f, _, _| f[1]["nullable"] = json!(false), "\"name\" is NOT NULL in the table and optional"),
        (|f, _, _| f[2]["type"]["containsNull"] = json!(false), "\"tags\" is {"),
        (|f, _, _| f[1]["name"] = json!("Name"), "differs from the contract's \"name\" only by case"),
        (
            |f, _, _| f.push(json!({ "name": "x", "type": "long", "nullable": false, "metadata": {} })),
            "\"x\" is NOT NULL and the contract does not have it",
        ),
        (
            |f, _, _| f[0]["metadata"] = json!({ "delta.generationExpression": "1" }),
            "delta.generationExpression = \"1\", which Pintail does not honour",
        ),
        (|_, m, _| m["partitionColumns"] = json!([]), "partitioned by [], the contract partitions by [\"_date\"]"),
        (
            |_, m, _| m["configuration"] = json!({ "delta.setTransactionRetentionDuration": "interval 30 days" }),
            "delta.setTransactionRetentionDuration = \"interval 30 days\": it lets positions expire",
        ),
        (
            |_, m, _| m["configuration"] = json!({ "delta.constraints.positive": "id > 0" }),
            "delta.constraints.positive",
        ),
        (|_, m, _| m["configuration"] = json!({ "delta.columnMapping.mode": "name" }), "column mapping"),
        (
            |_, _, p| *p = json!({ "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"] }),
            "reader 1, writer 7 with features [\"rowTracking\"]",
        ),
    ];
    for (change, expected) in cases {
        let lake = Lake::in_memory();
        made_by_others(&lake, change).await;
        let Err(LakeError::Drift { problems }) = open(&lake).await else { panic!("{expected}: was not refused") };
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("table orders: ") && problems[0].contains(expected), "{}", problems[0]);
        assert_eq!(lake.faults.puts(""), 0, "nothing was written");
    }
}

#[tokio::test]
async fn every_table_s_problems_are_told_at_once_and_a_changed_window_needs_a_new_name() {
    let lake = Lake::in_memory();
    open(&lake).await.unwrap();
    let written = lake.faults.puts("");
    let mut changed = tables();
    changed.partials[0].definition = Some("d2".to_owned());
    let id = Field::new("id", DataType::Utf8, true);
    changed.rows.schema = Arc::new(Schema::new([vec![Arc::new(id)], rows_schema().fields()[1..].to_vec()].concat()));
    let opened = StreamLake::open_tables(lake.store.clone(), identity(), changed, lake.clock.moments()).await;
    let Err(LakeError::Drift { problems }) = opened else { panic!("was not refused") };
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[1].contains("give the changed window a new name"), "{}", problems[1]);
    assert!(problems[1].contains("(definition d1, now d2)"), "{}", problems[1]);
    assert_eq!(lake.faults.puts(""), written);
}

#[tokio::test]
async fn a_log_that_is_kept_for_less_than_an_hour_is_refused() {
    let lake = Lake::in_memory();
    made_by_others(&lake, |_, metadata, _| {
        metadata["configuration"] = json!({ "delta.logRetentionDuration": "interval 5 minutes" });
    })
    .await;
    let refused = open(&lake).await.unwrap_err();
    assert!(refused.to_string().contains("shorter than one hour"), "{refused}");
}

#[tokio::test]
async fn a_log_with_a_hole_or_a_checkpoint_of_the_newer_kind_is_an_error_with_its_version() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await.committer.register(&[register("b")]).await.unwrap();
    let path = |name: &str| Path::from(format!("lake/orders/_delta_log/{name}"));
    let inner = lake.faults.inner();
    inner.delete(&path("00000000000000000001.json")).await.unwrap();
    let hole = open(&lake).await.unwrap_err().to_string();
    assert!(hole.contains("version 1: the log has a hole here"), "{hole}");
    inner.put(&path("00000000000000000001.checkpoint.0ab1.parquet"), "x".into()).await.unwrap();
    let newer = open(&lake).await.unwrap_err().to_string();
    assert!(newer.contains("V2 checkpoint 1 is not read by Pintail"), "{newer}");
}

#[tokio::test]
async fn an_entry_without_a_byte_is_an_error_and_no_version() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await.committer.register(&[register("b")]).await.unwrap();
    let newest = Path::from("lake/orders/_delta_log/00000000000000000001.json");
    lake.faults.inner().put(&newest, "".into()).await.unwrap();
    let empty = open(&lake).await.unwrap_err().to_string();
    assert!(empty.contains("version 1: the entry is empty"), "{empty}");
}

#[tokio::test]
async fn a_follower_that_is_ahead_of_its_rows_table_is_refused() {
    let lake = Lake::in_memory();
    open(&lake).await.unwrap();
    let applied = json!({ "txn": { "appId": identity().applied_id(), "version": 500 } });
    lake.foreign(REJECTS, &[applied]).await;
    let refused = open(&lake).await.unwrap_err().to_string();
    assert!(refused.contains("followed orders up to version 500, whose head is version 0"), "{refused}");
}

#[tokio::test]
async fn a_store_that_denies_writes_is_found_out_by_a_probe_that_nothing_is_left_of_where_it_permits_them() {
    let lake = Lake::in_memory();
    lake.faults.deny(Some("lake/"));
    let told = crate::error_chain::chain(&lake.store.check_writable().await.unwrap_err());
    assert!(told.contains("write lake/_pintail-probe-") && told.contains("403"), "{told}");
    lake.faults.deny(None);
    lake.store.check_writable().await.unwrap();
    let left: Vec<_> = futures::TryStreamExt::try_collect(lake.faults.inner().list(None)).await.unwrap();
    assert_eq!((lake.faults.puts("_pintail-probe"), left), (1, Vec::<object_store::ObjectMeta>::new()));
}
