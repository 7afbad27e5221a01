//! A request of an HTTP/2 client at a backend that speaks HTTP/1.1.
//!
//! ```text
//!   Upload ──▶ Uploader ══▶ backend ══▶ head ──▶ Http1Body (which goes on uploading) ──▶ client's stream
//! ```
//!
//! Room  the translation of bodies and heads between the versions (RFC 9113 section 8, RFC 9112).
//! Holds a backend connection is kept only when both messages were whole; an answer that ends early breaks the
//!       stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body as _, Frame};

use super::body::{Broken, Upload};
use super::session::OpenStream;
use crate::backend::BackendConnection;
use crate::end::End;
use crate::field::FieldSink as _;
use crate::h1::Interrupted;
use crate::http1::{
    BodyDecoder, HeadLimits, ResponseBody, ResponseHead, ResponseTo, chunk_header, parse_response,
};
use crate::http2::Block;
use crate::life::Stage;
use crate::policy::{Client, may_forward_trailer};
use crate::request::Request;
use crate::settings::Timeouts;
use crate::stream::Stream;
use crate::timers::{Timer, later};
use crate::worker::Worker;

/// Sends a request's head and body.
#[derive(Debug)]
pub(super) struct Uploader {
    /// Sent first; kept, so that it can be sent to another backend.
    head: Vec<u8>,
    head_at: usize,
    upload: Option<Upload>,
    chunked: bool,
    staged: Vec<u8>,
    at: usize,
    moved: bool,
    body_was_sent: bool,
}

/// Whose fault it is that an upload ended.
enum UploadError {
    Client(End),
    Backend,
}

impl Uploader {
    pub(super) fn new(head: Vec<u8>, upload: Option<Upload>, chunked: bool) -> Self {
        Self {
            head,
            head_at: 0,
            upload,
            chunked,
            staged: Vec::new(),
            at: 0,
            moved: false,
            body_was_sent: false,
        }
    }

    /// Begins again with the same head: only right where no body was sent.
    pub(super) fn again(&mut self) {
        self.head_at = 0;
        self.staged.clear();
        self.at = 0;
    }

    pub(super) fn is_done(&self) -> bool {
        self.upload.is_none() && !self.is_writing()
    }

    /// The backend is waited for.
    fn is_writing(&self) -> bool {
        self.head_at < self.head.len() || self.at < self.staged.len()
    }

    /// The memory of the head, to be used again.
    fn into_head(self) -> Vec<u8> {
        self.head
    }

    fn poll(
        &mut self,
        backend: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            while let Some(rest) = self.head.get(self.head_at..).filter(|r| !r.is_empty()) {
                let written = backend.poll_write_some(cx, rest);
                self.head_at += ready!(written.map_err(|_| UploadError::Backend))?;
                self.moved = true;
            }
            while let Some(rest) = self.staged.get(self.at..).filter(|rest| !rest.is_empty()) {
                let written = backend.poll_write_some(cx, rest);
                self.at += ready!(written.map_err(|_| UploadError::Backend))?;
                self.moved = true;
            }
            self.staged.clear();
            self.at = 0;
            ready!(backend.poll_sent(cx).map_err(|_| UploadError::Backend))?;
            let Some(upload) = &mut self.upload else {
                return Poll::Ready(Ok(()));
            };
            match ready!(Pin::new(upload).poll_frame(cx)) {
                Some(Ok(frame)) => self.stage(frame),
                Some(Err(Broken(end))) => return Poll::Ready(Err(UploadError::Client(end))),
                None => self.finish(None),
            }
        }
    }

    fn stage(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                self.body_was_sent = true;
                if self.chunked {
                    chunk_header(data.len(), &mut self.staged);
                }
                self.staged.extend_from_slice(&data);
                if self.chunked {
                    self.staged.extend_from_slice(b"\r\n");
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().ok();
                self.finish(trailers.as_ref());
            }
        }
    }

    fn finish(&mut self, trailers: Option<&HeaderMap>) {
        self.upload = None;
        if !self.chunked {
            return;
        }
        self.staged.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.into_iter().flatten() {
            if may_forward_trailer(name.as_str().as_bytes()) {
                self.staged.put(name.as_str().as_bytes(), value.as_bytes());
            }
        }
        self.staged.extend_from_slice(b"\r\n");
    }
}

/// Interim answers before the final one. Sized: a server that sends more of them means something else.
const INTERIM_MAX: u32 = 16;

/// What a backend's head said about the rest of its answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    body: ResponseBody,
    backend_keeps: bool,
}

/// What an exchange works with.
pub(super) struct Exchange<'x, 's> {
    pub(super) open: &'x OpenStream,
    pub(super) worker: &'x Worker,
    pub(super) timer: &'x Timer,
    pub(super) request: &'x Request<'s>,
    pub(super) client: &'x Client,
    pub(super) backend: &'x mut BackendConnection,
    pub(super) uploader: &'x mut Uploader,
    pub(super) total_due: u64,
    /// Interim answers so far.
    pub(super) interim: u32,
}

