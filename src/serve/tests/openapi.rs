//! `openapi.json` against the server: every path, every parameter, every answer.

use std::collections::BTreeSet;

use super::feed::{Events, fed};
use super::*;
use crate::serve::error::ENDPOINTS;

struct File(Value);

impl File {
    fn read() -> Self {
        Self(serde_json::from_str(api::OPENAPI).unwrap())
    }

    fn operations(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0["paths"].as_object().unwrap().iter().map(|(path, item)| (path, &item["get"]))
    }

    /// Everything that is wrong with `value`, by a schema of the keywords that the file uses. Any other is a panic.
    fn problems(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        for (keyword, wanted) in schema.as_object().unwrap() {
            let ok = match keyword.as_str() {
                "description" | "x-events" | "properties" | "format" => true,
                "$ref" => {
                    let name = wanted.as_str().unwrap().strip_prefix("#/components/schemas/").unwrap();
                    let schema = &self.0["components"]["schemas"][name];
                    assert!(schema.is_object(), "no schema {name}");
                    self.problems(schema, value, at, found);
                    true
                }
                "type" => types(wanted).iter().any(|name| is_of_type(value, name)),
                "const" => value == wanted,
                "enum" => wanted.as_array().unwrap().contains(value),
                "minimum" => value.as_i64().is_none_or(|number| number >= wanted.as_i64().unwrap()),
                "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= wanted.as_u64().unwrap()),
                "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= wanted.as_u64().unwrap()),
                "required" => wanted.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.problems(wanted, item, &format!("{at}[{index}]"), found);
                    }
                    true
                }
                "additionalProperties" => {
                    for (name, item) in value.as_object().into_iter().flatten() {
                        let at = format!("{at}.{name}");
                        match schema.get("properties").and_then(|known| known.get(name)) {
                            Some(known) => self.problems(known, item, &at, found),
                            None if wanted.is_object() => self.problems(wanted, item, &at, found),
                            None => found.push(format!("{at} is not in the file")),
                        }
                    }
                    true
                }
                "oneOf" => {
                    let fits = |schema: &&Value| {
                        let mut found = Vec::new();
                        self.problems(schema, value, at, &mut found);
                        found.is_empty()
                    };
                    wanted.as_array().unwrap().iter().filter(fits).count() == 1
                }
                other => panic!("{at}: the test does not know {other:?}"),
            };
            if !ok {
                found.push(format!("{at} = {value}: not {keyword} {wanted}"));
            }
        }
    }

    fn check(&self, schema: &Value, value: &Value, what: &str) {
        let mut found = Vec::new();
        self.problems(schema, value, "", &mut found);
        assert!(found.is_empty(), "{what}: {found:#?}");
    }

    /// The answer is of a kind and a shape that the file has for its status.
    async fn check_answer(&self, operation: &Value, response: Response, what: &str) {
        let status = response.status().as_u16().to_string();
        let content = &operation["responses"][&status]["content"];
        let kind = header(&response, "content-type").split(';').next().unwrap().to_owned();
        let schema = &content[&kind]["schema"];
        assert!(schema.is_object(), "{what}: {status} {kind} is not in the file");
        let body = response.text().await.unwrap();
        if kind == "application/json" {
            self.check(schema, &serde_json::from_str(&body).unwrap(), what);
        } else {
            self.check(schema, &Value::from(body), what);
        }
    }
}

