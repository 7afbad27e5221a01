//! A request of an HTTP/1.1 client at a backend that speaks HTTP/2.
//!
//! ```text
//!   client ──decode──▶ Feed ▷ Fed ──▶ backend's stream
//!   client ◀──chunks── frames ◀────── backend's stream
//! ```
//!
//! Room  the two directions; connections to backends are `h2::back`'s.
//! Holds as in `exchange`: neither direction waits for the other, each wait has its deadline.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use hyper::HeaderMap;
use hyper::body::{Body as _, Frame, Incoming as Frames};

use super::answer::{Delivery, status_line};
use super::{Connection, Facts, Next};
use crate::attempts::Attempts;
use crate::buffer::Buffer;
use crate::end::End;
use crate::field::FieldSink as _;
use crate::h2::back;
use crate::h2::body::OutBody;
use crate::h2::slot::{Feed, slot};
use crate::h2::translated;
use crate::http1::{BodyDecoder, Version, chunk_header};
use crate::policy::may_forward_trailer;
use crate::request::Request;
use crate::stream::Stream;
use crate::timers::{Timer, later};
use crate::worker::Worker;

/// Reads a client's body for somebody else.
struct Feeder {
    feed: Option<Feed>,
    decoder: BodyDecoder,
    limit: u64,
    received: u64,
    moved_at: u64,
    waits_for_client: bool,
    /// The client waits for our word before it sends.
    owes_continue: bool,
}

impl Feeder {
    /// Moves what can be moved; an error is the client's.
    fn poll(
        &mut self,
        worker: &Worker,
        client: &mut Stream,
        input: &mut Buffer,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        while let Some(feed) = &self.feed {
            self.waits_for_client = false;
            match feed.poll_room(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(false) => {
                    self.feed = None;
                    return Ok(());
                }
                Poll::Ready(true) => {}
            }
            if self.decoder.is_end() {
                feed.end();
                self.feed = None;
                return Ok(());
            }
            if !input.is_empty() {
                if self.take(input)? {
                    self.moved_at = worker.timers.now_ms();
                    continue;
                }
                if self.decoder.is_end() {
                    continue;
                }
            }
            if std::mem::take(&mut self.owes_continue) {
                let _ = client.poll_write_some(cx, b"HTTP/1.1 100 Continue\r\n\r\n");
                let _ = client.poll_sent(cx);
            }
            worker.buffers.lend(input);
            input.make_room(64 * 1024);
            match input.poll_fill(client, cx) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return Err(End::ClientClosed),
                Poll::Pending => {
                    self.waits_for_client = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Decodes one run; true when something was taken.
    fn take(&mut self, input: &mut Buffer) -> Result<bool, End> {
        let data = input.data();
        let decoded = self.decoder.decode(data).map_err(|_| End::ClientBadBody)?;
        let bytes = decoded
            .data
            .and_then(|range| data.get(range))
            .map(Bytes::copy_from_slice);
        let consumed = decoded.consumed;
        input.consume(consumed);
        let Some(feed) = &self.feed else {
            return Ok(false);
        };
        if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
            self.received += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if self.received > self.limit {
                return Err(End::TooLarge);
            }
            feed.put(Ok(Frame::data(bytes)));
        } else if self.decoder.is_end() {
            let trailers = kept_trailers(&self.decoder);
            if !trailers.is_empty() {
                feed.put(Ok(Frame::trailers(trailers)));
            }
        }
        Ok(consumed > 0)
    }

    fn due(&self, idle: Duration) -> u64 {
        if self.feed.is_some() && self.waits_for_client {
            later(self.moved_at, idle)
        } else {
            u64::MAX
        }
    }
}

fn kept_trailers(decoder: &BodyDecoder) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for field in decoder.trailers() {
        if may_forward_trailer(field.name) {
            trailers.put(field.name, field.value);
        }
    }
    trailers
}

impl Connection {
    pub(super) async fn forward_over_http2(
        &mut self,
        mut request: Request<'_>,
        facts: Facts,
        parts: Parts,
    ) -> Next {
        let Some(upstream) = request.upstream() else {
            return self.give_up(request, facts, End::Internal, 500).await;
        };
        let worker = Rc::clone(&self.worker);
        let now = self.timer.now_ms();
        let (mut feeder, body) = self.feeder(&request, &facts);
        let total_due = later(now, request.forwarding.route.total_timeout);
        let patience = request.forwarding.route.upstream_first_byte;
        let body_idle = request.site.settings.timeouts.body_idle;
        let mut attempts = Attempts::new(&worker, upstream, request.forwarding.client_ip);
        let answer_timer = worker.timers.register();
        let has_body = !facts.has_no_body();
        let due = move || {
            if has_body {
                total_due
            } else {
                later(now, patience).min(total_due)
            }
        };
        let outgoing = http::Request::from_parts(parts, body);
        let sending = back::send(
            &worker,
            upstream,
            &mut attempts,
            &answer_timer,
            outgoing,
            due,
        );
        let awaited = self
            .feed_until(&mut feeder, body_idle, Box::pin(sending))
            .await;
        request.account.attempts = attempts.count;
        let (answer, place) = match awaited {
            Ok(both) => both,
            Err(end) => {
                request.account.received = feeder.received;
                let status = end.status().unwrap_or(502);
                return self.give_up(request, facts, end, status).await;
            }
        };
        request.account.name_backend(place.lease());
        let next = self.relay(request, facts, answer, feeder, total_due).await;
        drop(place);
        next
    }

