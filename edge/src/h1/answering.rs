//! The head of a backend's answer, turned into what this client gets.
//!
//! Room  no waiting: a parsed head in, staged bytes out; `exchange` moves them.
//! Holds a tunnel begins only with the protocol that was asked for; interim answers are bounded.

use super::answer::{Delivery, delivery, finish_head, status_line};
use super::exchange::Parties;
use super::pipe::{Framing, Pipe};
use crate::end::End;
use crate::http1::{BodyDecoder, ResponseHead, Version};
use crate::policy::{Client, may_forward_trailer};
use crate::request::Request;

/// Interim answers before the final one. Sized: a server that sends more of them means something else.
const INTERIM_MAX: u32 = 16;

/// How far the answer is.
pub(super) enum Answer {
    Awaited {
        interim: Vec<u8>,
        interim_at: usize,
        interim_count: u32,
    },
    Flows {
        pipe: Pipe,
        status: u16,
        delivery: Delivery,
        backend_keeps: bool,
        is_tunnel: bool,
        closes: bool,
    },
}

/// Passes an interim answer on.
pub(super) fn interim(
    answer: &mut Answer,
    head: &ResponseHead<'_>,
    request: &Request<'_>,
    parties: &Parties<'_, '_>,
) -> Result<(), End> {
    let Answer::Awaited {
        interim,
        interim_count,
        ..
    } = answer
    else {
        return Err(End::Internal);
    };
    *interim_count += 1;
    if *interim_count > INTERIM_MAX {
        return Err(End::BackendMalformed);
    }
    // 100 is ours to say; HTTP/1.0 knows none of them.
    if head.status != 100 && parties.facts.version == Version::Http11 {
        status_line(head.status, head.reason, interim);
        write_fields(head, request, parties.client_facts, interim);
        interim.extend_from_slice(b"\r\n");
    }
    Ok(())
}

fn write_fields(
    head: &ResponseHead<'_>,
    request: &Request<'_>,
    client: &Client,
    out: &mut Vec<u8>,
) {
    request.site.policy.write_response_fields(
        request.forwarding.route,
        client,
        request.origin.as_deref(),
        &request.forwarding.request_id,
        head.fields(),
        out,
    );
}

/// The answer as this client gets it, its head staged.
pub(super) fn final_answer(
    head: &ResponseHead<'_>,
    request: &Request<'_>,
    parties: &Parties<'_, '_>,
) -> Result<Answer, End> {
    let is_tunnel = head.status == 101;
    if is_tunnel && !is_same_protocol(request.upgrade.as_deref(), head.upgrade) {
        return Err(End::BackendMalformed);
    }
    let version = parties.facts.version;
    let delivery = delivery(&head.body, version);
    let closes = !parties.stays || delivery == Delivery::UntilClose;
    let mut out = parties.worker.heads.lend();
    status_line(head.status, head.reason, &mut out);
    write_fields(head, request, parties.client_facts, &mut out);
    if is_tunnel {
        finish_upgrade(head.upgrade.unwrap_or_default(), &mut out);
    } else {
        finish_head(head, head.fields(), delivery, version, closes, &mut out);
    }
    let framing = match delivery {
        Delivery::Chunked => Framing::Chunked,
        Delivery::Sized | Delivery::UntilClose => Framing::Plain,
    };
    let decoder = BodyDecoder::response(&head.body);
    Ok(Answer::Flows {
        pipe: Pipe::new(out, decoder, framing, u64::MAX, may_forward_trailer),
        status: head.status,
        delivery,
        backend_keeps: head.keep_alive,
        is_tunnel,
        closes,
    })
}

/// A tunnel begins only with the protocol that was asked for (RFC 9110 section 15.2.2).
fn is_same_protocol(asked: Option<&str>, answered: Option<&str>) -> bool {
    matches!((asked, answered), (Some(asked), Some(answered)) if asked.eq_ignore_ascii_case(answered))
}

fn finish_upgrade(protocol: &str, out: &mut Vec<u8>) {
    use crate::field::FieldSink as _;
    out.put(b"Connection", b"upgrade");
    out.put(b"Upgrade", protocol.as_bytes());
    out.extend_from_slice(b"\r\n");
}
