//! From the bytes of a head to what becomes of it, in one go: nothing here waits.
//!
//! In    the connection's buffer. Out  [`Head`]; the head is consumed, what follows it stays.
//! Holds whatever is kept of a request beyond this function is owned: the buffer may move on.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::request::Parts;

use super::{Answered, Connection, Facts, Head, Incoming, PREFACE};
use crate::access_log::Record;
use crate::end::End;
use crate::http1::{HeadLimits, RequestBody, RequestHead, RequestTarget, Version, parse_request};
use crate::life::is_idempotent;
use crate::outbound;
use crate::policy::{Asked, Client, Decision, HttpVersion, RequestId};
use crate::request::{Account, Request, accept_class};
use crate::settings::UpstreamProtocol;
use crate::site::Site;
use crate::target;
use crate::totals::Count;

/// What is sent to a backend, in the protocol that it speaks.
#[derive(Debug)]
pub(super) enum Outbound {
    Http1(Vec<u8>),
    Http2(Box<Parts>),
}

impl Connection {
    /// `None`: the head is not complete.
    pub(super) fn admit<'s>(
        &mut self,
        site: &'s Arc<Site>,
        limits: &HeadLimits,
    ) -> Option<Head<'s>> {
        let data = self.input.data();
        if self.sniffs && self.served == 0 && could_be_preface(data) {
            return (data.len() >= PREFACE.len()).then_some(Head::Http2);
        }
        let head = match parse_request(data, limits) {
            Ok(head) => head?,
            Err(refused) => return Some(Head::Refused(refused)),
        };
        let length = head.len;
        let decided = decide(&self.worker, site, self.client, self.covered.as_ref(), &head);
        self.input.consume(length);
        Some(decided)
    }
}

fn could_be_preface(data: &[u8]) -> bool {
    let known = data.len().min(PREFACE.len());
    data.get(..known) == PREFACE.get(..known)
}

