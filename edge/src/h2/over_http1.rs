//! A request of an HTTP/2 client at a backend that speaks HTTP/1.1.
//!
//! ```text
//!   Upload ──▶ Uploader ══▶ backend ══▶ head ──▶ Http1Body (which goes on uploading) ──▶ client's stream
//! ```
//!
//! Room  the translation of bodies and heads between the versions (RFC 9113 section 8, RFC 9112).
//! Holds a backend connection is kept only when both messages were whole; an answer that ends early breaks the
//!       stream.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body as _, Frame, SizeHint};

use super::body::{Broken, Upload};
use crate::backend::BackendConnection;
use crate::end::End;
use crate::field::FieldSink as _;
use crate::h1::Interrupted;
use crate::http1::{
    BodyDecoder, HeadLimits, ResponseBody, ResponseTo, chunk_header, parse_response,
};
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
            upload,
            chunked,
            staged: head,
            at: 0,
            moved: false,
            body_was_sent: false,
        }
    }

    /// Begins again with the same head: only right where no body was sent.
    pub(super) fn again(&mut self, head: &[u8]) {
        self.staged.clear();
        self.staged.extend_from_slice(head);
        self.at = 0;
    }

    pub(super) fn is_done(&self) -> bool {
        self.upload.is_none() && self.at == self.staged.len()
    }

    fn poll(
        &mut self,
        backend: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        loop {
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

/// The head of a backend's answer, as the client's stream gets it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) fields: HeaderMap,
    body: ResponseBody,
    backend_keeps: bool,
}

/// What an exchange works with.
pub(super) struct Exchange<'x, 's> {
    pub(super) worker: &'x Rc<Worker>,
    pub(super) timer: &'x Timer,
    pub(super) request: &'x Request<'s>,
    pub(super) client: &'x Client,
    pub(super) backend: &'x mut BackendConnection,
    pub(super) uploader: &'x mut Uploader,
    pub(super) total_due: u64,
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
            } else if self.uploader.at < self.uploader.staged.len() {
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

    /// A head, interim ones included, which are not passed on: hyper has no place for them.
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
        let mut fields = HeaderMap::with_capacity(head.fields().len() + 8);
        self.request.site.policy.write_response_fields(
            self.request.forwarding.route,
            self.client,
            self.request.origin.as_deref(),
            &self.request.forwarding.request_id,
            head.fields(),
            &mut fields,
        );
        let length = head.fields().iter().find(|f| f.is("content-length"));
        match (&head.body, length) {
            (ResponseBody::Length(length), _) => {
                fields.put(b"content-length", length.to_string().as_bytes());
            }
            (ResponseBody::None, Some(field)) if head.status != 204 && head.status >= 200 => {
                fields.put(b"content-length", field.value);
            }
            _ => {}
        }
        let (status, body, backend_keeps, length) =
            (head.status, head.body, head.keep_alive, head.len);
        self.backend.input.consume(length);
        Ok(Some(Head {
            status,
            fields,
            body,
            backend_keeps,
        }))
    }
}

/// The body of a backend's answer.
#[derive(Debug)]
pub(crate) struct Http1Body {
    backend: Option<BackendConnection>,
    uploader: Uploader,
    upload_broke: bool,
    decoder: BodyDecoder,
    length: Option<u64>,
    trailers_left: bool,
    backend_keeps: bool,
    worker: Rc<Worker>,
    timer: Timer,
    idle: Duration,
    keep_alive: Duration,
    moved_at: u64,
    total_due: u64,
    received: Rc<Cell<u64>>,
}

impl Http1Body {
    pub(super) fn new(
        head: &Head,
        (backend, uploader): (BackendConnection, Uploader),
        worker: &Rc<Worker>,
        timer: Timer,
        timeouts: &Timeouts,
        total_due: u64,
        received: Rc<Cell<u64>>,
    ) -> Self {
        let decoder = BodyDecoder::response(&head.body);
        Self {
            length: match head.body {
                ResponseBody::None => Some(0),
                ResponseBody::Length(length) => Some(length),
                ResponseBody::Chunked | ResponseBody::UntilClose => None,
            },
            trailers_left: matches!(head.body, ResponseBody::Chunked),
            decoder,
            backend: Some(backend),
            uploader,
            upload_broke: false,
            backend_keeps: head.backend_keeps,
            worker: Rc::clone(worker),
            moved_at: timer.now_ms(),
            timer,
            idle: timeouts.upstream_idle,
            keep_alive: timeouts.upstream_keep_alive,
            total_due,
            received,
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.decoder.is_end() && !self.trailers_left
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The answer has ended: the connection may serve another request.
    pub(crate) fn release(mut self) {
        let Some(mut backend) = self.backend.take() else {
            return;
        };
        self.worker.buffers.take_back(&mut backend.input);
        if self.is_end_stream() && self.backend_keeps && self.uploader.is_done() {
            let now = self.timer.now_ms();
            self.worker.backends.keep(backend, now, self.keep_alive);
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.poll_next(cx) {
            Poll::Ready(Ok(frame)) => Poll::Ready(frame.map(Ok)),
            Poll::Ready(Err(end)) => Poll::Ready(Some(Err(Broken(end)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, End>> {
        let Some(backend) = &mut self.backend else {
            return Poll::Ready(Ok(None));
        };
        if !self.upload_broke && !self.uploader.is_done() {
            match self.uploader.poll(&mut backend.stream, cx) {
                Poll::Ready(Err(UploadError::Client(end))) => return Poll::Ready(Err(end)),
                Poll::Ready(Err(UploadError::Backend)) => self.upload_broke = true,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        loop {
            if self.decoder.is_end() {
                if std::mem::take(&mut self.trailers_left) {
                    let trailers = trailers(&self.decoder);
                    if !trailers.is_empty() {
                        return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
                    }
                }
                return Poll::Ready(Ok(None));
            }
            if !backend.input.is_empty() {
                let data = backend.input.data();
                let decoded = self
                    .decoder
                    .decode(data)
                    .map_err(|_| End::BackendMalformed)?;
                let bytes = decoded
                    .data
                    .and_then(|range| data.get(range))
                    .map(Bytes::copy_from_slice);
                let consumed = decoded.consumed;
                backend.input.consume(consumed);
                if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                    self.moved_at = self.timer.now_ms();
                    return Poll::Ready(Ok(Some(Frame::data(bytes))));
                }
                if consumed > 0 {
                    continue;
                }
            }
            if backend.input.is_full() {
                backend.input.widen_for_bulk();
            }
            self.worker.buffers.lend(&mut backend.input);
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
        if self.timer.is_past(self.total_due) {
            return Poll::Ready(Err(End::TotalTimeout));
        }
        let due = later(self.moved_at, self.idle);
        if self.timer.is_past(due) {
            return Poll::Ready(Err(End::BackendIdleTimeout));
        }
        self.timer.arm(due.min(self.total_due), cx);
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
