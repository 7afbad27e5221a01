//! Serves the control socket: HTTP with JSON, for root and this user only.
//!
//! Holds  a peer of another user gets nothing; a request is bounded in size and time; the number of
//!        connections is bounded; a client that goes away does not disturb what it asked for.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use control::{Answer, Event, SelfUpgradeRequest, UpgradeRequest, Verdict};
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::core::Happening;
use crate::metrics;
use crate::requests::{Request, Terms};

/// Longest request body, in bytes (a path and some numbers).
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a client may take for its request head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// How long a client may take for its request body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Most clients at once; a person, a driver and a dashboard need three.
pub(crate) const CLIENTS_MAX: usize = 64;

type Happenings = mpsc::UnboundedSender<Happening>;
type Answered = Response<Either<Full<Bytes>, EventBody>>;

/// Binds the socket, 0600 in its 0700 directory.
pub(crate) fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    let _ = fs::remove_file(path);
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Accepts until it is aborted; each client takes one of `places`, [`CLIENTS_MAX`] in all.
pub(crate) async fn serve(listener: UnixListener, happenings: Happenings, places: Arc<Semaphore>) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) if is_allowed(&stream) => {
                let happenings = happenings.clone();
                tokio::spawn(async move {
                    converse(stream, happenings).await;
                    drop(place);
                });
            }
            Ok(_) => tracing::warn!("a client of another user was turned away"),
            Err(error) => {
                tracing::warn!(%error, "the control socket does not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Pause after a failed accept (EMFILE), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Root and our own user, as the kernel saw them connect (unix(7), SO_PEERCRED).
pub(crate) fn is_allowed_user(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn is_allowed(stream: &UnixStream) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|credentials| is_allowed_user(credentials.uid()))
}

async fn converse(stream: UnixStream, happenings: Happenings) {
    let service = service_fn(move |request| {
        let happenings = happenings.clone();
        async move { Ok::<_, Infallible>(answer(request, &happenings).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: HttpRequest<Incoming>, happenings: &Happenings) -> Answered {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match (method, path.as_str()) {
        (Method::GET, "/v1/status") => json(ask(happenings, Request::Status).await),
        (Method::GET, "/v1/history") => json(ask(happenings, Request::History).await),
        (Method::GET, "/v1/metrics") => text(metrics::text(happenings).await),
        (Method::POST, "/v1/upgrade") => upgrade(request, happenings).await,
        (Method::POST, "/v1/self-upgrade") => self_upgrade(request, happenings).await,
        (Method::POST, "/v1/rollback") => events(happenings, Request::Rollback).await,
        (Method::POST, "/v1/resume") => events(happenings, Request::Resume).await,
        (Method::POST, "/v1/abort") => json(ask(happenings, Request::Abort).await),
        (Method::POST, "/v1/reload") => json(ask(happenings, Request::Reload).await),
        (Method::POST, "/v1/stop") => json(ask(happenings, Request::Stop).await),
        (_, "/v1/status" | "/v1/history" | "/v1/metrics") => {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "use GET".to_owned())
        }
        (_, "/v1/upgrade" | "/v1/self-upgrade" | "/v1/rollback" | "/v1/resume" | "/v1/abort" | "/v1/reload" | "/v1/stop") => {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "use POST".to_owned())
        }
        _ => refuse(
            StatusCode::NOT_FOUND,
            "there are /v1/status, /v1/history, /v1/metrics (GET) and /v1/upgrade, /v1/self-upgrade, /v1/rollback, \
             /v1/resume, /v1/abort, /v1/reload, /v1/stop (POST)"
                .to_owned(),
        ),
    }
}

async fn upgrade(request: HttpRequest<Incoming>, happenings: &Happenings) -> Answered {
    let wanted: UpgradeRequest = match wanted(request).await {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    if !wanted.binary.is_absolute() {
        return refuse_relative();
    }
    let request = |events| Request::Upgrade {
        binary: wanted.binary,
        terms: Terms {
            bake: wanted.bake_ms.map(Duration::from_millis),
            ready_timeout: wanted.ready_timeout_ms.map(Duration::from_millis),
            canary: wanted.canary,
            step: wanted.step_ms.map(Duration::from_millis),
            migrate: wanted.migrate,
        },
        dry_run: wanted.dry_run,
        events,
    };
    events(happenings, request).await
}

async fn self_upgrade(request: HttpRequest<Incoming>, happenings: &Happenings) -> Answered {
    let wanted: SelfUpgradeRequest = match wanted(request).await {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    if !wanted.binary.is_absolute() {
        return refuse_relative();
    }
    let binary = wanted.binary;
    events(happenings, |events| Request::SelfUpgrade { binary, events }).await
}

fn refuse_relative() -> Answered {
    refuse(
        StatusCode::BAD_REQUEST,
        "binary must be an absolute path on this host".to_owned(),
    )
}

/// The request's body, or the answer to one that cannot be read.
async fn wanted<T: serde::de::DeserializeOwned>(
    request: HttpRequest<Incoming>,
) -> Result<T, Box<Answered>> {
    let reading = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let (status, reason) = match tokio::time::timeout(BODY_DEADLINE, reading).await {
        Ok(Ok(body)) => match serde_json::from_slice(&body.to_bytes()) {
            Ok(wanted) => return Ok(wanted),
            Err(error) => {
                let example = r#"{"binary": "/absolute/path"}"#;
                let reason = format!("{error}; expected {example}");
                (StatusCode::BAD_REQUEST, reason)
            }
        },
        Ok(Err(error)) => (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        Err(_) => {
            let reason = "the body did not arrive".to_owned();
            (StatusCode::REQUEST_TIMEOUT, reason)
        }
    };
    Err(Box::new(refuse(status, reason)))
}

async fn ask<T>(
    happenings: &Happenings,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    happenings.send(Happening::Request(request(answer))).ok()?;
    answered.await.ok()
}

/// A stream of events; its status already tells when another upgrade is running.
async fn events(
    happenings: &Happenings,
    request: impl FnOnce(mpsc::UnboundedSender<Event>) -> Request,
) -> Answered {
    let (events, mut receiver) = mpsc::unbounded_channel();
    if happenings
        .send(Happening::Request(request(events)))
        .is_err()
    {
        return json(None::<Answer>);
    }
    let first = receiver.recv().await;
    let busy = matches!(&first, Some(event) if event.verdict == Some(Verdict::Busy));
    let status = if busy {
        StatusCode::CONFLICT
    } else {
        StatusCode::OK
    };
    let mut response = Response::new(Either::Right(EventBody { first, receiver }));
    *response.status_mut() = status;
    response.headers_mut().insert(
        "content-type",
        hyper::header::HeaderValue::from_static("application/x-ndjson"),
    );
    response
}

fn json<T: serde::Serialize>(value: Option<T>) -> Answered {
    let Some(Ok(body)) = value.map(|value| serde_json::to_vec(&value)) else {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the supervisor is ending".to_owned(),
        );
    };
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    response.headers_mut().insert(
        "content-type",
        hyper::header::HeaderValue::from_static("application/json"),
    );
    response
}

fn text(metrics: Option<String>) -> Answered {
    let Some(metrics) = metrics else {
        return json(None::<Answer>);
    };
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(metrics))));
    response.headers_mut().insert(
        "content-type",
        hyper::header::HeaderValue::from_static(metrics::CONTENT),
    );
    response
}

fn refuse(status: StatusCode, message: String) -> Answered {
    let mut response = json(Some(Answer { ok: false, message }));
    *response.status_mut() = status;
    response
}

/// Events as lines, each in a frame of its own.
struct EventBody {
    first: Option<Event>,
    receiver: mpsc::UnboundedReceiver<Event>,
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let event = match self.first.take() {
            Some(event) => Some(event),
            None => match self.receiver.poll_recv(context) {
                Poll::Ready(event) => event,
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(event.map(|event| {
            let mut line = serde_json::to_vec(&event).unwrap_or_default();
            line.push(b'\n');
            Ok(Frame::data(Bytes::from(line)))
        }))
    }
}
