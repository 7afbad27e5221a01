//! One question to the operator: `GET …/api/v1/backends`, on a connection of its own.
//!
//! Room  the network; what the answer means for the set in force is decided in `course`.
//! In    the URL and the tag of the last answer.
//! Out   a set, "unchanged", or why neither.
//! Holds bounded in time (all of it: resolving, connecting, the whole body) and in bytes.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, ETAG, HOST, HeaderValue, IF_NONE_MATCH, USER_AGENT};
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::answer::{Discovered, DiscoveryError, parse_backends};
use super::url::OperatorUrl;

/// How long one request may take, from the name's resolution to the last byte.
///
/// If passed: it counts as failed, the set in force stays. Sized: a query of a busy database and 4 MiB over a
/// slow link take about a second.
pub(super) const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// Largest body of an answer, in bytes: some 30,000 backends.
pub(super) const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A good answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// Status 200; the tag is to be sent with the next question.
    Set {
        etag: Option<HeaderValue>,
        backends: Vec<Discovered>,
    },
    /// Status 304: as before.
    Unchanged,
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(
        "cannot connect to the operator at {authority}: {source}; is it running, and OPERATOR_URL right?"
    )]
    Connect {
        authority: String,
        source: io::Error,
    },
    #[error("the operator did not answer in full within {0:?}")]
    Late(Duration),
    #[error("the operator's answer broke off or is not HTTP: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the request to the operator cannot be written: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the operator answered {0}; 200 or 304 is wanted")]
    Status(StatusCode),
    #[error("the operator answered 304 to a question without If-None-Match")]
    UnchangedFromNothing,
    #[error("the operator's answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the operator's answer broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Answer(#[from] DiscoveryError),
}

/// Asks once.
pub(super) async fn ask(
    url: &OperatorUrl,
    etag: Option<HeaderValue>,
    deadline: Duration,
) -> Result<Answer, AskError> {
    let asking = async {
        let conditional = etag.is_some();
        let request = request(url, etag)?;
        let connected = TcpStream::connect((url.host(), url.port())).await;
        let stream = connected.map_err(|source| AskError::Connect {
            authority: url.authority(),
            source,
        })?;
        exchange(stream, request, conditional).await
    };
    tokio::time::timeout(deadline, asking)
        .await
        .unwrap_or(Err(AskError::Late(deadline)))
}

fn request(
    url: &OperatorUrl,
    etag: Option<HeaderValue>,
) -> Result<Request<Empty<Bytes>>, AskError> {
    let mut request = Request::get(url.backends_path())
        .header(HOST, url.authority())
        .header(USER_AGENT, "zeitwork-discovery")
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close");
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    Ok(request.body(Empty::new())?)
}

/// The connection is driven until the answer is read; both end with this future.
async fn exchange(
    stream: TcpStream,
    request: Request<Empty<Bytes>>,
    conditional: bool,
) -> Result<Answer, AskError> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let answering = async {
        let response = sender.send_request(request).await?;
        read(response, conditional).await
    };
    // When the connection ends first, the answer is either complete in `answering`'s hands or broken.
    let driving = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answering => answer,
        never = driving => never,
    }
}

async fn read(response: Response<Incoming>, conditional: bool) -> Result<Answer, AskError> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if conditional => return Ok(Answer::Unchanged),
        StatusCode::NOT_MODIFIED => return Err(AskError::UnchangedFromNothing),
        other => return Err(AskError::Status(other)),
    }
    let etag = response.headers().get(ETAG).cloned();
    let limited = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let body = limited.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            AskError::TooLarge
        } else {
            AskError::Body(error)
        }
    })?;
    Ok(Answer::Set {
        etag,
        backends: parse_backends(&body.to_bytes())?,
    })
}
