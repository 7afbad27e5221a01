//! A decided request of an HTTP/2 client on its way to a backend, whatever that speaks.
//!
//! Room  attempts and verdicts, as `h1::forward` does for HTTP/1.1 clients.

use std::cell::Cell;

use http::Request as HttpRequest;
use http::request::Parts;
use hyper::body::Body as _;

use super::back;
use super::body::{Http2Body, OutBody, Upload, UploadFacts};
use super::deliver::{Delivery, Source};
use super::over_http1::{Exchange, Http1Body, Uploader};
use super::session::OpenStream;
use super::stream::{give_up, translated};
use crate::attempts::Attempts;
use crate::end::End;
use crate::http1::RequestBody;
use crate::http2::Code;
use crate::life::Verdict;
use crate::policy::Client;
use crate::request::{Account, Request};
use crate::timers::{Timer, later};

/// Forwards to a backend that speaks HTTP/1.1; `head` is what it gets.
pub(super) async fn over_http1(
    open: &OpenStream,
    client: &Client,
    mut request: Request<'_>,
    head: Vec<u8>,
    upload: Option<Upload>,
    body: RequestBody,
) {
    let Some(upstream) = request.upstream() else {
        return give_up(open, request, client, End::Internal).await;
    };
    let worker = &open.session.worker;
    let timer = worker.timers.register();
    let total_due = later(timer.now_ms(), request.forwarding.route.total_timeout);
    let received = upload.as_ref().map(|upload| upload.facts().received);
    let received = received.unwrap_or_default();
    let mut attempts = Attempts::new(worker, upstream, request.forwarding.client_ip);
    let mut uploader = Uploader::new(head, upload, body == RequestBody::Chunked);
    loop {
        let connected = attempts.connection(&timer).await;
        request.account.attempts = attempts.count;
        let mut backend = match connected {
            Ok(backend) => backend,
            Err(end) => return give_up(open, request, client, end).await,
        };
        request.account.name_backend(&backend.lease);
        let exchange = Exchange {
            open,
            worker,
            timer: &timer,
            request: &request,
            client,
            backend: &mut backend,
            uploader: &mut uploader,
            total_due,
            interim: 0,
        };
        match exchange.head().await {
            Ok(answer) => {
                attempts.answered(backend.lease.backend(), answer.status);
                let timeouts = &request.site.settings.timeouts;
                let both = (backend, uploader);
                let body = Http1Body::new(&answer, both, &timer, timeouts, total_due);
                let mut source = Source::Http1(body);
                let status = answer.status;
                let clock = (&timer, total_due);
                deliver(open, &mut request, clock, &mut source, &received, status).await;
                if let Source::Http1(body) = source {
                    body.release(worker, timeouts.upstream_keep_alive);
                }
                return;
            }
            Err(interrupted) => {
                let verdict = attempts.judge(&backend, request.idempotent, &interrupted);
                if !(verdict == Verdict::Again && attempts.may_go_again()) {
                    return give_up(open, request, client, interrupted.end).await;
                }
                uploader.again();
            }
        }
    }
}

/// Forwards to a backend that speaks HTTP/2.
pub(super) async fn over_http2(
    open: &OpenStream,
    client: &Client,
    mut request: Request<'_>,
    parts: Parts,
    upload: Option<Upload>,
) {
    let Some(upstream) = request.upstream() else {
        return give_up(open, request, client, End::Internal).await;
    };
    let worker = &open.session.worker;
    let timer = worker.timers.register();
    let total_due = later(timer.now_ms(), request.forwarding.route.total_timeout);
    let UploadFacts {
        received,
        broke,
        ended_at,
    } = upload.as_ref().map(Upload::facts).unwrap_or_default();
    if upload.is_none() {
        ended_at.set(timer.now_ms());
    }
    let body = upload.map_or(OutBody::Empty, |upload| OutBody::Upload(Box::new(upload)));
    let mut attempts = Attempts::new(worker, upstream, request.forwarding.client_ip);
    let outgoing = HttpRequest::from_parts(parts, body);
    let patience = request.forwarding.route.upstream_first_byte;
    // The answer is awaited from the upload's end on; a stream both ways may be silent before.
    let due = || later(ended_at.get(), patience).min(total_due);
    let sent = back::send(worker, upstream, &mut attempts, &timer, outgoing, due).await;
    request.account.attempts = attempts.count;
    let (answer, place) = match sent {
        Ok(sent) => sent,
        // The client's own fault looks like the backend's from there.
        Err(end) => {
            let end = broke.get().unwrap_or(end);
            return give_up(open, request, client, end).await;
        }
    };
    request.account.name_backend(place.lease());
    let (fields, status, incoming) = translated(&request, client, answer);
    let has_ended = incoming.is_end_stream();
    open.session.with(|connection| {
        connection.head(open.id, status, has_ended, |block| {
            use crate::field::FieldSink as _;
            for (name, value) in &fields {
                block.put(name.as_str().as_bytes(), value.as_bytes());
            }
        });
    });
    let idle = request.site.settings.timeouts.upstream_idle;
    let body = Http2Body::new(incoming, &timer, idle, total_due, place);
    let mut source = Source::Http2(Box::new(body), bytes::Bytes::new());
    let clock = (&timer, total_due);
    deliver(open, &mut request, clock, &mut source, &received, status).await;
}

/// Delivers a backend's body and closes the request's account.
async fn deliver(
    open: &OpenStream,
    request: &mut Request<'_>,
    clock: (&Timer, u64),
    source: &mut Source,
    received: &Cell<u64>,
    status: u16,
) {
    let patience = request.site.settings.timeouts.body_idle;
    let end = if source.is_over() {
        End::Done
    } else {
        deliver_body(open, &mut request.account, clock, source, patience).await
    };
    request.account.received += received.get();
    request.account.close(end, status);
}

/// Delivers a body; what became of it. `total_due` as in [`Delivery`].
pub(super) async fn deliver_body(
    open: &OpenStream,
    account: &mut Account,
    (timer, total_due): (&Timer, u64),
    source: &mut Source,
    patience: std::time::Duration,
) -> End {
    let delivery = Delivery {
        open,
        timer,
        source,
        patience,
        total_due,
        sent: &mut account.sent,
    };
    match delivery.run().await {
        Ok(()) => End::Done,
        Err(end) => {
            if end == End::ClientWriteTimeout {
                open.breaks_with(Code::Cancel);
            }
            end
        }
    }
}
