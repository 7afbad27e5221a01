//! From the bytes of a head to what becomes of it, in one go: nothing here waits.
//!
//! In    the connection's buffer. Out  [`Head`]; the head is consumed, what follows it stays.
//! Holds whatever is kept of a request beyond this function is owned: the buffer may move on.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;

use super::{Answered, Connection, Facts, Head, Incoming, PREFACE};
use crate::access_log::{Opening, Record};
use crate::end::End;
use crate::http1::{HeadLimits, RequestBody, RequestHead, RequestTarget, Version, parse_request};
use crate::life::is_idempotent;
use crate::outbound;
use crate::policy::{Answer, Asked, Client, Decision, Forwarding, HttpVersion, RequestId};
use crate::request::{Account, Request, accept_class};
use crate::settings::UpstreamProtocol;
use crate::site::{Site, UpstreamInForce};
use crate::target;
use crate::totals::Count;
use crate::worker::{Covered, Worker};

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
        let decided = decide(
            &self.worker,
            site,
            self.client,
            self.covered.as_ref(),
            &head,
        );
        self.input.consume(length);
        Some(decided)
    }
}

fn could_be_preface(data: &[u8]) -> bool {
    let known = data.len().min(PREFACE.len());
    data.get(..known) == PREFACE.get(..known)
}

/// One head on its way to a decision.
struct Arriving<'h, 's> {
    worker: &'h Rc<Worker>,
    site: &'s Arc<Site>,
    client: Client,
    head: &'h RequestHead<'h>,
    facts: Facts,
    account: Account,
    random: u128,
}

fn decide<'s>(
    worker: &Rc<Worker>,
    site: &'s Arc<Site>,
    mut client: Client,
    covered: Option<&Covered>,
    head: &RequestHead<'_>,
) -> Head<'s> {
    client.covers_host = covered.map(|covered| covered.covers(host_of(head.authority)));
    let record = site
        .access_log
        .is_some()
        .then(|| record(site, &client, head));
    let arriving = Arriving {
        worker,
        site,
        client,
        head,
        facts: Facts {
            version: head.version,
            body: head.body,
            keep_alive: head.keep_alive && head.upgrade.is_none(),
            expects_continue: head.expect_continue,
        },
        account: Account::open(worker, site, Count::Http1, Instant::now(), record),
        random: fastrand::u128(..),
    };
    arriving.decide()
}

impl<'s> Arriving<'_, 's> {
    fn decide(mut self) -> Head<'s> {
        let path_and_query = match self.head.target {
            RequestTarget::Origin { path_and_query }
            | RequestTarget::Absolute { path_and_query, .. } => path_and_query,
            RequestTarget::Asterisk => "*",
            // A forward proxy's business (RFC 9110 section 9.3.6).
            RequestTarget::Authority(_) => return self.refuse(405, End::NoRoute),
        };
        let normal = match path_and_query {
            "*" => None,
            sent => match target::normalise(sent) {
                Ok(normal) => Some(normal),
                Err(_) => return self.refuse(400, End::ClientMalformed),
            },
        };
        let asked = Asked {
            method: self.head.method,
            host: self.head.authority,
            path: normal.as_ref().map_or("*", |normal| normal.path.as_ref()),
            query: normal.as_ref().and_then(|normal| normal.query),
            fields: self.head.fields(),
            version: match self.head.version {
                Version::Http10 => HttpVersion::Http10,
                Version::Http11 => HttpVersion::Http11,
            },
            upgrade: self.head.upgrade,
            body_length: match self.head.body {
                RequestBody::Length(length) => Some(length),
                RequestBody::None | RequestBody::Chunked => None,
            },
        };
        let now = self.worker.since_start();
        let state = &self.worker.shared.state;
        let policy = &self.site.policy;
        match policy.decide(&asked, &self.client, state, now, self.random) {
            Decision::Answer(answer) => {
                self.account.route = answer.route;
                self.account.note(&answer.request_id, answer.client_ip);
                self.answered(answer)
            }
            Decision::Forward(forwarding) => self.forwarded(forwarding, &asked),
        }
    }

    fn forwarded(mut self, forwarding: Forwarding<'s>, asked: &Asked<'_>) -> Head<'s> {
        self.account.route = Some(forwarding.route.index);
        let client = Some(forwarding.client_ip);
        self.account.note(&forwarding.request_id, client);
        let Some(upstream) = self.site.upstreams.get(forwarding.upstream) else {
            return self.refuse(500, End::Internal);
        };
        self.account.name_upstream(upstream, forwarding.route);
        let Some(outbound) = self.outbound(&forwarding, asked, upstream) else {
            return self.refuse(400, End::ClientMalformed);
        };
        let request = Request {
            site: self.site,
            is_head: asked.method == "HEAD",
            idempotent: is_idempotent(asked.method),
            accept: accept_class(asked.field("accept")),
            origin: asked.text_field("origin").map(str::to_owned),
            upgrade: asked.upgrade.map(str::to_owned),
            account: self.account,
            forwarding,
        };
        Head::Forward(Box::new(Incoming {
            request,
            facts: self.facts,
            outbound,
        }))
    }

    fn outbound(
        &self,
        forwarding: &Forwarding<'_>,
        asked: &Asked<'_>,
        upstream: &UpstreamInForce,
    ) -> Option<Outbound> {
        let (policy, client) = (&self.site.policy, &self.client);
        match upstream.protocol {
            UpstreamProtocol::Http1 => {
                let mut head = self.worker.heads.lend();
                let body = &self.head.body;
                outbound::http1_head(policy, forwarding, asked, client, body, &mut head);
                Some(Outbound::Http1(head))
            }
            UpstreamProtocol::Http2 => {
                let is_tls = upstream.tls.is_some();
                let parts = outbound::http2_parts(policy, forwarding, asked, client, is_tls)?;
                Some(Outbound::Http2(Box::new(parts)))
            }
        }
    }

    fn refuse(self, status: u16, end: End) -> Head<'s> {
        let id = RequestId::generated(self.random);
        let accept = accept_class(field(self.head.fields(), "accept"));
        let answer = self.site.policy.error(status, end.as_str(), accept, &id);
        self.answered(answer)
    }

    fn answered(self, answer: Answer) -> Head<'s> {
        let origin = field(self.head.fields(), "origin");
        let origin = origin.and_then(|origin| std::str::from_utf8(origin).ok());
        Head::Answer(Box::new(Answered {
            origin: origin.map(str::to_owned),
            is_head: self.head.method == "HEAD",
            facts: self.facts,
            account: self.account,
            answer,
        }))
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

fn record(site: &Site, client: &Client, head: &RequestHead<'_>) -> Box<Record> {
    let text = |name: &str| field(head.fields(), name).map(printable);
    let path = match head.target {
        RequestTarget::Origin { path_and_query } => path_and_query,
        RequestTarget::Absolute { path_and_query, .. } => path_and_query,
        RequestTarget::Asterisk => "*",
        RequestTarget::Authority(authority) => authority,
    };
    let listener = site.listeners.get(client.listener);
    let opening = Opening {
        client,
        listener: listener.map(|l| l.name.clone()).unwrap_or_default(),
        protocol: match head.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        },
        method: head.method,
        host: head.authority.to_owned(),
        path: path.to_owned(),
    };
    Record::open(opening, text)
}

/// ASCII as it is, everything else escaped: no byte order marks, no right-to-left overrides in a log.
pub(crate) fn printable(value: &[u8]) -> String {
    value.escape_ascii().to_string()
}
