//! One request of an HTTP/2 client: decided, forwarded, answered.
//!
//! Room  from a head to the stream's end; the connection is `front`'s.
//! Holds a request is decided by the same policy as an HTTP/1.1 one, from the same view of it. A client that takes
//!       its request back ends the task that serves it.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;

use super::body::Upload;
use super::deliver::Source;
use super::forward::{deliver_body, over_http1, over_http2};
use super::session::OpenStream;
use super::tasks::Desk;
use crate::access_log::{Opening, Record};
use crate::end::End;
use crate::field::{Field, FieldSink as _};
use crate::h1::{answered_end, host_of, printable};
use crate::http1::RequestBody;
use crate::http2::RequestHead;
use crate::life::is_idempotent;
use crate::outbound;
use crate::policy::{Answer, Asked, Client, Decision, HttpVersion, RequestId};
use crate::request::{Account, Request, accept_class};
use crate::settings::UpstreamProtocol;
use crate::site::Site;
use crate::target;
use crate::timers::NEVER;
use crate::totals::Count;

/// A request that came.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) open: OpenStream,
    /// `None` where it is too large.
    pub(super) head: Option<RequestHead>,
    pub(super) has_ended: bool,
}

/// Serves one request after the other.
pub(super) async fn serve_streams(desk: Rc<Desk<Job>>) -> Infallible {
    loop {
        let Job {
            open,
            head,
            has_ended,
        } = desk.next().await;
        let mut serving = pin!(serve(&open, head.unwrap_or_default(), has_ended));
        poll_fn(|cx| {
            if open.is_gone(cx) {
                return Poll::Ready(());
            }
            serving.as_mut().poll(cx)
        })
        .await;
    }
}

async fn serve(open: &OpenStream, head: RequestHead, has_ended: bool) {
    let session = &open.session;
    let worker = &session.worker;
    let site = worker.site();
    let mut client = session.client;
    let log = site.access_log.as_ref();
    let record = log.map(|_| record(&site, &client, &head));
    let mut account = Account::open(worker, &site, Count::Http2, Instant::now(), record);
    let random = fastrand::u128(..);
    let accept = accept_class(head.field("accept"));
    let origin = head
        .field("origin")
        .and_then(|o| std::str::from_utf8(o).ok());
    let is_head = head.method() == "HEAD";
    let view = view(&head, has_ended, site.settings.limits.head_lines);
    if let Ok(view) = &view {
        let covered = session.covered.as_ref();
        client.covers_host = covered.map(|covered| covered.covers(host_of(view.authority)));
    }
    let to = |account| Answering {
        site: &site,
        client: &client,
        origin,
        is_head,
        account,
    };
    let view = match view {
        Ok(view) => view,
        Err((status, end)) => {
            let id = RequestId::generated(random);
            let answer = site.policy.error(status, end.as_str(), accept, &id);
            return respond(open, &answer, to(account)).await;
        }
    };
    let fields: Vec<Field<'_>> = head
        .fields()
        .filter(|field| field.name != b"host")
        .collect();
    let asked = view.asked(&head, &fields);
    let now = worker.since_start();
    let state = &worker.shared.state;
    let forwarding = match site.policy.decide(&asked, &client, state, now, random) {
        Decision::Forward(forwarding) => forwarding,
        Decision::Answer(answer) => {
            account.route = answer.route;
            account.note(&answer.request_id, answer.client_ip);
            return respond(open, &answer, to(account)).await;
        }
    };
    account.route = Some(forwarding.route.index);
    account.note(&forwarding.request_id, Some(forwarding.client_ip));
    let request = Request {
        site: &site,
        account,
        is_head,
        idempotent: is_idempotent(asked.method),
        accept,
        origin: origin.map(str::to_owned),
        upgrade: None,
        forwarding,
    };
    forward(open, &client, request, &asked, view.body).await;
}

async fn forward(
    open: &OpenStream,
    client: &Client,
    mut request: Request<'_>,
    asked: &Asked<'_>,
    body: RequestBody,
) {
    let Some(upstream) = request.upstream() else {
        return give_up(open, request, client, End::Internal).await;
    };
    let route = request.forwarding.route;
    request.account.name_upstream(upstream, route);
    let upload =
        (body != RequestBody::None).then(|| Upload::new(open, request.site, request.body_limit()));
    let (policy, forwarding) = (&request.site.policy, &request.forwarding);
    match upstream.protocol {
        UpstreamProtocol::Http1 => {
            let mut head = open.session.worker.heads.lend();
            outbound::http1_head(policy, forwarding, asked, client, &body, &mut head);
            over_http1(open, client, request, head, upload, body).await;
        }
        UpstreamProtocol::Http2 => {
            let is_tls = upstream.tls.is_some();
            let parts = outbound::http2_parts(policy, forwarding, asked, client, is_tls);
            match parts {
                // What the rarer kind of backend needs is not part of every stream's memory.
                Some(parts) => Box::pin(over_http2(open, client, request, parts, upload)).await,
                None => give_up(open, request, client, End::ClientMalformed).await,
            }
        }
    }
}