fn decide<'s>(
    worker: &std::rc::Rc<crate::worker::Worker>,
    site: &'s Arc<Site>,
    mut client: Client,
    covered: Option<&crate::worker::Covered>,
    head: &RequestHead<'_>,
) -> Head<'s> {
    let facts = Facts {
        version: head.version,
        body: head.body,
        keep_alive: head.keep_alive && head.upgrade.is_none(),
        expects_continue: head.expect_continue,
    };
    client.covers_host = covered.map(|covered| covered.covers(host_of(head.authority)));
    let fields = head.fields();
    let record = site
        .access_log
        .is_some()
        .then(|| Box::new(record(site, &client, head)));
    let mut account = Account::open(worker, site, Count::Http1, Instant::now(), record);
    let is_head = head.method == "HEAD";
    let answered = |answer, account| {
        Head::Answer(Box::new(Answered {
            answer,
            account,
            facts,
            is_head,
        }))
    };
    let random = fastrand::u128(..);
    let refuse = |status, end: End, account| {
        let id = RequestId::generated(random);
        let accept = accept_class(field(fields, "accept"));
        answered(site.policy.error(status, end.as_str(), accept, &id), account)
    };
    let path_and_query = match head.target {
        RequestTarget::Origin { path_and_query } => path_and_query,
        RequestTarget::Absolute { path_and_query, .. } => path_and_query,
        RequestTarget::Asterisk => "*",
        // A forward proxy's business (RFC 9110 section 9.3.6).
        RequestTarget::Authority(_) => return refuse(405, End::NoRoute, account),
    };
    let normal = if path_and_query == "*" {
        None
    } else {
        match target::normalise(path_and_query) {
            Ok(normal) => Some(normal),
            Err(_) => return refuse(400, End::ClientMalformed, account),
        }
    };
    let asked = Asked {
        method: head.method,
        host: head.authority,
        path: normal.as_ref().map_or("*", |normal| normal.path.as_ref()),
        query: normal.as_ref().and_then(|normal| normal.query),
        fields,
        version: match head.version {
            Version::Http10 => HttpVersion::Http10,
            Version::Http11 => HttpVersion::Http11,
        },
        upgrade: head.upgrade,
        body_length: match head.body {
            RequestBody::Length(length) => Some(length),
            RequestBody::None | RequestBody::Chunked => None,
        },
    };
    let now = worker.since_start();
    match site
        .policy
        .decide(&asked, &client, &worker.shared.state, now, random)
    {
        Decision::Answer(answer) => {
            account.route = answer.route;
            account.note(&answer.request_id, answer.client_ip);
            answered(answer, account)
        }
        Decision::Forward(forwarding) => {
            account.route = Some(forwarding.route.index);
            account.note(&forwarding.request_id, Some(forwarding.client_ip));
            let Some(upstream) = site.upstreams.get(forwarding.upstream) else {
                return refuse(500, End::Internal, account);
            };
            if let Some(record) = &mut account.record {
                record.upstream = Some(upstream.upstream.name().to_owned());
                record.route = Some(forwarding.route.name.to_string());
            }
            let outbound = match upstream.protocol {
                UpstreamProtocol::Http1 => {
                    let mut bytes = worker.heads.lend();
                    outbound::http1_head(
                        &site.policy,
                        &forwarding,
                        &asked,
                        &client,
                        &head.body,
                        &mut bytes,
                    );
                    Outbound::Http1(bytes)
                }
                UpstreamProtocol::Http2 => {
                    match outbound::http2_parts(
                        &site.policy,
                        &forwarding,
                        &asked,
                        &client,
                        upstream.tls.is_some(),
                    ) {
                        Some(parts) => Outbound::Http2(Box::new(parts)),
                        None => return refuse(400, End::ClientMalformed, account),
                    }
                }
            };
            let request = Request {
                site,
                account,
                is_head,
                idempotent: is_idempotent(head.method),
                accept: accept_class(field(fields, "accept")),
                origin: asked.text_field("origin").map(str::to_owned),
                upgrade: head.upgrade.map(str::to_owned),
                forwarding,
            };
            Head::Forward(Box::new(Incoming {
                request,
                facts,
                outbound,
            }))
        }
    }
}


fn field<'f>(fields: &'f [crate::field::Field<'f>], name: &str) -> Option<&'f [u8]> {
    let found = fields.iter().find(|field| field.is(name));
    found.map(|field| field.value)
}

/// The host of an authority, without its port.
pub(crate) fn host_of(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or(authority);
    }
    authority.split(':').next().unwrap_or(authority)
}

fn record(site: &Site, client: &Client, head: &RequestHead<'_>) -> Record {
    let text = |name: &str| field(head.fields(), name).map(printable);
    let path = match head.target {
        RequestTarget::Origin { path_and_query } => path_and_query,
        RequestTarget::Absolute { path_and_query, .. } => path_and_query,
        RequestTarget::Asterisk => "*",
        RequestTarget::Authority(authority) => authority,
    };
    Record {
        time: SystemTime::now(),
        client: client.peer,
        peer: client.peer,
        listener: site
            .listeners
            .get(client.listener)
            .map(|listener| listener.name.clone())
            .unwrap_or_default(),
        protocol: match head.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        },
        tls: client.is_tls,
        method: head.method.to_owned(),
        host: head.authority.to_owned(),
        path: path.to_owned(),
        route: None,
        upstream: None,
        backend: None,
        status: 0,
        end_reason: "",
        duration_ms: 0.0,
        bytes_received: 0,
        bytes_sent: 0,
        attempts: 0,
        request_id: String::new(),
        user_agent: text("user-agent"),
        referer: text("referer"),
        traceparent: text("traceparent"),
    }
}

/// ASCII as it is, everything else escaped: no byte order marks, no right-to-left overrides in a log.
pub(crate) fn printable(value: &[u8]) -> String {
    value.escape_ascii().to_string()
}
