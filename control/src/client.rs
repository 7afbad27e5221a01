//! The client of a control socket.
//!
//! Holds  every request is bounded in time until its answer starts; a stream of events ends with the
//!        connection.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::event::{Answer, Event, HistoryEntry, SelfUpgradeRequest, UpgradeRequest};
use crate::status::Status;

/// How long a supervisor may take to begin its answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Longest answer that is no stream, in bytes (a history of years).
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest line of a stream, in bytes.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(
        "no supervisor answers at {path}: {source}; is it running, and are you root or its user?"
    )]
    Unreachable { path: PathBuf, source: io::Error },
    #[error(
        "the supervisor did not answer within {ANSWER_DEADLINE:?}; is it stopped (SIGSTOP) or overloaded?"
    )]
    Silent,
    #[error("the supervisor refused: {0}")]
    Refused(String),
    #[error("the connection to the supervisor broke: {0}")]
    Broken(String),
    #[error("the supervisor's answer is not understood: {0}")]
    NotUnderstood(#[from] serde_json::Error),
}

/// Speaks to one supervisor.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the supervisor whose control socket is `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Where it connects to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.whole(Method::GET, "/v1/status").await
    }

    /// `GET /v1/history`, oldest first.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn history(&self) -> Result<Vec<HistoryEntry>, ControlError> {
        self.whole(Method::GET, "/v1/history").await
    }

    /// `POST /v1/{verb}` for the verbs with a short answer.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn ask(&self, verb: &str) -> Result<Answer, ControlError> {
        self.whole(Method::POST, &format!("/v1/{verb}")).await
    }

    /// `POST /v1/upgrade`; `on_event` sees every event, the last one is returned.
    ///
    /// # Errors
    /// See [`ControlError`]; [`ControlError::Broken`] when the stream ends without a verdict.
    pub async fn upgrade(
        &self,
        request: &UpgradeRequest,
        on_event: impl FnMut(&Event),
    ) -> Result<Event, ControlError> {
        let body = serde_json::to_vec(request)?;
        self.stream("/v1/upgrade", body, on_event).await
    }

    /// `POST /v1/rollback`; as [`Client::upgrade`].
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn rollback(&self, on_event: impl FnMut(&Event)) -> Result<Event, ControlError> {
        self.stream("/v1/rollback", Vec::new(), on_event).await
    }

    /// `POST /v1/self-upgrade`; `None`: the supervisor has handed over to its successor in the same process,
    /// and the history tells how that ended.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn self_upgrade(
        &self,
        request: &SelfUpgradeRequest,
        on_event: impl FnMut(&Event),
    ) -> Result<Option<Event>, ControlError> {
        let body = serde_json::to_vec(request)?;
        let last = self.to_end("/v1/self-upgrade", body, on_event).await?;
        Ok(last.filter(|event| event.verdict.is_some()))
    }

    /// `POST /v1/resume`; as [`Client::upgrade`].
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn resume(&self, on_event: impl FnMut(&Event)) -> Result<Event, ControlError> {
        self.stream("/v1/resume", Vec::new(), on_event).await
    }

    async fn whole<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ControlError> {
        let response = self.send(method, path, Vec::new()).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| ControlError::Broken(error.to_string()))?
            .to_bytes();
        if status == StatusCode::OK {
            return Ok(serde_json::from_slice(&body)?);
        }
        Err(ControlError::Refused(refusal(&body)))
    }

    async fn stream(
        &self,
        path: &str,
        body: Vec<u8>,
        on_event: impl FnMut(&Event),
    ) -> Result<Event, ControlError> {
        let last = self.to_end(path, body, on_event).await?;
        last.filter(|event| event.verdict.is_some()).ok_or_else(|| {
            ControlError::Broken(
                "it ended before the verdict; `supervisor history` tells how the upgrade ended"
                    .to_owned(),
            )
        })
    }

    /// The last event of a stream.
    async fn to_end(
        &self,
        path: &str,
        body: Vec<u8>,
        mut on_event: impl FnMut(&Event),
    ) -> Result<Option<Event>, ControlError> {
        let response = self.send(Method::POST, path, body).await?;
        let is_stream = matches!(response.status(), StatusCode::OK | StatusCode::CONFLICT);
        let mut body = response.into_body();
        let mut buffer = Vec::new();
        let mut last = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ControlError::Broken(error.to_string()))?;
            buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data.as_ref()));
            if !is_stream {
                continue;
            }
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let event: Event = serde_json::from_slice(&line)?;
                on_event(&event);
                last = Some(event);
            }
            if buffer.len() > LINE_BYTES_MAX {
                return Err(ControlError::Broken("a line is too long".to_owned()));
            }
        }
        if !is_stream {
            return Err(ControlError::Refused(refusal(&buffer)));
        }
        Ok(last)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ControlError> {
        let exchange = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|source| {
                ControlError::Unreachable {
                    path: self.socket.clone(),
                    source,
                }
            })?;
            let broken = |error: hyper::Error| ControlError::Broken(error.to_string());
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(broken)?;
            tokio::spawn(connection);
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "supervisor")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body)))
                .map_err(|error| ControlError::Broken(error.to_string()))?;
            sender.send_request(request).await.map_err(broken)
        };
        tokio::time::timeout(ANSWER_DEADLINE, exchange)
            .await
            .unwrap_or(Err(ControlError::Silent))
    }
}

fn refusal(body: &[u8]) -> String {
    serde_json::from_slice::<Answer>(body).map_or_else(
        |_| String::from_utf8_lossy(body).into_owned(),
        |answer| answer.message,
    )
}
