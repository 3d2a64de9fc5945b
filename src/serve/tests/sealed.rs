//! `/api/sealed`.

use super::*;

#[tokio::test]
async fn sealed_windows_are_told_by_window_key_and_time_as_json_or_csv() {
    let (house, windows) = house_with_words().await;
    let (_, none) = house.json("/api/sealed?window=words_by_kind").await;
    assert_eq!((&none[0]["through_ms"], &none[0]["starts"]), (&json!(null), &json!([])));
    windows.committed(&[batch(2, &[]).range], 8);
    windows.seal_committed(0, 120_000, 0);
    windows.observe(&batch(3, &[("noun", 60_005)])).unwrap();
    windows.committed(&[batch(3, &[]).range], 9);

    let (_, all) = house.json("/api/sealed").await;
    assert_eq!(all, serde_json::to_value(windows.sealed(&LiveFilter::default())).unwrap());
    let window = &all[0];
    assert_eq!((&window["window"], &window["through_ms"]), (&json!("words_by_kind"), &json!(120_000)));
    let told =
        |start: &Value| json!([start["start_ms"], start["records"], start["keys"], start["late"], start["revision"]]);
    let starts: Vec<Value> = window["starts"].as_array().unwrap().iter().map(told).collect();
    assert_eq!(starts, [json!([60_000, 2, 1, 1, 0]), json!([0, 2, 2, 0, 0])]);

    let (_, verbs) = house.json("/api/sealed?key.kind=verb&until=60000").await;
    assert_eq!(verbs.as_array().unwrap().len(), 1, "the other window has no such key");
    let rows = &verbs[0]["starts"][0]["rows"];
    assert_eq!(rows, &json!([{ "key": ["verb"], "measures": [1, 4], "records": 1, "revision": 0 }]));
    let csv = house.get("/api/sealed?window=words_by_kind&starts=1&format=csv").await;
    assert_eq!(header(&csv, "content-type"), "text/csv; charset=utf-8");
    let expected = "window_start,window_end,kind,words,letters,records,revision,complete,late\r\n\
                    1970-01-01T00:01:00.000Z,1970-01-01T00:02:00.000Z,noun,2,8,2,0,true,1\r\n";
    assert_eq!(csv.text().await.unwrap(), expected);
    assert_eq!(house.json("/api/sealed?window=nonsense").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_page_is_told_what_was_sealed_since() {
    let (house, windows) = house_with_words().await;
    windows.seal_committed(0, 60_000, 0);
    let mut page = feed::fed(&house).await;
    let (_, hello) = page.next().await;
    assert_eq!(hello["sealed"][0]["through_ms"], json!(60_000));
    windows.seal_committed(0, 120_000, 0);
    let changed = page.next_of("sealed").await;
    assert_eq!(changed.as_array().unwrap().len(), 1, "the other window is as it was");
    assert_eq!((&changed[0]["window"], &changed[0]["through_ms"]), (&json!("words_by_kind"), &json!(120_000)));
}