fn types(wanted: &Value) -> Vec<&str> {
    match wanted.as_array() {
        Some(names) => names.iter().map(|name| name.as_str().unwrap()).collect(),
        None => vec![wanted.as_str().unwrap()],
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}

/// A parameter's example, as it stands in a query.
fn example(parameter: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pair = |name: &str, value: &Value| format!("{name}={}", text(value));
    match parameter["example"].as_object() {
        Some(pairs) => pairs.iter().map(|(name, value)| pair(name, value)).collect::<Vec<_>>().join("&"),
        None => pair(parameter["name"].as_str().unwrap(), &parameter["example"]),
    }
}

fn parameters(operation: &Value) -> &[Value] {
    operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A house in which every list of every answer has something in it.
async fn full_house() -> House {
    let (house, windows) = house_with_words().await;
    windows.seal_committed(0, 120_000, 1);
    let board = house.sources.status.stream("a");
    board.shard(&ShardId::new("shardId-0"), |shard| (shard.state, shard.records) = ("ended", 3));
    board.shard(&ShardId::new("shardId-1"), |shard| {
        (shard.state, shard.behind_ms, shard.last_arrival_ms) = ("reading", Some(1), Some(2));
        (shard.parents, shard.position) = (vec![ShardId::new("shardId-0")], Some("7".to_owned()));
        shard.counted = Some("7".to_owned());
        shard.hash_range = Some(("0".to_owned(), "9".to_owned()));
    });
    board.table("heard", |table| (table.kind, table.last_commit_ms) = ("rows", Some(5)));
    let mut counts = CleanCounts::default();
    counts.nulls.insert(("kind".to_owned(), "sentinel"), 4);
    counts.repairs.insert(Repair::Gzip, 2);
    let rejects = [RejectReason::Empty, RejectReason::InvalidJson].map(reject);
    board.cleaned(&ShardId::new("shardId-1"), 9, &rejects, &counts);
    house
}

#[tokio::test]
async fn the_file_has_every_path_and_parameter_of_the_server_and_no_others() {
    let file = File::read();
    let in_file: BTreeSet<&str> = file.operations().map(|(path, _)| path.as_str()).collect();
    let routes = routes();
    assert_eq!(in_file, routes.iter().map(|(path, _)| *path).collect());
    let (paths, queries): (BTreeSet<&str>, Vec<(&str, &str)>) = ENDPOINTS
        .iter()
        .map(|endpoint| endpoint.split_once('?').unwrap_or((endpoint, "")))
        .map(|it| (it.0, it))
        .unzip();
    assert_eq!(paths, in_file);
    for (path, query) in queries.into_iter().filter(|(path, _)| *path != "/") {
        let of_server: BTreeSet<&str> = query.split('&').filter_map(|pair| pair.split('=').next()).collect();
        let operation = &file.0["paths"][path]["get"];
        let of_file = parameters(operation).iter().map(|parameter| parameter["name"].as_str().unwrap());
        let of_file: BTreeSet<&str> = of_file.map(|name| if name == "keys" { "key.NAME" } else { name }).collect();
        assert_eq!(of_server.into_iter().filter(|name| !name.is_empty()).collect::<BTreeSet<_>>(), of_file, "{path}");
    }
}

#[tokio::test]
async fn every_path_and_parameter_answers_as_the_file_says() {
    let (file, house) = (File::read(), full_house().await);
    for (path, operation) in file.operations().filter(|(path, _)| *path != "/api/stream") {
        let parameters = parameters(operation);
        let all = parameters.iter().map(example).collect::<Vec<_>>().join("&");
        let mut queries: Vec<String> = parameters.iter().map(example).collect();
        queries.extend([String::new(), all.clone(), all.replace("format=json", "format=csv")]);
        for query in queries {
            let response = house.get(&format!("{path}?{query}")).await;
            let expected = [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE];
            assert!(expected[..if path == "/readyz" { 2 } else { 1 }].contains(&response.status()), "{path}?{query}");
            file.check_answer(operation, response, &format!("{path}?{query}")).await;
        }
        for parameter in parameters.iter().filter(|parameter| parameter["name"] != "token") {
            let schema = &parameter["schema"];
            file.check(schema, &parameter["example"], &format!("{path}: the example of {}", parameter["name"]));
        }
        if operation["responses"].get("400").is_some() {
            for query in ["nonsense=1", "window=nonsense", "stream=nonsense"] {
                let response = house.get(&format!("{path}?{query}")).await;
                assert!(response.status().is_client_error(), "{path}?{query}");
                file.check_answer(operation, response, &format!("{path}?{query}")).await;
            }
        }
    }
    house.sources.status.stream("a").resolved("start");
    file.check_answer(&file.0["paths"]["/readyz"]["get"], house.get("/readyz").await, "ready").await;
}

#[tokio::test]
async fn the_streams_events_are_as_the_file_says() {
    let (file, house) = (File::read(), full_house().await);
    let schemas =
        &file.0["paths"]["/api/stream"]["get"]["responses"]["200"]["content"]["text/event-stream"]["x-events"];
    let mut events: Events = fed(&house).await;
    let mut left: BTreeSet<&String> = schemas.as_object().unwrap().keys().collect();
    let mut number = 2;
    while !left.is_empty() {
        let (name, data) = events.next().await;
        file.check(&schemas[&name], &data, &name);
        left.retain(|known| **known != name);
        // Something new to tell of.
        number += 1;
        house.sources.windows[0].seal_committed(0, 120_000, number as i64);
        house.sources.windows[0].observe(&batch(number, &[("noun", 120_000)])).unwrap();
        let rejects = [reject(RejectReason::Empty)];
        house.sources.status.stream("a").cleaned(&ShardId::new("shardId-1"), 0, &rejects, &CleanCounts::default());
    }
}

#[test]
fn the_check_finds_what_the_file_does_not_say() {
    let file = File::read();
    let problems = |value: Value| {
        let mut found = Vec::new();
        file.problems(&json!({ "$ref": "#/components/schemas/Live" }), &value, "", &mut found);
        found.len()
    };
    assert_eq!(problems(json!({ "live": true })), 0);
    for wrong in [json!({ "live": false }), json!({}), json!({ "live": true, "more": 1 }), json!(1)] {
        assert!(problems(wrong.clone()) > 0, "{wrong}");
    }
}