impl Exchange<'_, '_> {
    /// Until the answer's head has come.
    pub(super) async fn head(mut self) -> Result<Head, Interrupted> {
        let mut moved_at = self.timer.now_ms();
        let mut broke = false;
        poll_fn(|cx| {
            if !broke && !self.uploader.is_done() {
                match self.uploader.poll(&mut self.backend.stream, cx) {
                    Poll::Ready(Err(UploadError::Client(end))) => {
                        return Poll::Ready(Err(self.interrupted(end)));
                    }
                    Poll::Ready(Err(UploadError::Backend)) => broke = true,
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            match self.poll_head(cx) {
                Poll::Ready(Ok(head)) => return Poll::Ready(Ok(head)),
                Poll::Ready(Err(end)) => return Poll::Ready(Err(self.interrupted(end))),
                Poll::Pending => {}
            }
            if std::mem::take(&mut self.uploader.moved) {
                moved_at = self.timer.now_ms();
            }
            let timeouts = &self.request.site.settings.timeouts;
            let mut due = (self.total_due, End::TotalTimeout);
            let own = if self.uploader.is_done() || broke {
                let patience = self.request.forwarding.route.upstream_first_byte;
                Some((later(moved_at, patience), End::BackendFirstByteTimeout))
            } else if self.uploader.is_writing() {
                Some((
                    later(moved_at, timeouts.upstream_idle),
                    End::BackendIdleTimeout,
                ))
            } else {
                None // the upload has its own deadline
            };
            if let Some(own) = own
                && own.0 < due.0
            {
                due = own;
            }
            if self.timer.is_past(due.0) {
                return Poll::Ready(Err(self.interrupted(due.1)));
            }
            self.timer.arm(due.0, cx);
            Poll::Pending
        })
        .await
    }

    fn interrupted(&self, end: End) -> Interrupted {
        Interrupted {
            end,
            stage: if self.uploader.is_done() {
                Stage::Waiting
            } else {
                Stage::Sending
            },
            body_was_sent: self.uploader.body_was_sent,
            status: 0,
            received: 0,
            sent: 0,
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, End>> {
        let limits = &self.request.site.settings.limits;
        loop {
            if !self.backend.input.is_empty() {
                match self.read_head()? {
                    Some(head) if head.status >= 200 => return Poll::Ready(Ok(head)),
                    Some(_) => continue,
                    None => {}
                }
            }
            let input = &mut self.backend.input;
            if input.len() >= limits.response_head_bytes {
                return Poll::Ready(Err(End::BackendMalformed));
            }
            self.worker.buffers.lend(input);
            input.make_room(limits.response_head_bytes);
            match ready!(input.poll_fill(&mut self.backend.stream, cx)) {
                Ok(count) if count > 0 => {}
                _ if input.is_empty() => return Poll::Ready(Err(End::BackendClosed)),
                _ => return Poll::Ready(Err(End::BackendMalformed)),
            }
        }
    }

    /// Passes a head on, also an interim one.
    fn read_head(&mut self) -> Result<Option<Head>, End> {
        let limits = &self.request.site.settings.limits;
        let head_limits = HeadLimits {
            bytes: limits.response_head_bytes,
            lines: limits.head_lines,
        };
        let to = ResponseTo {
            is_head: self.request.is_head,
            is_connect: false,
        };
        let parsed = parse_response(self.backend.input.data(), &head_limits, to);
        let head = match parsed {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(None),
            Err(refused) => {
                tracing::debug!(%refused, "a backend's head was refused");
                return Err(End::BackendMalformed);
            }
        };
        if head.status == 101 {
            return Err(End::BackendMalformed);
        }
        let is_final = head.status >= 200;
        if !is_final {
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Err(End::BackendMalformed);
            }
        }
        // 100 is ours to say.
        if head.status != 100 {
            self.pass(&head, is_final);
        }
        let (status, body, backend_keeps, length) =
            (head.status, head.body, head.keep_alive, head.len);
        self.backend.input.consume(length);
        Ok(Some(Head {
            status,
            body,
            backend_keeps,
        }))
    }

    /// Writes the head into the client's stream.
    fn pass(&self, head: &ResponseHead<'_>, is_final: bool) {
        let request = self.request;
        let has_ended = is_final && BodyDecoder::response(&head.body).is_end();
        let write = |block: &mut Block<'_>| {
            request.site.policy.write_response_fields(
                request.forwarding.route,
                self.client,
                request.origin.as_deref(),
                &request.forwarding.request_id,
                head.fields(),
                block,
            );
            let length = head.fields().iter().find(|f| f.is("content-length"));
            match (&head.body, length) {
                (ResponseBody::Length(length), _) if is_final => {
                    let mut digits = itoa::Buffer::new();
                    block.put(b"content-length", digits.format(*length).as_bytes());
                }
                (ResponseBody::None, Some(field)) if is_final && head.status != 204 => {
                    block.put(b"content-length", field.value);
                }
                _ => {}
            }
        };
        let (id, status) = (self.open.id, head.status);
        self.open
            .session
            .with(|connection| connection.head(id, status, has_ended, write));
    }
}

/// The body of a backend's answer.
#[derive(Debug)]
pub(super) struct Http1Body {
    backend: BackendConnection,
    uploader: Uploader,
    upload_broke: bool,
    decoder: BodyDecoder,
    trailers_left: bool,
    backend_keeps: bool,
    idle: Duration,
    moved_at: u64,
    total_due: u64,
}

/// What a turn of a body brought.
#[derive(Debug)]
pub(super) enum Moved {
    /// A part, which was handed over; the last one or not.
    Data {
        is_last: bool,
    },
    Trailers(HeaderMap),
    End,
}

impl Http1Body {
    pub(super) fn new(
        head: &Head,
        (backend, uploader): (BackendConnection, Uploader),
        timer: &Timer,
        timeouts: &Timeouts,
        total_due: u64,
    ) -> Self {
        Self {
            trailers_left: matches!(head.body, ResponseBody::Chunked),
            decoder: BodyDecoder::response(&head.body),
            backend,
            uploader,
            upload_broke: false,
            backend_keeps: head.backend_keeps,
            moved_at: timer.now_ms(),
            idle: timeouts.upstream_idle,
            total_due,
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.decoder.is_end() && !self.trailers_left
    }

    /// The answer has ended: the connection may serve another request.
    pub(super) fn release(mut self, worker: &Worker, keep_alive: Duration) {
        worker.buffers.take_back(&mut self.backend.input);
        if self.is_end_stream() && self.backend_keeps && self.uploader.is_done() {
            let now = worker.timers.now_ms();
            worker.backends.keep(self.backend, now, keep_alive);
        }
        worker.heads.take_back(self.uploader.into_head());
    }

    /// Goes on sending what the client sends.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if self.upload_broke || self.uploader.is_done() {
            return Ok(());
        }
        match self.uploader.poll(&mut self.backend.stream, cx) {
            Poll::Ready(Err(UploadError::Client(end))) => return Err(end),
            Poll::Ready(Err(UploadError::Backend)) => self.upload_broke = true,
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        Ok(())
    }

    /// The next part, of at most `room` bytes, is handed to `put`, with whether it is the last.
    pub(super) fn poll_moved(
        &mut self,
        worker: &Worker,
        timer: &Timer,
        room: usize,
        cx: &mut Context<'_>,
        put: impl FnOnce(&[u8], bool),
    ) -> Poll<Result<Moved, End>> {
        let backend = &mut self.backend;
        loop {
            if self.decoder.is_end() {
                if std::mem::take(&mut self.trailers_left) {
                    let trailers = trailers(&self.decoder);
                    if !trailers.is_empty() {
                        return Poll::Ready(Ok(Moved::Trailers(trailers)));
                    }
                }
                return Poll::Ready(Ok(Moved::End));
            }
            if !backend.input.is_empty() {
                let data = backend.input.data();
                let some = data.get(..room.min(data.len())).unwrap_or_default();
                let decoded = self.decoder.decode(some);
                let decoded = decoded.map_err(|_| End::BackendMalformed)?;
                let consumed = decoded.consumed;
                let bytes = decoded.data.and_then(|range| some.get(range));
                if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                    let is_last = self.decoder.is_end() && !self.trailers_left;
                    put(bytes, is_last);
                    backend.input.consume(consumed);
                    self.moved_at = timer.now_ms();
                    return Poll::Ready(Ok(Moved::Data { is_last }));
                }
                backend.input.consume(consumed);
                if consumed > 0 {
                    continue;
                }
            }
            if backend.input.is_full() {
                backend.input.widen_for_bulk();
            }
            worker.buffers.lend(&mut backend.input);
            backend.input.make_room(64 * 1024);
            match backend.input.poll_fill(&mut backend.stream, cx) {
                Poll::Ready(Ok(0)) => {
                    self.backend_keeps = false;
                    self.decoder.on_eof().map_err(|_| End::BackendTruncated)?;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::BackendTruncated)),
                Poll::Pending => break,
            }
        }
        if timer.is_past(self.total_due) {
            return Poll::Ready(Err(End::TotalTimeout));
        }
        let due = later(self.moved_at, self.idle);
        if timer.is_past(due) {
            return Poll::Ready(Err(End::BackendIdleTimeout));
        }
        timer.arm(due.min(self.total_due), cx);
        Poll::Pending
    }
}

fn trailers(decoder: &BodyDecoder) -> HeaderMap {
    let mut map = HeaderMap::new();
    for field in decoder.trailers() {
        if may_forward_trailer(field.name) {
            map.put(field.name, field.value);
        }
    }
    map
}
