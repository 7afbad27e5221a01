//! What a client's connection is, and how it ends (RFC 9113 sections 3.4, 5 and 6.8).
//!
//! ```text
//!   preface ──▶ SETTINGS ──▶ open ──warn──▶ GOAWAY (all streams go on) ──PING answered──▶ GOAWAY (last id) ──▶ over
//!                              └──fault──▶ GOAWAY (why) ──▶ closed
//! ```
//!
//! Room  the state that `reader` and `output` share, and the moments of a connection's life.
//! Holds everybody who waits for what happened is in `wakes`: whoever calls wakes them once it holds nothing.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::task::Waker;

use super::budget::{Abuse, Budget};
use super::frame::{Code, PAYLOAD_MAX, PREFACE, WINDOW_DEFAULT};
use super::frame::{put_goaway, put_ping, put_settings, put_window_update, setting};
use super::head::RequestHead;
use super::hpack::{Decoder, Encoder};
use super::stream::{Remote, Stream};
use super::{CONNECTION_WINDOW, STREAM_WINDOW};

/// What one connection may ask of us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Streams at once.
    pub(crate) streams: u32,
    /// Resets within ten seconds.
    pub(crate) resets: u32,
    /// Octets of a header list, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    pub(crate) list_bytes: usize,
}

/// A request whose head has come.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) id: u32,
    /// `None`: its head is too large.
    pub(crate) head: Option<RequestHead>,
    /// It has no body.
    pub(crate) has_ended: bool,
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client broke the protocol.
    Broken(Code),
    Abuse(Abuse),
}

impl From<Abuse> for Fault {
    fn from(abuse: Abuse) -> Self {
        Self::Abuse(abuse)
    }
}

impl Fault {
    fn code(self) -> Code {
        match self {
            Self::Broken(code) => code,
            Self::Abuse(_) => Code::EnhanceYourCalm,
        }
    }
}

/// How far a connection is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The client was asked to begin no further streams; those on their way are served.
    Warned,
    /// Streams after this one are not served.
    Last(u32),
}

/// A header block that is not whole.
#[derive(Debug)]
pub(super) struct OpenBlock {
    pub(super) stream: u32,
    pub(super) has_ended: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) frames: u32,
    /// When it began, in milliseconds.
    pub(super) since: u64,
}

/// Payload of the PING that follows our first GOAWAY.
pub(super) const FAREWELL: [u8; 8] = *b"farewell";

/// Stream numbers are few and follow each other: a multiplication spreads them, and a client that chooses them badly
/// slows its own hundred streams only.
#[derive(Debug, Default)]
pub(super) struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) bounds: Bounds,
    /// Bytes of the client's preface that are still to come.
    pub(super) preface: &'static [u8],
    pub(super) has_settings: bool,
    pub(super) block: Option<OpenBlock>,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) streams: HashMap<u32, Stream, BuildHasherDefault<StreamHasher>>,
    /// The client's latest stream.
    pub(super) last: u32,
    pub(super) leaving: Leaving,
    pub(super) budget: Budget,
    /// What may still be sent to the client on all streams.
    pub(super) send_window: i64,
    /// Of the client's SETTINGS: a new stream's window, and its largest payload.
    pub(super) first_window: i64,
    pub(super) payload_max: usize,
    /// What the client may still send on all streams.
    pub(super) receive_window: i64,
    /// Bytes taken whose window was not given back.
    pub(super) owed: u32,
    /// Streams that wait for their turn to send, the next one first.
    pub(super) waiting: VecDeque<u32>,
    /// Frames to be sent, of which `sent` bytes are gone.
    pub(super) out: Vec<u8>,
    pub(super) sent: usize,
    pub(super) arrived: Vec<Arrived>,
    pub(super) wakes: Vec<Waker>,
}

impl Connection {
    /// Ours begins with SETTINGS, whatever the client does.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let mut out = Vec::with_capacity(256);
        let list = u32::try_from(bounds.list_bytes).unwrap_or(u32::MAX);
        put_settings(
            &mut out,
            &[
                (setting::MAX_CONCURRENT_STREAMS, bounds.streams),
                (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
                (setting::MAX_HEADER_LIST_SIZE, list),
            ],
        );
        let default = u32::try_from(WINDOW_DEFAULT).unwrap_or(0);
        put_window_update(&mut out, 0, CONNECTION_WINDOW - default);
        Self {
            bounds,
            preface: PREFACE,
            has_settings: false,
            block: None,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            streams: HashMap::default(),
            last: 0,
            leaving: Leaving::No,
            budget: Budget::new(bounds.resets),
            send_window: WINDOW_DEFAULT,
            first_window: WINDOW_DEFAULT,
            payload_max: PAYLOAD_MAX,
            receive_window: i64::from(CONNECTION_WINDOW),
            owed: 0,
            waiting: VecDeque::new(),
            out,
            sent: 0,
            arrived: Vec::new(),
            wakes: Vec::new(),
        }
    }

    /// Requests that came since this was asked.
    pub(crate) fn arrived(&mut self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived)
    }

    /// Who is to be woken.
    pub(crate) fn wakes(&mut self) -> Option<Waker> {
        self.wakes.pop()
    }

    /// True once the preface and a frame have come.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_settings
    }

    /// Since when a header block has been waiting for its end, in milliseconds.
    pub(crate) fn block_since(&self) -> Option<u64> {
        self.block.as_ref().map(|block| block.since)
    }

    /// Asks the client to begin no further streams.
    pub(crate) fn warn(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Warned;
            put_goaway(&mut self.out, 0x7fff_ffff, Code::NoError);
            // Its answer comes after every stream that crossed the GOAWAY on its way.
            put_ping(&mut self.out, 0, FAREWELL);
        }
    }

    /// Serves no stream that begins after this.
    pub(crate) fn refuse_further(&mut self) {
        if !matches!(self.leaving, Leaving::Last(_)) {
            self.leaving = Leaving::Last(self.last);
            put_goaway(&mut self.out, self.last, Code::NoError);
        }
    }

    /// True when all that was promised has been sent.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.leaving, Leaving::Last(_))
            && self.streams.is_empty()
            && self.arrived.is_empty()
    }

    /// Says why the connection ends.
    pub(crate) fn fail(&mut self, fault: Fault) {
        put_goaway(&mut self.out, self.last, fault.code());
    }

    /// The client is gone: every stream with it.
    pub(crate) fn abandon(&mut self) {
        for stream in self.streams.values_mut() {
            stream.remote = Remote::Gone;
            self.wakes.extend(stream.server.take());
            self.wakes.extend(stream.reader.take());
        }
    }
}