    /// Brings the answer to the client.
    async fn relay(
        &mut self,
        mut request: Request<'_>,
        facts: Facts,
        answer: http::Response<Frames>,
        feeder: Feeder,
        total_due: u64,
    ) -> Next {
        let worker = Rc::clone(&self.worker);
        let now = self.timer.now_ms();
        let (fields, status, frames) = translated(&request, &self.client, answer);
        let stays = self.may_stay(request.site, &facts);
        let (out, delivery) = head(
            status,
            &fields,
            &request,
            facts,
            stays,
            frames.is_end_stream(),
        );
        let relay = Relay {
            worker: &worker,
            timer: &self.timer,
            stream: &mut self.stream,
            input: &mut self.input,
            feeder,
            frames,
            staged: out,
            at: 0,
            delivery,
            is_head: request.is_head,
            is_over: false,
            sent: 0,
            moved_at: now,
            total_due,
        };
        let (result, received, sent, is_fed) = relay.run(&request).await;
        request.account.received = received;
        request.account.sent = sent;
        let end = result.err().unwrap_or(End::Done);
        request.account.close(end, status);
        match (end, delivery) {
            (End::Done, Delivery::UntilClose) => Next::Close,
            (End::Done, _) if stays && is_fed => Next::Again,
            (End::Done, _) => Next::Close,
            _ => Next::Drop,
        }
    }

    /// Waits for the answer's head while the body is read for whoever sends it.
    async fn feed_until<T>(
        &mut self,
        feeder: &mut Feeder,
        body_idle: Duration,
        sending: impl Future<Output = Result<T, End>>,
    ) -> Result<T, End> {
        let mut sending = pin!(sending);
        let (stream, input, timer) = (&mut self.stream, &mut self.input, &self.timer);
        let worker = &self.worker;
        poll_fn(|cx| {
            if let Err(end) = feeder.poll(worker, stream, input, cx) {
                return Poll::Ready(Err(end));
            }
            if let Poll::Ready(result) = sending.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            let due = feeder.due(body_idle);
            if timer.is_past(due) {
                return Poll::Ready(Err(End::ClientBodyTimeout));
            }
            timer.arm(due, cx);
            Poll::Pending
        })
        .await
    }

    fn feeder(&self, request: &Request<'_>, facts: &Facts) -> (Feeder, OutBody) {
        let (feed, body) = if facts.has_no_body() {
            (None, OutBody::Empty)
        } else {
            let (feed, fed) = slot();
            (Some(feed), OutBody::Fed(fed))
        };
        let feeder = Feeder {
            feed,
            decoder: BodyDecoder::request(&facts.body),
            limit: request.body_limit(),
            received: 0,
            moved_at: self.timer.now_ms(),
            waits_for_client: false,
            owes_continue: facts.expects_continue && self.input.is_empty(),
        };
        (feeder, body)
    }
}

/// The answer's head and how its body will be framed.
fn head(
    status: u16,
    fields: &HeaderMap,
    request: &Request<'_>,
    facts: Facts,
    stays: bool,
    is_empty: bool,
) -> (Vec<u8>, Delivery) {
    let has_length = fields.contains_key(http::header::CONTENT_LENGTH);
    let bodiless = request.is_head || status == 204 || status == 304;
    let delivery = if bodiless || has_length || is_empty {
        Delivery::Sized
    } else if facts.version == Version::Http11 {
        Delivery::Chunked
    } else {
        Delivery::UntilClose
    };
    let mut out = Vec::with_capacity(1024);
    status_line(status, super::phrase(status).as_bytes(), &mut out);
    for (name, value) in fields {
        out.put(name.as_str().as_bytes(), value.as_bytes());
    }
    match delivery {
        Delivery::Chunked => out.put(b"Transfer-Encoding", b"chunked"),
        Delivery::Sized if !has_length && !bodiless => out.put(b"Content-Length", b"0"),
        Delivery::Sized | Delivery::UntilClose => {}
    }
    if !stays || delivery == Delivery::UntilClose {
        out.put(b"Connection", b"close");
    } else if facts.version == Version::Http10 {
        out.put(b"Connection", b"keep-alive");
    }
    out.extend_from_slice(b"\r\n");
    (out, delivery)
}

/// The answer on its way down, while the request's body may still go up.
struct Relay<'x> {
    worker: &'x Worker,
    timer: &'x Timer,
    stream: &'x mut Stream,
    input: &'x mut Buffer,
    feeder: Feeder,
    frames: Frames,
    staged: Vec<u8>,
    at: usize,
    delivery: Delivery,
    is_head: bool,
    is_over: bool,
    sent: u64,
    moved_at: u64,
    total_due: u64,
}

