//! One request at one backend over HTTP/1.1: its body goes up while the answer comes down.
//!
//! ```text
//!   client ══ upload (Pipe) ══▶ backend
//!   client ◀═ download ════════ backend      head awaited ──▶ head written anew, body (Pipe)
//! ```
//!
//! Room  the two directions of one exchange and every deadline on the way; what a failure leads to is `life`'s.
//! Holds neither direction waits for the other; each wait has its own deadline and its own culprit.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Facts;
use super::answer::Delivery;
use super::answering::{Answer, final_answer, interim};
use super::pipe::{Framing, Pipe, PipeError, WaitsFor};
use crate::backend::BackendConnection;
use crate::buffer::Buffer;
use crate::end::End;
use crate::http1::{BodyDecoder, HeadLimits, ResponseTo, parse_response};
use crate::life::Stage;
use crate::policy::{Client, may_forward_trailer};
use crate::request::Request;
use crate::stream::Stream;
use crate::timers::{NEVER, Timer, Wait, later};
use crate::worker::Worker;

/// What an exchange works with.
pub(super) struct Parties<'x, 's> {
    pub(super) worker: &'x Worker,
    pub(super) timer: &'x Timer,
    pub(super) request: &'x Request<'s>,
    pub(super) client_facts: &'x Client,
    pub(super) facts: Facts,
    pub(super) client: &'x mut Stream,
    pub(super) input: &'x mut Buffer,
    pub(super) backend: &'x mut BackendConnection,
    /// The client's connection may serve another request.
    pub(super) stays: bool,
}

/// An exchange that came to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replied {
    pub(crate) status: u16,
    pub(crate) client_stays: bool,
    pub(crate) backend_stays: bool,
    /// 101: what follows is a tunnel.
    pub(crate) is_tunnel: bool,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// An exchange that broke.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted {
    pub(crate) end: End,
    pub(crate) stage: Stage,
    pub(crate) body_was_sent: bool,
    /// What the client was told already; 0: nothing.
    pub(crate) status: u16,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// The exchange and its clocks, in milliseconds of the worker's clock.
