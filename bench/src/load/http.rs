//! One HTTP/1.1 request and its whole answer.
//!
//! Room  the client's side of RFC 9112, as much as a load needs; framing is read in `response`.
//! In    a stream, a path, what the answer must be.
//! Out   a checked answer: status 2xx, complete, every byte compared where bytes are promised.
//! Holds on a kept connection not a byte may come after the answer.

use fastrand::Rng;

use super::exchange::{BUFFER_BYTES, Good};
use super::response::{Chunks, Head, Length, Malformed, parse_head};
use super::stream::Stream;
use super::wire::{self, Failure};
use super::{Expect, Limits, Load};
use crate::ledger::{Class, Phase, Traffic};
use crate::payload::{PERIOD, Payload};

/// Interim answers (1xx) before the real one; more is nonsense (RFC 9110 section 15.2).
const INTERIM_MAX: usize = 8;

/// What is asked, and what must come back.
pub(super) struct Call {
    request: Vec<u8>,
    promised: Option<Payload>,
    limits: Limits,
}

impl Call {
    /// A GET. Where bytes are promised it asks for another part of the pattern each time, so that the answer to
    /// somebody else's request is wrong bytes.
    pub(super) fn new(
        load: &Load,
        authority: &str,
        path: &str,
        random: &mut Rng,
        closes: bool,
    ) -> Self {
        let promised = match (load.expect, load.target.promised_length()) {
            (Expect::Pattern, Some(length)) => {
                Some(Payload::new(random.u64(..PERIOD as u64), length))
            }
            _ => None,
        };
        let query = promised
            .map(|payload| format!("?offset={}", payload.offset()))
            .unwrap_or_default();
        let connection = if closes { "Connection: close\r\n" } else { "" };
        let request =
            format!("GET {path}{query} HTTP/1.1\r\nHost: {authority}\r\n{connection}\r\n");
        Self {
            request: request.into_bytes(),
            promised,
            limits: load.limits,
        }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::new(Class::WrongBytes, Phase::Receiving, malformed.to_string())
    }
}

/// Sends the request and reads exactly one answer. `buffer` is scratch space.
pub(super) async fn ask(
    stream: &mut Stream,
    call: &Call,
    buffer: &mut Vec<u8>,
) -> Result<Good, Failure> {
    let stall = call.limits.stall;
    wire::send(stream, &call.request, stall)
        .await
        .map_err(Failure::unanswered)?;
    buffer.resize(BUFFER_BYTES, 0);
    let (head, rest) = read_head(stream, stall, buffer).await?;
    let mut body = Body {
        promised: call.promised,
        at: 0,
    };
    if !(200..300).contains(&head.status) {
        return Err(Failure::new(
            Class::BadStatus,
            Phase::Receiving,
            format!("status {}", head.status),
        ));
    }
    body.check_length(head.length)?;
    match head.length {
        Length::Exact(length) => {
            read_exact(stream, stall, buffer, &rest, &mut body, length).await?
        }
        Length::Chunked => read_chunks(stream, stall, buffer, &rest, &mut body).await?,
        Length::UntilEnd => read_until_end(stream, stall, buffer, &rest, &mut body).await?,
    }
    body.is_complete()?;
    let traffic = Traffic {
        sent: call.request.len() as u64,
        received: body.at,
    };
    Ok(Good {
        traffic,
        closes: head.closes,
    })
}

/// The head of the final answer, and the bytes of the body that came with it.
async fn read_head(
    stream: &mut Stream,
    stall: std::time::Duration,
    buffer: &mut [u8],
) -> Result<(Head, Vec<u8>), Failure> {
    let mut received = Vec::new();
    let mut interim = 0;
    loop {
        while let Some(head) = parse_head(&received)? {
            received.drain(..head.size.min(received.len()));
            interim += 1;
            if !(100..200).contains(&head.status) || interim > INTERIM_MAX {
                return Ok((head, received));
            }
        }
        let is_first = received.is_empty() && interim == 0;
        let unanswered = |failure: Failure| {
            if is_first {
                failure.unanswered()
            } else {
                failure
            }
        };
        let more = wire::receive(stream, buffer, Phase::Receiving, stall)
            .await
            .map_err(unanswered)?;
        if more.is_empty() {
            let what = format!(
                "the other side ended after {} bytes of the answer's head",
                received.len()
            );
            return Err(unanswered(Failure::new(Class::Cut, Phase::Receiving, what)));
        }
        received.extend_from_slice(more);
    }
}

async fn read_exact(
    stream: &mut Stream,
    stall: std::time::Duration,
    buffer: &mut [u8],
    rest: &[u8],
    body: &mut Body,
    length: u64,
) -> Result<(), Failure> {
    body.take(rest)?;
    while body.at < length {
        let more = wire::receive(stream, buffer, Phase::Receiving, stall).await?;
        if more.is_empty() {
            return Err(Failure::cut(body.at, &length.to_string()));
        }
        body.take(more)?;
    }
    if body.at > length {
        Err(bytes_after_answer(body.at - length))
    } else {
        Ok(())
    }
}

async fn read_chunks(
    stream: &mut Stream,
    stall: std::time::Duration,
    buffer: &mut [u8],
    rest: &[u8],
    body: &mut Body,
) -> Result<(), Failure> {
    let mut chunks = Chunks::default();
    let mut after = chunks.take(rest, |data| body.take(data))?.len();
    while !chunks.is_done() {
        let more = wire::receive(stream, buffer, Phase::Receiving, stall).await?;
        if more.is_empty() {
            return Err(Failure::cut(body.at, "an unknown number of"));
        }
        after = chunks.take(more, |data| body.take(data))?.len();
    }
    if after > 0 {
        Err(bytes_after_answer(after as u64))
    } else {
        Ok(())
    }
}

async fn read_until_end(
    stream: &mut Stream,
    stall: std::time::Duration,
    buffer: &mut [u8],
    rest: &[u8],
    body: &mut Body,
) -> Result<(), Failure> {
    body.take(rest)?;
    loop {
        let more = wire::receive(stream, buffer, Phase::Receiving, stall).await?;
        if more.is_empty() {
            return Ok(());
        }
        body.take(more)?;
    }
}

fn bytes_after_answer(count: u64) -> Failure {
    Failure::new(
        Class::WrongBytes,
        Phase::Receiving,
        format!("{count} bytes after the whole answer"),
    )
}

/// The body so far.
struct Body {
    promised: Option<Payload>,
    at: u64,
}

impl Body {
    fn check_length(&self, length: Length) -> Result<(), Failure> {
        match (self.promised, length) {
            (Some(payload), Length::Exact(length)) if payload.length() != length => {
                let what = format!(
                    "Content-Length is {length}, promised were {} bytes",
                    payload.length()
                );
                Err(Failure::new(Class::WrongBytes, Phase::Receiving, what))
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(payload) = self.promised {
            wire::check(payload, self.at, bytes)?;
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn is_complete(&self) -> Result<(), Failure> {
        match self.promised {
            Some(payload) if self.at < payload.length() => {
                Err(Failure::cut(self.at, &payload.length().to_string()))
            }
            _ => Ok(()),
        }
    }
}
