//! HTTP in front of the bucket: connections that can be cut, and the faults on a request's way.
//!
//! An answer that never comes is an error of hyper's service: hyper then closes the connection without a byte.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, IF_NONE_MATCH};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use s3s::service::S3Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::form_urlencoded;

use super::faults::{At, Cuts, Fault, Faults, Request, Verb};

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// The connection ends here, on purpose or because the client's did.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
struct Cut;

type Answer = Response<BoxBody<Bytes, Cut>>;

/// What every connection shares.
pub struct Shared {
    /// The bucket.
    pub service: S3Service,
    /// What goes wrong.
    pub faults: Arc<Faults>,
    /// How many connections were cut on purpose.
    pub cuts: Cuts,
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Those that have ended are not kept.
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(stream, Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let serve = service_fn(|request| answer(&shared, request));
    // However it ends, the client sees it.
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await.ok();
}

/// A request, whole.
struct Asked {
    parts: Parts,
    body: Bytes,
    verb: Verb,
    keys: Vec<String>,
}

async fn answer(shared: &Shared, request: hyper::Request<Incoming>) -> Result<Answer, Cut> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_hung_up| Cut)?.to_bytes();
    let asked = Asked::read(parts, body);
    let (met, parking) = {
        let requests = asked.as_rules_see_it();
        (shared.faults.meet(&requests), shared.faults.parking(&requests))
    };
    let parked = async |at: At| {
        if let Some((_, parking)) = parking.as_ref().filter(|(when, _)| *when == at) {
            parking.park().await;
        }
    };
    parked(At::Before).await;
    let is_head = asked.parts.method == Method::HEAD;
    let fault = met.as_ref().map_or(Fault::Count, |(fault, _)| *fault);
    let answer = match fault {
        Fault::Status { code, s3_code } => return error(code, s3_code, is_head),
        Fault::Drop => return Err(shared.cut()),
        Fault::Stall => {
            if let Some((_, removed)) = &met {
                removed.cancelled().await;
            }
            return Err(shared.cut());
        }
        Fault::Delay(time) => {
            tokio::time::sleep(time).await;
            shared.effect(asked).await?
        }
        Fault::Count | Fault::StoreThenDrop | Fault::StoreThenStatus { .. } | Fault::HalfThenDrop => {
            shared.effect(asked).await?
        }
    };
    parked(At::After).await;
    match fault {
        Fault::StoreThenDrop => Err(shared.cut()),
        Fault::StoreThenStatus { code, s3_code } => error(code, s3_code, is_head),
        Fault::HalfThenDrop => Ok(shared.half(answer)),
        Fault::Count | Fault::Status { .. } | Fault::Drop | Fault::Delay(_) | Fault::Stall => {
            Ok(answer.map(|body| Full::new(body).map_err(|never: Infallible| match never {}).boxed()))
        }
    }
}

impl Shared {
    fn cut(&self) -> Cut {
        self.cuts.one_more();
        Cut
    }

    /// What S3 would do and answer.
    async fn effect(&self, asked: Asked) -> Result<Response<Bytes>, Cut> {
        let mut request = hyper::Request::from_parts(asked.parts, s3s::Body::from(asked.body));
        // Signatures are not checked here; s3s would refuse to leave one unchecked.
        request.headers_mut().remove(AUTHORIZATION);
        request.headers_mut().remove(CONTENT_SHA256);
        let answer = self.service.call(request).await.map_err(|_error| Cut)?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|_error| Cut)?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    /// The head, half of the body, and the end of the connection.
    fn half(&self, answer: Response<Bytes>) -> Answer {
        self.cuts.one_more();
        let (mut parts, body) = answer.into_parts();
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
        let frames = [Ok(Frame::data(body.slice(..body.len() / 2))), Err(Cut)];
        Response::from_parts(parts, BodyExt::boxed(StreamBody::new(futures::stream::iter(frames))))
    }
}

fn error(code: u16, s3_code: &str, is_head: bool) -> Result<Answer, Cut> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{s3_code}</Code><Message>injected</Message>\
         <RequestId>0</RequestId></Error>"
    );
    let body = Full::new(if is_head { Bytes::new() } else { Bytes::from(text) });
    let answer = Response::builder().status(code).header(CONTENT_TYPE, "application/xml");
    answer.body(body.map_err(|never: Infallible| match never {}).boxed()).map_err(|_no_status_code| Cut)
}

impl Asked {
    fn read(parts: Parts, body: Bytes) -> Self {
        let path = parts.uri.path().trim_start_matches('/');
        let (_bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
        let query = |name: &str| {
            let mut pairs = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
            pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
        };
        let is_list = parts.method == Method::GET && key.is_empty();
        let deletes_many = parts.method == Method::POST && query("delete").is_some();
        let (verb, keys) = match () {
            () if is_list => (Verb::List, vec![query("prefix").unwrap_or_default()]),
            () if deletes_many => (Verb::Delete, keys_to_delete(&body)),
            () if parts.method == Method::GET => (Verb::Get, vec![key]),
            () if parts.method == Method::HEAD => (Verb::Head, vec![key]),
            () if parts.method == Method::DELETE => (Verb::Delete, vec![key]),
            () => (Verb::Put, vec![key]),
        };
        Self { parts, body, verb, keys }
    }

    fn as_rules_see_it(&self) -> Vec<Request<'_>> {
        let if_none_match = self.parts.headers.contains_key(IF_NONE_MATCH);
        let request = |key| Request { verb: self.verb, key, body: &self.body, if_none_match };
        self.keys.iter().map(|key| request(key.as_str())).collect()
    }
}

/// The keys in the XML of a DeleteObjects. Ours hold nothing that XML escapes.
fn keys_to_delete(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body);
    let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
    keys.map(|(key, _)| key.to_owned()).collect()
}
