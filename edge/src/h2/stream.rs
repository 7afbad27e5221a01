//! One request of an HTTP/2 client: decided, forwarded, answered.
//!
//! Room  from hyper's request to hyper's response; the connection is `front`'s.
//! Holds a request is decided by the same policy as an HTTP/1.1 one, from the same view of it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderValue, Request as HttpRequest, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use super::body::{FrontBody, Upload};
use super::forward::{over_http1, over_http2};
use super::front::{OpenStream, Session};
use crate::access_log::{Opening, Record};
use crate::end::End;
use crate::field::{Field, FieldSink as _};
use crate::h1::{answered_end, host_of, printable};
use crate::http1::RequestBody;
use crate::life::is_idempotent;
use crate::outbound;
use crate::policy::{Answer, Asked, Client, Decision, HttpVersion, RequestId};
use crate::request::{Account, Request, accept_class};
use crate::settings::UpstreamProtocol;
use crate::site::Site;
use crate::target;
use crate::totals::Count;

/// Answers one request.
pub(super) async fn serve_stream(
    session: Rc<Session>,
    request: HttpRequest<Incoming>,
) -> Response<FrontBody> {
    let open = OpenStream::new(&session);
    let site = session.worker.site();
    let (parts, incoming) = request.into_parts();
    let stream = StreamRequest::new(&session, &site, parts, incoming);
    Box::pin(stream.serve(open)).await
}

struct StreamRequest<'q> {
    session: &'q Rc<Session>,
    site: &'q Arc<Site>,
    parts: Parts,
    incoming: Incoming,
    client: Client,
}

/// What is known before a request is decided.
struct View<'q> {
    authority: &'q str,
    path: Option<target::Normalised<'q>>,
    body: RequestBody,
}

impl<'q> StreamRequest<'q> {
    fn new(
        session: &'q Rc<Session>,
        site: &'q Arc<Site>,
        mut parts: Parts,
        incoming: Incoming,
    ) -> Self {
        join_cookies(&mut parts);
        Self {
            client: session.client,
            session,
            site,
            parts,
            incoming,
        }
    }

