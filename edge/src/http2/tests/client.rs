//! A client for these tests: writes frames of any kind, reads ours.

use std::task::Waker;

use super::super::frame::{Header, PREFACE};
use super::super::hpack::{Decoder, Encoder};
use super::super::{Arrived, Bounds, Connection, Fault};
use crate::field::FieldSink as _;

/// A frame of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// Both ends.
pub(super) struct Pair {
    pub(super) ours: Connection,
    encoder: Encoder,
    pub(super) decoder: Decoder,
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    super::super::frame::put_header(&mut bytes, payload.len(), kind, flags, stream);
    bytes.extend_from_slice(payload);
    bytes
}

impl Pair {
    /// After the preface and both SETTINGS.
    pub(super) fn new() -> Self {
        let bounds = Bounds {
            streams: 10,
            resets: 5,
            list_bytes: 4096,
        };
        let mut pair = Self {
            ours: Connection::new(bounds),
            encoder: Encoder::new(),
            decoder: Decoder::new(),
        };
        pair.take(PREFACE).expect("the preface");
        pair.send(0x4, 0, 0, &[]).expect("SETTINGS");
        pair.seen();
        pair
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        self.ours.take(bytes, 1)
    }

    pub(super) fn send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> Result<(), Fault> {
        let bytes = frame(kind, flags, stream, payload);
        let taken = self.take(&bytes)?;
        assert_eq!(taken, bytes.len());
        Ok(())
    }

    pub(super) fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut block = self.encoder.begin(&mut bytes);
        for (name, value) in fields {
            block.put(name.as_bytes(), value.as_bytes());
        }
        bytes
    }

    /// A request with these fields beside the usual ones; it has a body where it does not end.
    pub(super) fn request(
        &mut self,
        stream: u32,
        ends: bool,
        more: &[(&str, &str)],
    ) -> Result<(), Fault> {
        let usual = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "a.example"),
            (":path", "/"),
        ];
        let block = self.block(&[&usual, more].concat());
        self.send(0x1, 0x4 | u8::from(ends), stream, &block)
    }

    pub(super) fn arrived(&mut self) -> Vec<Arrived> {
        self.ours.arrived()
    }

    /// Everything that waits, as sent.
    pub(super) fn seen(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut bytes = self.ours.unsent();
        while let Some(header) = Header::parse(bytes) {
            let payload = bytes[9..9 + header.length].to_vec();
            bytes = &bytes[9 + header.length..];
            seen.push(Seen {
                kind: header.kind,
                flags: header.flags,
                stream: header.stream,
                payload,
            });
        }
        assert!(bytes.is_empty(), "whole frames only");
        self.ours.has_sent(self.ours.queued());
        seen
    }

    /// The kinds of what waits.
    pub(super) fn kinds(&mut self) -> Vec<u8> {
        self.seen().iter().map(|frame| frame.kind).collect()
    }

    /// The code of the only RST_STREAM that waits.
    pub(super) fn reset(&mut self) -> Option<u8> {
        let seen = self.seen();
        let resets: Vec<_> = seen.iter().filter(|frame| frame.kind == 0x3).collect();
        assert!(resets.len() < 2);
        resets.first().map(|frame| frame.payload[3])
    }

    pub(super) fn body(&mut self, stream: u32) -> super::super::Received {
        self.ours.body(stream, Waker::noop())
    }

    pub(super) fn is_gone(&mut self, stream: u32) -> bool {
        self.ours.is_gone(stream, Waker::noop())
    }
}