pub(super) struct Exchange<'x, 's> {
    parties: Parties<'x, 's>,
    upload: Pipe,
    upload_broke: bool,
    head_bytes: u64,
    continue_at: usize,
    answer: Answer,
    began_at: u64,
    upload_seen: u64,
    upload_moved_at: u64,
    download_seen: u64,
    download_moved_at: u64,
    rate_mark_at: u64,
    rate_mark_read: u64,
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl<'x, 's> Exchange<'x, 's> {
    /// `staged` is the request's head.
    pub(super) fn new(parties: Parties<'x, 's>, staged: Vec<u8>) -> Self {
        let facts = &parties.facts;
        let framing = match facts.body {
            crate::http1::RequestBody::Chunked => Framing::Chunked,
            crate::http1::RequestBody::None | crate::http1::RequestBody::Length(_) => {
                Framing::Plain
            }
        };
        let head_bytes = u64::try_from(staged.len()).unwrap_or(u64::MAX);
        let now = parties.timer.now_ms();
        let expects = facts.expects_continue && parties.input.is_empty() && !facts.has_no_body();
        Self {
            upload: Pipe::new(
                staged,
                BodyDecoder::request(&facts.body),
                framing,
                parties.request.body_limit(),
                may_forward_trailer,
            ),
            upload_broke: false,
            head_bytes,
            continue_at: if expects { 0 } else { CONTINUE.len() },
            answer: Answer::Awaited {
                interim: Vec::new(),
                interim_at: 0,
                interim_count: 0,
            },
            began_at: now,
            upload_seen: 0,
            upload_moved_at: now,
            download_seen: 0,
            download_moved_at: now,
            rate_mark_at: now,
            rate_mark_read: 0,
            parties,
        }
    }

    /// Until the answer has been delivered, or something broke.
    pub(super) async fn run(mut self) -> (Result<Replied, Interrupted>, Vec<u8>) {
        let first = self.upload.absorb(self.parties.input);
        let result = match first {
            Err(error) => Err(self.interrupted(upload_end(&error))),
            Ok(()) => poll_fn(|cx| self.poll(cx)).await,
        };
        self.parties.timer.disarm();
        if let Answer::Flows { pipe, .. } = self.answer {
            self.parties.worker.heads.take_back(pipe.into_staged());
        }
        (result, self.upload.into_staged())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Replied, Interrupted>> {
        if let Err(end) = self.poll_upload(cx) {
            return Poll::Ready(Err(self.interrupted(end)));
        }
        match self.poll_answer(cx) {
            Ok(false) => {}
            Ok(true) => return Poll::Ready(Ok(self.replied())),
            Err(end) => return Poll::Ready(Err(self.interrupted(end))),
        }
        if let Err(end) = self.watch_client(cx) {
            return Poll::Ready(Err(self.interrupted(end)));
        }
        self.note_progress();
        let (due, culprit) = self.next_deadline();
        if self.parties.timer.is_past(due) {
            return Poll::Ready(Err(self.interrupted(culprit)));
        }
        if self.parties.worker.is_cut() {
            return Poll::Ready(Err(self.interrupted(End::CutByDrain)));
        }
        self.parties.timer.arm_for(Wait::Answer, due, cx);
        Poll::Pending
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if self.upload.is_done() || self.upload_broke {
            return Ok(());
        }
        // The client waits for our word before it sends the body (RFC 9110 section 10.1.1): by now there is a backend.
        while let Some(rest) = CONTINUE.get(self.continue_at..).filter(|r| !r.is_empty()) {
            if matches!(self.answer, Answer::Flows { .. }) {
                break;
            }
            match self.parties.client.poll_write_some(cx, rest) {
                Poll::Ready(Ok(count)) => self.continue_at += count,
                Poll::Ready(Err(_)) => return Err(End::ClientClosed),
                Poll::Pending => return Ok(()),
            }
            if self.continue_at == CONTINUE.len() {
                let _ = self.parties.client.poll_sent(cx);
            }
        }
        let parties = &mut self.parties;
        let polled = self.upload.poll(
            parties.client,
            parties.input,
            &mut parties.backend.stream,
            cx,
        );
        match polled {
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
            // It may have answered before it closed: its answer decides.
            Poll::Ready(Err(PipeError::Sink)) => {
                self.upload_broke = true;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(upload_end(&error)),
        }
    }

    /// A client that leaves while its backend is waited for takes its request with it: a backend that hangs would hold
    /// the connection, its place and a drain for as long as its deadline. A request behind this one is read ahead, and
    /// ends the watch.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let parties = &mut self.parties;
        let is_waited_for = matches!(self.answer, Answer::Awaited { .. });
        if !is_waited_for || !self.upload.is_done() || !parties.input.is_empty() {
            return Ok(());
        }
        parties.worker.buffers.lend(parties.input);
        match parties.input.poll_fill(parties.client, cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(count)) if count > 0 => Ok(()),
            Poll::Ready(_) => Err(End::ClientClosed),
        }
    }

    /// True once the answer has been delivered.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        while let Answer::Awaited { .. } = self.answer {
            if !self.poll_head(cx)? {
                return Ok(false);
            }
        }
        let Answer::Flows { pipe, .. } = &mut self.answer else {
            return Ok(false);
        };
        let BackendConnection { stream, input, .. } = &mut *self.parties.backend;
        match pipe.poll(stream, input, self.parties.client, cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(PipeError::Sink)) => Err(End::ClientClosed),
            Poll::Ready(Err(PipeError::Malformed(refused))) => {
                tracing::debug!(%refused, "a backend's body was refused");
                Err(End::BackendMalformed)
            }
            Poll::Ready(Err(_)) => Err(End::BackendTruncated),
        }
    }

    /// True when the answer has come a step further; false: wait.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if !self.poll_interim(cx)? {
            return Ok(false);
        }
        let limits = &self.parties.request.site.settings.limits;
        let backend = &mut *self.parties.backend;
        if !backend.input.is_empty() && self.read_head()? {
            return Ok(true);
        }
        let backend = &mut *self.parties.backend;
        if backend.input.len() >= limits.response_head_bytes {
            return Err(End::BackendMalformed);
        }
        self.parties.worker.buffers.lend(&mut backend.input);
        backend.input.make_room(limits.response_head_bytes);
        match backend.input.poll_fill(&mut backend.stream, cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(count)) if count > 0 => {
                self.download_moved_at = self.parties.timer.now_ms();
                Ok(true)
            }
            Poll::Ready(_) if backend.input.is_empty() => Err(End::BackendClosed),
            Poll::Ready(_) => Err(End::BackendMalformed),
        }
    }

    /// Writes what interim answers there are; false: wait.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Answer::Awaited {
            interim,
            interim_at,
            ..
        } = &mut self.answer
        else {
            return Ok(true);
        };
        while let Some(rest) = interim.get(*interim_at..).filter(|rest| !rest.is_empty()) {
            match self.parties.client.poll_write_some(cx, rest) {
                Poll::Ready(Ok(count)) => *interim_at += count,
                Poll::Ready(Err(_)) => return Err(End::ClientClosed),
                Poll::Pending => return Ok(false),
            }
            if *interim_at == interim.len() {
                let _ = self.parties.client.poll_sent(cx);
            }
        }
        Ok(true)
    }

    /// Reads a head out of the backend's buffer; false: it is not complete.
    fn read_head(&mut self) -> Result<bool, End> {
        let request = self.parties.request;
        let limits = &request.site.settings.limits;
        let head_limits = HeadLimits {
            bytes: limits.response_head_bytes,
            lines: limits.head_lines,
        };
        let to = ResponseTo {
            is_head: request.is_head,
            is_connect: false,
        };
        let data = self.parties.backend.input.data();
        let head = match parse_response(data, &head_limits, to) {
            Ok(None) => return Ok(false),
            Ok(Some(head)) => head,
            Err(refused) => {
                let backend = self.parties.backend.lease.backend().label();
                tracing::debug!(%refused, backend, "a backend's head was refused");
                return Err(End::BackendMalformed);
            }
        };
        let length = head.len;
        if (100..200).contains(&head.status) && head.status != 101 {
            interim(&mut self.answer, &head, request, &self.parties)?;
            self.parties.backend.input.consume(length);
            return Ok(true);
        }
        self.answer = final_answer(&head, request, &self.parties)?;
        self.parties.backend.input.consume(length);
        if let Answer::Flows {
            pipe,
            is_tunnel: false,
            ..
        } = &mut self.answer
        {
            pipe.absorb(&mut self.parties.backend.input)
                .map_err(|_| End::BackendMalformed)?;
        }
        Ok(true)
    }

    fn note_progress(&mut self) {
        let now = self.parties.timer.now_ms();
        if self.upload.progress() != self.upload_seen {
            self.upload_seen = self.upload.progress();
            self.upload_moved_at = now;
        }
        if let Answer::Flows { pipe, .. } = &self.answer
            && pipe.progress() != self.download_seen
        {
            self.download_seen = pipe.progress();
            self.download_moved_at = now;
        }
        // The rate is judged only while it is the client that is waited for.
        if self.upload.is_done() || self.upload.waits_for() == WaitsFor::Sink {
            self.rate_mark_at = now;
            self.rate_mark_read = self.upload.read();
        }
    }

    /// The earliest deadline, and who is to blame when it passes.
    fn next_deadline(&mut self) -> (u64, End) {
        let request = self.parties.request;
        let timeouts = &request.site.settings.timeouts;
        let total = request.forwarding.route.total_timeout;
        let mut first = (later(self.began_at, total), End::TotalTimeout);
        let mut consider = |from: u64, after: Duration, end: End| {
            let due = later(from, after);
            if due < first.0 {
                first = (due, end);
            }
        };
        let is_uploading = !self.upload.is_done() && !self.upload_broke;
        if is_uploading {
            match self.upload.waits_for() {
                WaitsFor::Source => {
                    let idle = timeouts.body_idle;
                    consider(self.upload_moved_at, idle, End::ClientBodyTimeout);
                    if let Some(from) = rate_mark(
                        self.rate_mark_at,
                        self.upload.read() - self.rate_mark_read,
                        timeouts.body_rate_min,
                        idle,
                        self.parties.timer.now_ms(),
                    ) {
                        consider(from, idle, End::ClientBodyTimeout);
                    } else {
                        self.rate_mark_at = self.parties.timer.now_ms();
                        self.rate_mark_read = self.upload.read();
                    }
                }
                WaitsFor::Sink => {
                    consider(
                        self.upload_moved_at,
                        timeouts.upstream_idle,
                        End::BackendIdleTimeout,
                    );
                }
            }
        }
        match &self.answer {
            Answer::Awaited { .. } if !is_uploading => {
                let patience = request.forwarding.route.upstream_first_byte;
                let from = self.upload_moved_at.max(self.download_moved_at);
                consider(from, patience, End::BackendFirstByteTimeout);
            }
            Answer::Awaited { .. } => {}
            Answer::Flows { pipe, .. } => match pipe.waits_for() {
                WaitsFor::Source => {
                    let idle = timeouts.upstream_idle;
                    consider(self.download_moved_at, idle, End::BackendIdleTimeout);
                }
                WaitsFor::Sink => {
                    let idle = timeouts.body_idle;
                    consider(self.download_moved_at, idle, End::ClientWriteTimeout);
                }
            },
        }
        debug_assert!(first.0 < NEVER);
        first
    }

    fn replied(&self) -> Replied {
        let Answer::Flows {
            pipe,
            status,
            delivery,
            backend_keeps,
            is_tunnel,
            closes,
        } = &self.answer
        else {
            unreachable!("an answer that was delivered had begun");
        };
        let upload_is_over = self.upload.is_done();
        Replied {
            status: *status,
            client_stays: !closes
                && upload_is_over
                && self.upload.source_is_done()
                && *delivery != Delivery::UntilClose,
            backend_stays: *backend_keeps && upload_is_over && !is_tunnel,
            is_tunnel: *is_tunnel,
            received: self.upload.body_bytes(),
            sent: pipe.body_bytes(),
        }
    }

    fn interrupted(&self, end: End) -> Interrupted {
        let (stage, status, sent) = match &self.answer {
            Answer::Flows { pipe, status, .. } => (Stage::Answering, *status, pipe.body_bytes()),
            Answer::Awaited { .. } if self.upload.is_done() => (Stage::Waiting, 0, 0),
            Answer::Awaited { .. } => (Stage::Sending, 0, 0),
        };
        Interrupted {
            end,
            stage,
            body_was_sent: self.upload.body_bytes() > 0 || self.upload.written() > self.head_bytes,
            status,
            received: self.upload.body_bytes(),
            sent,
        }
    }
}

/// From when the least rate is judged; `None`: the window ended well and the next one begins.
fn rate_mark(from: u64, read: u64, rate_min: u32, window: Duration, now: u64) -> Option<u64> {
    let wanted = u64::from(rate_min).saturating_mul(window.as_secs().max(1));
    (later(from, window) > now || read < wanted).then_some(from)
}

fn upload_end(error: &PipeError) -> End {
    match error {
        PipeError::Source | PipeError::Truncated => End::ClientClosed,
        PipeError::Malformed(_) => End::ClientBadBody,
        PipeError::TooLarge => End::TooLarge,
        PipeError::Sink => End::BackendClosed,
    }
}