    async fn serve(mut self, open: OpenStream) -> Response<FrontBody> {
        let worker = Rc::clone(&self.session.worker);
        let record = self.site.access_log.is_some().then(|| self.record());
        let mut account = Account::open(&worker, self.site, Count::Http2, Instant::now(), record);
        let random = fastrand::u128(..);
        let site = Arc::clone(self.site);
        let parts = std::mem::replace(&mut self.parts, HttpRequest::new(()).into_parts().0);
        let field = |name: &str| parts.headers.get(name).map(HeaderValue::as_bytes);
        let accept = accept_class(field("accept"));
        let origin = field("origin").and_then(|origin| std::str::from_utf8(origin).ok());
        let is_head = parts.method == http::Method::HEAD;
        let view = view(&parts, &self.incoming, site.settings.limits.head_lines);
        if let Ok(view) = &view {
            let covered = self.session.covered.as_ref();
            self.client.covers_host =
                covered.map(|covered| covered.covers(host_of(view.authority)));
        }
        let client = self.client;
        let answering = |account, open| Answering {
            site: &site,
            client: &client,
            origin,
            is_head,
            account,
            open,
        };
        let view = match view {
            Ok(view) => view,
            Err((status, end)) => {
                let id = RequestId::generated(random);
                let answer = site.policy.error(status, end.as_str(), accept, &id);
                return respond(&answer, answering(account, open));
            }
        };
        let fields = fields(&parts);
        let asked = view.asked(&parts, &fields);
        let now = worker.since_start();
        let state = &worker.shared.state;
        let decision = site.policy.decide(&asked, &client, state, now, random);
        let forwarding = match decision {
            Decision::Forward(forwarding) => forwarding,
            Decision::Answer(answer) => {
                account.route = answer.route;
                account.note(&answer.request_id, answer.client_ip);
                return respond(&answer, answering(account, open));
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
        self.forward(request, &asked, view.body, open).await
    }

    async fn forward(
        self,
        mut request: Request<'_>,
        asked: &Asked<'_>,
        body: RequestBody,
        open: OpenStream,
    ) -> Response<FrontBody> {
        let Some(upstream) = request.upstream() else {
            return give_up(request, &self.client, End::Internal, open);
        };
        request
            .account
            .name_upstream(upstream, request.forwarding.route);
        let worker = Rc::clone(&self.session.worker);
        let upload = (body != RequestBody::None)
            .then(|| Upload::new(self.incoming, &worker, request.site, request.body_limit()));
        match upstream.protocol {
            UpstreamProtocol::Http1 => {
                let mut head = worker.heads.lend();
                let policy = &request.site.policy;
                outbound::http1_head(
                    policy,
                    &request.forwarding,
                    asked,
                    &self.client,
                    &body,
                    &mut head,
                );
                over_http1(&worker, &self.client, request, head, upload, body, open).await
            }
            UpstreamProtocol::Http2 => {
                let is_tls = upstream.tls.is_some();
                let policy = &request.site.policy;
                let parts =
                    outbound::http2_parts(policy, &request.forwarding, asked, &self.client, is_tls);
                match parts {
                    Some(parts) => {
                        over_http2(&worker, &self.client, request, parts, upload, open).await
                    }
                    None => give_up(request, &self.client, End::ClientMalformed, open),
                }
            }
        }
    }

    fn record(&self) -> Box<Record> {
        let text = |name: &str| {
            let value = self.parts.headers.get(name);
            value.map(|value| printable(value.as_bytes()))
        };
        let listener = self.site.listeners.get(self.client.listener);
        let uri = &self.parts.uri;
        let opening = Opening {
            client: &self.client,
            listener: listener.map(|l| l.name.clone()).unwrap_or_default(),
            protocol: "HTTP/2",
            method: self.parts.method.as_str(),
            host: uri.authority().map(ToString::to_string).unwrap_or_default(),
            path: uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
        };
        Record::open(opening, text)
    }
}

/// The fields as the policy sees them; the authority stands for Host.
fn fields(parts: &Parts) -> Vec<Field<'_>> {
    let end_to_end = parts.headers.iter();
    end_to_end
        .filter(|(name, _)| *name != http::header::HOST)
        .map(|(name, value)| Field {
            name: name.as_str().as_bytes(),
            value: value.as_bytes(),
        })
        .collect()
}

impl View<'_> {
    fn asked<'r>(&'r self, parts: &'r Parts, fields: &'r [Field<'r>]) -> Asked<'r> {
        Asked {
            method: parts.method.as_str(),
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

/// Crumbs of one Cookie field become one field again (RFC 9113 section 8.2.3).
fn join_cookies(parts: &mut Parts) {
    let crumbs = parts.headers.get_all(http::header::COOKIE);
    if crumbs.iter().count() < 2 {
        return;
    }
    let joined = crumbs
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b"; "[..]);
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        parts.headers.insert(http::header::COOKIE, value);
    }
}

/// Checks what the library does not.
fn view<'q>(
    parts: &'q Parts,
    incoming: &Incoming,
    lines_max: usize,
) -> Result<View<'q>, (u16, End)> {
    let malformed = Err((400, End::ClientMalformed));
    if parts.headers.len() > lines_max {
        return Err((431, End::ClientMalformed));
    }
    if parts.method == http::Method::CONNECT {
        return Err((405, End::NoRoute));
    }
    let mut hosts = parts.headers.get_all(http::header::HOST).iter();
    let host = hosts.next();
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let authority = match (authority, host.map(HeaderValue::to_str)) {
        (Some(authority), None) => authority,
        (None, Some(Ok(host))) => host,
        // Both may be there and must agree (RFC 9113 section 8.3.1).
        (Some(authority), Some(Ok(host))) if authority.eq_ignore_ascii_case(host) => authority,
        _ => return malformed,
    };
    if hosts.next().is_some() || !crate::http1::is_authority(authority) {
        return malformed;
    }
    let path_and_query = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path_and_query == "*" {
        None
    } else {
        Some(target::normalise(path_and_query).or(Err((400, End::ClientMalformed)))?)
    };
    let mut lengths = parts.headers.get_all(http::header::CONTENT_LENGTH).iter();
    let body = if incoming.is_end_stream() {
        RequestBody::None
    } else if let Some(length) = lengths.next() {
        // The library holds the body to it.
        let length = length.to_str().ok().and_then(|text| text.parse().ok());
        match (length, lengths.next()) {
            (Some(0), None) => RequestBody::None,
            (Some(length), None) => RequestBody::Length(length),
            _ => return malformed,
        }
    } else {
        RequestBody::Chunked
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

pub(super) fn give_up(
    request: Request<'_>,
    client: &Client,
    end: End,
    open: OpenStream,
) -> Response<FrontBody> {
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
        open,
    };
    respond(&answer, to)
}

/// Whom an answer of our own is for.
struct Answering<'a> {
    site: &'a Site,
    client: &'a Client,
    origin: Option<&'a str>,
    is_head: bool,
    account: Account,
    open: OpenStream,
}

/// An answer of our own.
fn respond(answer: &Answer, to: Answering<'_>) -> Response<FrontBody> {
    let mut fields = http::HeaderMap::with_capacity(answer.fields.len() + 8);
    to.site
        .policy
        .write_answer_fields(answer, to.client, to.origin, &mut fields);
    let has_body = answer.status != 204 && answer.status != 304;
    if has_body {
        let length = answer.body.len().to_string();
        fields.put(b"content-length", length.as_bytes());
    }
    let bytes = if has_body && !to.is_head {
        answer.body.clone()
    } else {
        bytes::Bytes::new()
    };
    let end = answered_end(answer.status, answer.end);
    let body = FrontBody::whole(bytes, answer.status, end, to.account, to.open);
    response(answer.status, fields, body)
}

pub(super) fn response(
    status: u16,
    fields: http::HeaderMap,
    body: FrontBody,
) -> Response<FrontBody> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = fields;
    response
}
