//! A decided request of an HTTP/2 client on its way to a backend, whatever that speaks.
//!
//! Room  attempts and verdicts, as `h1::forward` does for HTTP/1.1 clients.

use std::rc::Rc;

use http::request::Parts;
use http::{Request as HttpRequest, Response};

use super::back;
use super::body::{FrontBody, Http2Body, OutBody, Upload, UploadFacts};
use super::front::OpenStream;
use super::over_http1::{Exchange, Http1Body, Uploader};
use super::stream::{give_up, response, translated};
use crate::attempts::Attempts;
use crate::end::End;
use crate::http1::RequestBody;
use crate::life::{Situation, Verdict, verdict};
use crate::policy::Client;
use crate::request::Request;
use crate::timers::later;
use crate::worker::Worker;

pub(super) async fn over_http1(
    worker: &Rc<Worker>,
    client: &Client,
    mut request: Request<'_>,
    head: Vec<u8>,
    upload: Option<Upload>,
    body: RequestBody,
    open: OpenStream,
) -> Response<FrontBody> {
    let Some(upstream) = request.upstream() else {
        return give_up(request, client, End::Internal, open);
    };
    let timer = worker.timers.register();
    let total_due = later(timer.now_ms(), request.forwarding.route.total_timeout);
    let received = upload.as_ref().map(|upload| upload.facts().received);
    let mut attempts = Attempts::new(worker, upstream, request.forwarding.client_ip);
    let mut uploader = Uploader::new(head.clone(), upload, body == RequestBody::Chunked);
    loop {
        let connected = attempts.connection(&timer).await;
        request.account.attempts = attempts.count;
        let mut backend = match connected {
            Ok(backend) => backend,
            Err(end) => return give_up(request, client, end, open),
        };
        request.account.name_backend(&backend.lease);
        let exchange = Exchange {
            worker,
            timer: &timer,
            request: &request,
            client,
            backend: &mut backend,
            uploader: &mut uploader,
            total_due,
        };
        match exchange.head().await {
            Ok(mut answer) => {
                attempts.answered(backend.lease.backend(), answer.status);
                let fields = std::mem::take(&mut answer.fields);
                let status = answer.status;
                let received = received.unwrap_or_default();
                let timeouts = &request.site.settings.timeouts;
                let both = (backend, uploader);
                let body =
                    Http1Body::new(&answer, both, worker, timer, timeouts, total_due, received);
                worker.heads.take_back(head);
                let permits = request.forwarding.take_permits();
                let body = FrontBody::http1(body, status, request.account, open).with(permits);
                return response(status, fields, body);
            }
            Err(interrupted) => {
                let situation = Situation {
                    stage: interrupted.stage,
                    idempotent: request.idempotent,
                    body_was_sent: interrupted.body_was_sent,
                    reused: backend.reused,
                    attempts_left: true,
                };
                let is_backends = interrupted.end.as_str().starts_with("backend:");
                if is_backends && !(backend.reused && interrupted.end == End::BackendClosed) {
                    attempts.broke(backend.lease.backend());
                }
                let again = verdict(&situation, interrupted.end) == Verdict::Again;
                if !(again && attempts.may_go_again()) {
                    return give_up(request, client, interrupted.end, open);
                }
                uploader.again(&head);
            }
        }
    }
}

pub(super) async fn over_http2(
    worker: &Rc<Worker>,
    client: &Client,
    mut request: Request<'_>,
    parts: Parts,
    upload: Option<Upload>,
    open: OpenStream,
) -> Response<FrontBody> {
    let Some(upstream) = request.upstream() else {
        return give_up(request, client, End::Internal, open);
    };
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
    match sent {
        Ok((answer, place)) => {
            request.account.name_backend(place.lease());
            let (fields, status, incoming) = translated(&request, client, answer);
            let idle = request.site.settings.timeouts.upstream_idle;
            let body = Http2Body::new(incoming, timer, idle, total_due, place, received);
            let permits = request.forwarding.take_permits();
            let body = FrontBody::http2(body, status, request.account, open).with(permits);
            response(status, fields, body)
        }
        // The client's own fault looks like the backend's from there.
        Err(end) => give_up(request, client, broke.get().unwrap_or(end), open),
    }
}