impl Relay<'_> {
    async fn run(mut self, request: &Request<'_>) -> (Result<(), End>, u64, u64, bool) {
        let timeouts = request.site.settings.timeouts;
        self.moved_at = self.timer.now_ms();
        let result = poll_fn(|cx| {
            if let Err(end) = self.feeder.poll(self.worker, self.stream, self.input, cx) {
                return Poll::Ready(Err(end));
            }
            let (down, waits_for) = self.poll_down(cx);
            if down.is_ready() {
                return down;
            }
            let idle = match waits_for {
                End::ClientWriteTimeout => timeouts.body_idle,
                _ => timeouts.upstream_idle,
            };
            let deadlines = [
                (later(self.moved_at, idle), waits_for),
                (self.total_due, End::TotalTimeout),
                (self.feeder.due(timeouts.body_idle), End::ClientBodyTimeout),
            ];
            let first = deadlines.into_iter().min_by_key(|(due, _)| *due);
            let (due, culprit) = first.unwrap_or((self.total_due, End::TotalTimeout));
            if self.timer.is_past(due) {
                return Poll::Ready(Err(culprit));
            }
            if self.worker.is_cut() {
                return Poll::Ready(Err(End::CutByDrain));
            }
            self.timer.arm(due, cx);
            Poll::Pending
        })
        .await;
        let is_fed = self.feeder.feed.is_none() && self.feeder.decoder.is_end();
        (result, self.feeder.received, self.sent, is_fed)
    }

    /// Also says whose turn it is when nothing moves.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> (Poll<Result<(), End>>, End) {
        loop {
            while let Some(rest) = self.staged.get(self.at..).filter(|rest| !rest.is_empty()) {
                match self.stream.poll_write_some(cx, rest) {
                    Poll::Ready(Ok(count)) => {
                        self.at += count;
                        self.moved_at = self.timer.now_ms();
                    }
                    Poll::Ready(Err(_)) => {
                        return (Poll::Ready(Err(End::ClientClosed)), End::ClientClosed);
                    }
                    Poll::Pending => return (Poll::Pending, End::ClientWriteTimeout),
                }
            }
            self.staged.clear();
            self.at = 0;
            if self.is_over {
                let sent = self.stream.poll_sent(cx);
                return (sent.map_err(|_| End::ClientClosed), End::ClientWriteTimeout);
            }
            match Pin::new(&mut self.frames).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.moved_at = self.timer.now_ms();
                    self.stage(frame);
                }
                Poll::Ready(Some(Err(_))) => {
                    return (
                        Poll::Ready(Err(End::BackendTruncated)),
                        End::BackendTruncated,
                    );
                }
                Poll::Ready(None) => self.finish(None),
                Poll::Pending => {
                    // What was encrypted must leave before we wait for the backend.
                    let _ = self.stream.poll_sent(cx);
                    return (Poll::Pending, End::BackendIdleTimeout);
                }
            }
        }
    }

    fn stage(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if data.is_empty() || self.is_head => {}
            Ok(data) => {
                self.sent += u64::try_from(data.len()).unwrap_or(u64::MAX);
                if self.delivery == Delivery::Chunked {
                    chunk_header(data.len(), &mut self.staged);
                }
                self.staged.extend_from_slice(&data);
                if self.delivery == Delivery::Chunked {
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
        if std::mem::replace(&mut self.is_over, true) || self.delivery != Delivery::Chunked {
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
