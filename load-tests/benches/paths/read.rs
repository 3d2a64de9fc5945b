//! Path 1: the body of GetRecords to records: the SDK's own, by its own protocol, and ours, by ours.

use std::hint::black_box;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use aws_sdk_kinesis::config::ConfigBag;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_smithy_json::protocol::aws_json_rpc::AwsJsonRpcProtocol;
use aws_smithy_runtime_api::http::{Response, StatusCode};
use aws_smithy_schema::protocol::SharedClientProtocol;
use aws_smithy_types::body::SdkBody;
use pintail::record::RawRecord;
use pintail::source::{QuickJson, RecordShelf};

use crate::data;
use crate::sides::{Rounds, Side, compare};

const KIB: usize = 1024;
const SIZES: [(&str, usize); 2] = [("100 KiB", 100 * KIB), ("10 MiB", 10 * KIB * KIB)];
/// A turn parses about so much.
const TURN_BYTES: usize = 40 * KIB * KIB;

pub fn run(rounds: Rounds) {
    for (size, bytes) in SIZES {
        let (body, records) = data::body(bytes);
        let times = (TURN_BYTES / body.len()).max(1);
        let response = response(body.clone());
        let side = |name| {
            let protocol = protocol(name);
            let response = &response;
            Side::new(name, records * times, move || {
                for _ in 0..times {
                    black_box(parse(&protocol, response));
                }
            })
        };
        let title = format!("path 1: a body of GetRecords, {size}, {records} pins, to records");
        compare(&title, rounds, vec![side("aws-sdk-kinesis"), side("pintail")]);
        for name in ["aws-sdk-kinesis", "pintail"] {
            println!("{name:<34} at most {} KiB above the body", peak_above(name, &body));
        }
    }
}

/// KiB that a process of its own, which is given the body, holds at most while it parses it.
fn peak_above(side: &str, body: &[u8]) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program);
    child.args(["--memory-of", side, &body.len().to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().expect("this program runs");
    child.stdin.take().expect("piped").write_all(body).expect("the child reads");
    let answer = child.wait_with_output().expect("the child ends").stdout;
    String::from_utf8_lossy(&answer).trim().parse().expect("a number of KiB")
}

/// The child of [`peak_above`].
pub fn one_body(side: &str, bytes: usize) {
    let mut body = vec![0; bytes];
    std::io::stdin().read_exact(&mut body).expect("the whole body");
    let (response, protocol) = (response(body), protocol(side));
    let before = peak_kib();
    black_box(parse(&protocol, &response));
    println!("{}", peak_kib() - before);
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has this file");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("and this line");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

fn protocol(side: &str) -> SharedClientProtocol {
    match side {
        "pintail" => SharedClientProtocol::new(QuickJson::default()),
        _ => SharedClientProtocol::new(
            AwsJsonRpcProtocol::aws_json_1_1().with_default_namespace("com.amazonaws.kinesis"),
        ),
    }
}

fn response(body: Vec<u8>) -> Response {
    Response::new(StatusCode::try_from(200).expect("a status"), SdkBody::from(body))
}

/// The SDK's answer, and our records if they stand beside it.
fn parse(protocol: &SharedClientProtocol, response: &Response) -> (GetRecordsOutput, Option<Vec<RawRecord>>) {
    let (mut config, shelf) = (ConfigBag::base(), RecordShelf::default());
    config.interceptor_state().store_put(shelf.clone());
    let answer = protocol.deserialize_response(response, GetRecordsOutput::SCHEMA, &config);
    let parsed = answer.and_then(|mut answer| GetRecordsOutput::deserialize(&mut *answer));
    (parsed.expect("a body as Kinesis writes it"), shelf.take())
}
