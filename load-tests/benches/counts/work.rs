//! What is counted. Everything that it works on is in files, for making records costs more than cleaning them.

use std::hint::black_box;
use std::path::Path;

use aws_sdk_kinesis::config::ConfigBag;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_smithy_runtime_api::http::{Response, StatusCode};
use aws_smithy_schema::protocol::SharedClientProtocol;
use aws_smithy_types::body::SdkBody;
use load_tests::rooms::Rooms;
use pintail::demo::Kind;
use pintail::lake::encoded_files;
use pintail::metrics::Registry;
use pintail::source::{QuickJson, RecordShelf};
use pintail::window::StreamWindows;

use crate::data;

/// Of one turn: a read of a shard at its rate.
pub const RECORDS: usize = 1_400;

/// What is counted: a name and a kind of record, apart by a blank.
pub const NAMES: [&str; 8] =
    ["get_records", "clean pin", "clean geo", "clean user", WINDOWS, "parquet pin", "parquet geo", "parquet user"];

/// The one that depends on hash seeds.
pub const WINDOWS: &str = "windows";

const BODY: &str = "get_records.json";
/// About as many bytes as so many pins take, as Kinesis writes them.
const BODY_BYTES: usize = RECORDS * 1_150;

/// Writes what the processes work on.
pub fn prepare(folder: &Path) {
    std::fs::write(folder.join(BODY), data::body(BODY_BYTES).0).expect("a file");
    for kind in Kind::ALL {
        let lines = data::payloads(kind, RECORDS).join(&b'\n');
        std::fs::write(folder.join(kind.name()), lines).expect("a file");
    }
}

/// Does so many turns of one.
pub fn run(name: &str, turns: u32, folder: &Path) {
    let kind = Kind::ALL.into_iter().find(|kind| name.ends_with(kind.name())).unwrap_or(Kind::Pin);
    let file = |name: &str| std::fs::read(folder.join(name)).expect("it was prepared");
    match name.split(' ').next().unwrap_or_default() {
        "get_records" => get_records(file(BODY), turns),
        "clean" => clean(kind, &file(kind.name()), turns),
        WINDOWS => windows(kind, &file(kind.name()), turns),
        "parquet" => parquet(kind, &file(kind.name()), turns),
        other => panic!("nothing is called {other:?}"),
    }
}

fn get_records(body: Vec<u8>, turns: u32) {
    let response = Response::new(StatusCode::try_from(200).expect("a status"), SdkBody::from(body));
    let protocol = SharedClientProtocol::new(QuickJson::default());
    for _ in 0..turns {
        let (mut config, shelf) = (ConfigBag::base(), RecordShelf::default());
        config.interceptor_state().store_put(shelf.clone());
        let answer = protocol.deserialize_response(&response, GetRecordsOutput::SCHEMA, &config);
        let parsed = answer.and_then(|mut answer| GetRecordsOutput::deserialize(&mut *answer));
        black_box(parsed.expect("a body as Kinesis writes it"));
        black_box(shelf.take().expect("read by the quick reader"));
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// Copies the records too, for the cleaner keeps what it is given.
fn clean(kind: Kind, text: &[u8], turns: u32) {
    let mut rooms = Rooms::of(kind).expect("a shipped contract");
    for _ in 0..turns {
        let raw = rooms.read(lines(text)).expect("a read");
        assert_eq!(black_box(rooms.clean(raw)).rows.num_rows(), RECORDS);
    }
}

/// Begins with empty windows each time, as every flush does: how much a cell takes depends on what it holds already.
fn windows(kind: Kind, text: &[u8], turns: u32) {
    let mut rooms = Rooms::of(kind).expect("a shipped contract");
    let raw = rooms.read(lines(text)).expect("a read");
    let cleaned = rooms.clean(raw);
    for _ in 0..turns {
        let registry = Registry::new().expect("metrics");
        let windows = StreamWindows::new(kind.name(), rooms.contract(), registry.stream(kind.name()));
        windows.observe(black_box(&cleaned)).expect("cleaned by the same contract");
    }
}

fn parquet(kind: Kind, text: &[u8], turns: u32) {
    let mut rooms = Rooms::of(kind).expect("a shipped contract");
    let raw = rooms.read(lines(text)).expect("a read");
    let rows = [rooms.clean(raw).rows];
    for _ in 0..turns {
        black_box(encoded_files(black_box(&rows)).expect("cleaned rows are encoded"));
    }
}
