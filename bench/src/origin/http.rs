//! The HTTP/1.1 origin's side of one connection.
//!
//! Room  two routes on hyper's HTTP/1.1 engine, and a close that never resets.
//! In    `GET /bytes/N[?offset=O]`, `POST /echo`, and the upgrade of `GET /websocket`.
//! Out   N bytes of the pattern from O on with Content-Length; the posted body; a tunnel (`websocket`).
//! Holds after the last answer it ends its own direction, then reads until the client has ended too (bounded).

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Either;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{OpenGuard, until_stopped, websocket};
use crate::payload::Payload;

/// The longest body that `GET /bytes/N` gives: bounds what one request can cost.
const LENGTH_MAX: u64 = 1 << 30;

/// How long a finished connection waits for the client's end before it is closed anyway.
const LINGER_LIMIT: Duration = Duration::from_secs(2);

type Answer = Response<Either<PatternBody, Incoming>>;

/// Serves requests until the client leaves, the connection breaks, or the origin stops.
pub(super) async fn serve(stream: TcpStream, open: OpenGuard, mut stop: watch::Receiver<bool>) {
    let requests = open.0.clone();
    let upgraded = Arc::new(AtomicBool::new(false));
    let mark = upgraded.clone();
    let service = service_fn(move |request| {
        requests.requests.fetch_add(1, Ordering::Relaxed);
        let answer = answer(request);
        mark.store(
            answer.status() == StatusCode::SWITCHING_PROTOCOLS,
            Ordering::Relaxed,
        );
        ready(Ok::<_, Infallible>(answer))
    });
    let mut connection = http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let served = tokio::select! {
        served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => served,
        () = until_stopped(&mut stop) => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    // After a malformed request, too: hyper answered it with 400, and that answer must arrive.
    let is_tunnel = served.is_ok() && upgraded.load(Ordering::Relaxed);
    let parts = connection.into_parts();
    let stream = parts.io.into_inner();
    if is_tunnel {
        if let Some(stream) = websocket::serve(stream, parts.read_buf).await {
            linger(stream).await;
        }
    } else {
        linger(stream).await;
    }
}

/// Ends our direction and reads until the client has ended its own: closing with unread bytes would be a reset.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut unread = [0; 4_096];
    let until_end = async { while matches!(stream.read(&mut unread).await, Ok(1..)) {} };
    timeout(LINGER_LIMIT, until_end).await.unwrap_or_default();
}

fn answer(request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    match (request.method(), path.strip_prefix("/bytes/")) {
        (&Method::GET, Some(length)) => match length.parse() {
            Ok(length @ 0..=LENGTH_MAX) => {
                pattern(Payload::new(offset(request.uri().query()), length))
            }
            _ => plain(StatusCode::BAD_REQUEST),
        },
        (&Method::POST, None) if path == "/echo" => echo(request),
        (&Method::GET, None) if path == "/websocket" => upgrade(&request),
        _ => plain(StatusCode::NOT_FOUND),
    }
}

/// The server's half of the opening handshake (RFC 6455 section 4.2.2).
fn upgrade(request: &Request<Incoming>) -> Answer {
    let key = request.headers().get(SEC_WEBSOCKET_KEY);
    let accept = key.map(|key| derive_accept_key(key.as_bytes()));
    let Some(accept) = accept.and_then(|accept| HeaderValue::try_from(accept).ok()) else {
        return plain(StatusCode::BAD_REQUEST);
    };
    let mut answer = plain(StatusCode::SWITCHING_PROTOCOLS);
    let fields = answer.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer
}

/// The value of `offset=` in a query; 0 when there is none.
fn offset(query: Option<&str>) -> u64 {
    let mut pairs = query.unwrap_or_default().split('&');
    pairs
        .find_map(|pair| pair.strip_prefix("offset=")?.parse().ok())
        .unwrap_or(0)
}

fn pattern(payload: Payload) -> Answer {
    let mut answer = Response::new(Either::Left(PatternBody { payload, at: 0 }));
    answer
        .headers_mut()
        .insert(CONTENT_LENGTH, payload.length().into());
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    answer
}

/// The request's body is the answer's: it flows through without being kept.
fn echo(request: Request<Incoming>) -> Answer {
    let length = request.headers().get(CONTENT_LENGTH).cloned();
    let mut answer = Response::new(Either::Right(request.into_body()));
    if let Some(length) = length {
        answer.headers_mut().insert(CONTENT_LENGTH, length);
    }
    answer
}

fn plain(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Left(PatternBody {
        payload: Payload::new(0, 0),
        at: 0,
    }));
    *answer.status_mut() = status;
    answer
}

/// A body that gives out slices of the static pattern: no copy, no allocation.
struct PatternBody {
    payload: Payload,
    at: u64,
}

impl Body for PatternBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let chunk = self.payload.chunk(self.at);
        if chunk.is_empty() {
            return Poll::Ready(None);
        }
        self.at += chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.payload.length()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.payload.length() - self.at)
    }
}
