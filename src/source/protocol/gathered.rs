//! A response's body in one piece as it comes in.
//!
//! The SDK keeps what the wire brings until all of it is there, and then copies the pieces together: for a moment every
//! byte of a read is in memory twice, and the HTTP client needs new memory for each piece. Here a piece is copied on as it
//! comes, and the client uses its memory again.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::body::{Error, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame};

use super::spare::Spare;
use crate::limits::BODY_BYTES_EXPECTED_MAX;

/// Lets the response's body come in one piece, in spare memory.
pub(crate) fn gather(response: &mut Response, spare: &Spare) {
    let length = response.headers().get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    // What a header says is only believed as far as Kinesis would go.
    let gathered = spare.take(BODY_BYTES_EXPECTED_MAX.min(length));
    let inner = std::mem::replace(response.body_mut(), SdkBody::taken());
    *response.body_mut() = SdkBody::from_body_1_x(Gathered { inner, gathered, spare: spare.clone() });
}

struct Gathered {
    inner: SdkBody,
    gathered: Vec<u8>,
    spare: Spare,
}

impl Body for Gathered {
    type Data = Bytes;
    type Error = Error;

    /// One frame of all data, when there is no more. Trailers say nothing that is wanted.
    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        while let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            match frame.map(Frame::into_data) {
                Ok(Ok(piece)) => self.gathered.extend_from_slice(&piece),
                Ok(Err(_trailers)) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        let whole = std::mem::take(&mut self.gathered);
        Poll::Ready((!whole.is_empty()).then(|| Ok(Frame::data(self.spare.lend(whole)))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use aws_smithy_runtime_api::http::StatusCode;

    use super::*;

    struct Pieces(VecDeque<Result<&'static str, &'static str>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            let piece = self.0.pop_front();
            Poll::Ready(piece.map(|piece| piece.map(|text| Frame::data(text.into())).map_err(Into::into)))
        }
    }

    /// All that comes of a response with this header and these pieces.
    async fn frames(length: Option<&'static str>, pieces: &[Result<&'static str, &'static str>]) -> Vec<String> {
        let body = SdkBody::from_body_1_x(Pieces(pieces.iter().copied().collect()));
        let mut response = Response::new(StatusCode::try_from(200).unwrap(), body);
        if let Some(length) = length {
            response.headers_mut().insert("content-length", length);
        }
        gather(&mut response, &Spare::bodies());
        let mut frames = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(response.body_mut()).poll_frame(context)).await {
            frames.push(match frame {
                Ok(frame) => String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap(),
                Err(error) => return vec![error.to_string()],
            });
        }
        frames
    }

    #[tokio::test]
    async fn pieces_come_as_one_whatever_the_header_says_and_an_error_comes_as_it_is() {
        for length in [None, Some("9"), Some("0"), Some("many"), Some("18446744073709551615")] {
            assert_eq!(frames(length, &[Ok("{\"a\""), Ok(""), Ok(":1}\n")]).await, ["{\"a\":1}\n"], "{length:?}");
        }
        assert!(frames(Some("0"), &[]).await.is_empty());
        assert_eq!(frames(Some("9"), &[Ok("{\"a\""), Err("cut")]).await, ["cut"]);
    }
}
