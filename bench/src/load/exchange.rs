//! One exchange on an established connection, whatever the target understands.
//!
//! Room  the conversation of echo and discard; HTTP's is in `http`.
//! In    a stream, the load's settings, a random source for what is asked.
//! Out   bytes moved and whether the connection ends with this exchange.
//! Holds an exchange counts as good only when every promised byte was compared.

use fastrand::Rng;

use super::stream::Stream;
use super::wire::Failure;
use super::{Expect, Load, http, wire};
use crate::ledger::Traffic;
use crate::payload::Payload;
use crate::target::Target;

/// What is read at once. Larger answers take several rounds.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;

/// A good exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Good {
    pub(super) traffic: Traffic,
    /// The other side said, or HTTP implies, that the connection ends now.
    pub(super) closes: bool,
}

/// One exchange that leaves the connection open. (Nothing but an echo and HTTP can be asked twice.)
pub(super) async fn keep(
    stream: &mut Stream,
    load: &Load,
    random: &mut Rng,
    buffer: &mut Vec<u8>,
) -> Result<Good, Failure> {
    match &load.target {
        Target::Tcp { .. } => {
            let payload = random_payload(load, random);
            buffer.resize(BUFFER_BYTES, 0);
            let (mut from, mut to) = tokio::io::split(stream);
            let send = wire::send_payload(&mut to, payload, load.limits.stall);
            let receive = wire::receive_payload(&mut from, buffer, payload, load.limits.stall);
            tokio::try_join!(send, receive)?;
            Ok(Good {
                traffic: both_ways(payload),
                closes: false,
            })
        }
        Target::Http {
            authority, path, ..
        } => {
            let call = http::Call::new(load, authority, path, random, false);
            http::ask(stream, &call, buffer).await
        }
    }
}

/// One exchange, then the end of the connection from both sides.
pub(super) async fn finish(
    stream: &mut Stream,
    load: &Load,
    random: &mut Rng,
    buffer: &mut Vec<u8>,
) -> Result<Traffic, Failure> {
    match &load.target {
        Target::Tcp { .. } => {
            finish_stream(stream, load, random_payload(load, random), buffer).await
        }
        Target::Http {
            authority, path, ..
        } => {
            let call = http::Call::new(load, authority, path, random, true);
            let good = http::ask(stream, &call, buffer).await?;
            buffer.resize(BUFFER_BYTES, 0);
            wire::expect_end(stream, buffer, load.limits.stall).await?;
            Ok(good.traffic)
        }
    }
}

/// Sends, ends our direction, and expects exactly the echo (or nothing at all) and then the end.
async fn finish_stream(
    stream: &mut Stream,
    load: &Load,
    payload: Payload,
    buffer: &mut Vec<u8>,
) -> Result<Traffic, Failure> {
    buffer.resize(BUFFER_BYTES, 0);
    let stall = load.limits.stall;
    let is_echo = load.expect == Expect::Echo;
    let expected = if is_echo { payload } else { Payload::new(0, 0) };
    let (mut from, mut to) = tokio::io::split(stream);
    let send = async {
        wire::send_payload(&mut to, payload, stall).await?;
        wire::finish_sending(&mut to).await
    };
    let receive = async {
        wire::receive_payload(&mut from, buffer, expected, stall).await?;
        wire::expect_end(&mut from, buffer, stall).await
    };
    tokio::try_join!(send, receive)?;
    Ok(Traffic {
        sent: payload.length(),
        received: expected.length(),
    })
}

/// Ends a kept connection politely: our direction first, then nothing but the end may come back.
pub(super) async fn retire(
    stream: &mut Stream,
    load: &Load,
    buffer: &mut Vec<u8>,
) -> Result<(), Failure> {
    buffer.resize(BUFFER_BYTES, 0);
    wire::finish_sending(stream).await?;
    wire::expect_end(stream, buffer, load.limits.stall).await
}

fn random_payload(load: &Load, random: &mut Rng) -> Payload {
    let length = random.u64(load.payload_bytes.clone());
    Payload::new(random.u64(..), length)
}

fn both_ways(payload: Payload) -> Traffic {
    Traffic {
        sent: payload.length(),
        received: payload.length(),
    }
}