fn record(site: &Site, client: &Client, head: &RequestHead) -> Box<Record> {
    let listener = site.listeners.get(client.listener);
    let opening = Opening {
        client,
        listener: listener.map(|l| l.name.clone()).unwrap_or_default(),
        protocol: "HTTP/2",
        method: head.method(),
        host: head.authority().unwrap_or_default().to_owned(),
        path: head.path().unwrap_or_default().to_owned(),
    };
    Record::open(opening, |name| head.field(name).map(printable))
}

/// What is known before a request is decided.
struct View<'q> {
    authority: &'q str,
    path: Option<target::Normalised<'q>>,
    body: RequestBody,
}

impl View<'_> {
    fn asked<'r>(&'r self, head: &'r RequestHead, fields: &'r [Field<'r>]) -> Asked<'r> {
        Asked {
            method: head.method(),
            host: self.authority,
            path: self.path.as_ref().map_or("*", |path| path.path.as_ref()),
            query: self.path.as_ref().and_then(|path| path.query),
            fields,
            version: HttpVersion::Http2,
            upgrade: None,
            body_length: match self.body {
                RequestBody::Length(length) => Some(length),
                RequestBody::None | RequestBody::Chunked => None,
            },
        }
    }
}

/// Checks what both versions have in common.
fn view(head: &RequestHead, has_ended: bool, lines_max: usize) -> Result<View<'_>, (u16, End)> {
    let malformed = Err((400, End::ClientMalformed));
    if head.method().is_empty() || head.count() > lines_max {
        return Err((431, End::ClientMalformed));
    }
    let Some(path) = head.path() else {
        return Err((405, End::NoRoute));
    };
    let mut hosts = head.fields().filter(|field| field.name == b"host");
    let host = hosts.next().map(|field| std::str::from_utf8(field.value));
    let authority = match (head.authority(), host) {
        (Some(authority), None) => authority,
        (None, Some(Ok(host))) => host,
        // Both may be there and must agree (RFC 9113 section 8.3.1).
        (Some(authority), Some(Ok(host))) if authority.eq_ignore_ascii_case(host) => authority,
        _ => return malformed,
    };
    if hosts.next().is_some() || !crate::http1::is_authority(authority) {
        return malformed;
    }
    let path = if path == "*" {
        None
    } else {
        Some(target::normalise(path).or(Err((400, End::ClientMalformed)))?)
    };
    // The connection holds the body to its length.
    let body = match head.length() {
        _ if has_ended => RequestBody::None,
        Some(0) => RequestBody::None,
        Some(length) => RequestBody::Length(length),
        None => RequestBody::Chunked,
    };
    Ok(View {
        authority,
        path,
        body,
    })
}

/// A backend's head as the client gets it.
pub(crate) fn translated(
    request: &Request<'_>,
    client: &Client,
    answer: Response<Incoming>,
) -> (http::HeaderMap, u16, Incoming) {
    let (head, incoming) = answer.into_parts();
    let fields: Vec<Field<'_>> = head
        .headers
        .iter()
        .map(|(name, value)| Field {
            name: name.as_str().as_bytes(),
            value: value.as_bytes(),
        })
        .collect();
    let mut out = http::HeaderMap::with_capacity(fields.len() + 8);
    request.site.policy.write_response_fields(
        request.forwarding.route,
        client,
        request.origin.as_deref(),
        &request.forwarding.request_id,
        &fields,
        &mut out,
    );
    if let Some(length) = head.headers.get(http::header::CONTENT_LENGTH) {
        out.put(b"content-length", length.as_bytes());
    }
    (out, head.status.as_u16(), incoming)
}

pub(super) async fn give_up(open: &OpenStream, request: Request<'_>, client: &Client, end: End) {
    let status = end.status().unwrap_or(502);
    let id = request.forwarding.request_id;
    let policy = &request.site.policy;
    let answer = policy.error(status, end.as_str(), request.accept, &id);
    let to = Answering {
        site: request.site,
        client,
        origin: request.origin.as_deref(),
        is_head: request.is_head,
        account: request.account,
    };
    Box::pin(respond(open, &answer, to)).await;
}

/// Whom an answer of our own is for.
struct Answering<'a> {
    site: &'a Site,
    client: &'a Client,
    origin: Option<&'a str>,
    is_head: bool,
    account: Account,
}

/// An answer of our own.
async fn respond(open: &OpenStream, answer: &Answer, mut to: Answering<'_>) {
    let has_body = answer.status != 204 && answer.status != 304;
    let bytes = if has_body && !to.is_head {
        answer.body.clone()
    } else {
        Bytes::new()
    };
    let policy = &to.site.policy;
    open.session.with(|connection| {
        connection.head(open.id, answer.status, bytes.is_empty(), |block| {
            policy.write_answer_fields(answer, to.client, to.origin, block);
            if has_body {
                let mut digits = itoa::Buffer::new();
                block.put(
                    b"content-length",
                    digits.format(answer.body.len()).as_bytes(),
                );
            }
        });
    });
    let mut end = answered_end(answer.status, answer.end);
    if !bytes.is_empty() {
        let timer = open.session.worker.timers.register();
        let patience = to.site.settings.timeouts.body_idle;
        let source = &mut Source::Whole(bytes);
        let delivered =
            deliver_body(open, &mut to.account, (&timer, NEVER), source, patience).await;
        if delivered != End::Done {
            end = delivered;
        }
    }
    to.account.close(end, answer.status);
}
