//! Answers on their way out: heads, bodies within the client's windows, ends.
//!
//! ```text
//!   room? ──stream's window, connection's window, what waits already──▶ data ──▶ out ──sent──▶ the next one's turn
//! ```
//!
//! Room  pure: appends frames; who sends them is `h2`'s.
//! Holds at most [`QUEUED_MAX`] bytes of bodies wait; streams take turns of one frame when they compete.

use std::task::Waker;

use http::HeaderMap;

use super::connection::Connection;
use super::frame::{Code, HEADER_BYTES, PAYLOAD_MAX, flag, kind};
use super::frame::{length_bytes, put_header, put_reset, put_window_update};
use super::hpack::Block;
use super::stream::{Received, Remote};
use super::{CONNECTION_WINDOW, Piece, STREAM_WINDOW};
use crate::field::FieldSink as _;

/// Bytes that wait to be sent. Sized: four full DATA frames and their neighbours.
const QUEUED_MAX: usize = 80 * 1024;

/// What is kept of the queue's memory between turns.
const QUEUE_KEPT: usize = 32 * 1024;

/// What a stream may send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// So many bytes, in one frame.
    Bytes(usize),
    /// Its task is woken when it is worth asking again.
    Later,
    /// Nobody wants it any more.
    Gone,
}

impl Connection {
    /// The head of an answer; `write` puts its fields. `has_ended`: there is no body.
    pub(crate) fn head(
        &mut self,
        id: u32,
        status: u16,
        has_ended: bool,
        write: impl FnOnce(&mut Block<'_>),
    ) {
        self.block_frames(id, has_ended, |block| {
            block.status(status);
            write(block);
        });
    }

    /// The fields after a body; the stream ends.
    pub(crate) fn trailers(&mut self, id: u32, trailers: &HeaderMap) {
        self.block_frames(id, true, |block| {
            for (name, value) in trailers {
                block.put(name.as_str().as_bytes(), value.as_bytes());
            }
        });
    }

    fn block_frames(&mut self, id: u32, has_ended: bool, write: impl FnOnce(&mut Block<'_>)) {
        let stream = self.streams.get_mut(&id);
        let Some(stream) = stream.filter(|stream| stream.remote != Remote::Gone) else {
            return;
        };
        stream.is_answered |= has_ended;
        let start = self.out.len();
        let end_stream = if has_ended { flag::END_STREAM } else { 0 };
        put_header(
            &mut self.out,
            0,
            kind::HEADERS,
            end_stream | flag::END_HEADERS,
            id,
        );
        let block_at = self.out.len();
        write(&mut self.encoder.begin(&mut self.out));
        let length = self.out.len() - block_at;
        if length <= self.payload_max {
            let length = length_bytes(length);
            if let Some(place) = self.out.get_mut(start..start + length.len()) {
                place.copy_from_slice(&length);
            }
            return;
        }
        // Rare: more than one frame can hold.
        let block = self.out.split_off(block_at);
        self.out.truncate(start);
        let mut pieces = block.chunks(self.payload_max).peekable();
        let mut frame = (kind::HEADERS, end_stream);
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() {
                flag::END_HEADERS
            } else {
                0
            };
            put_header(&mut self.out, piece.len(), frame.0, frame.1 | last, id);
            self.out.extend_from_slice(piece);
            frame = (kind::CONTINUATION, 0);
        }
    }

    /// How much of a body may be sent now.
    pub(crate) fn room(&mut self, id: u32) -> Room {
        let Some(stream) = self.streams.get(&id) else {
            return Room::Gone;
        };
        if stream.remote == Remote::Gone {
            return Room::Gone;
        }
        let own = usize::try_from(stream.send_window).unwrap_or(0);
        if own == 0 {
            // The client's WINDOW_UPDATE wakes it; meanwhile it is in nobody's way.
            self.waiting.retain(|waiting| *waiting != id);
            self.wake_next();
            return Room::Later;
        }
        let shared = self.shared_room();
        let is_next = self.waiting.front().is_none_or(|next| *next == id);
        if shared == 0 || !is_next {
            if !self.waiting.contains(&id) {
                self.waiting.push_back(id);
            }
            return Room::Later;
        }
        if self.waiting.pop_front().is_some() {
            self.wake_next();
        }
        Room::Bytes(own.min(shared).min(self.payload_max).min(PAYLOAD_MAX))
    }

    /// What any stream may send.
    fn shared_room(&self) -> usize {
        let window = usize::try_from(self.send_window).unwrap_or(0);
        window.min(QUEUED_MAX.saturating_sub(self.queued()))
    }

    pub(super) fn wake_next(&mut self) {
        if self.shared_room() == 0 {
            return;
        }
        if let Some(stream) = self.waiting.front().and_then(|id| self.streams.get(id)) {
            self.wakes.extend(stream.server.clone());
        }
    }

    /// A part of a body, not longer than there was room for.
    pub(crate) fn data(&mut self, id: u32, bytes: &[u8], has_ended: bool) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let length = i64::try_from(bytes.len()).unwrap_or(0);
        stream.send_window -= length;
        self.send_window -= length;
        stream.is_answered |= has_ended;
        let flags = if has_ended { flag::END_STREAM } else { 0 };
        self.out.reserve(HEADER_BYTES + bytes.len());
        put_header(&mut self.out, bytes.len(), kind::DATA, flags, id);
        self.out.extend_from_slice(bytes);
    }

    /// The stream is over: nobody serves it any more. `code` is said where its answer is not whole.
    pub(crate) fn close(&mut self, id: u32, code: Code) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        self.waiting.retain(|waiting| *waiting != id);
        self.wake_next();
        self.wakes.extend(stream.reader.clone());
        self.give_back(stream.unread());
        match stream.remote {
            Remote::Gone => {}
            _ if !stream.is_answered => put_reset(&mut self.out, id, code),
            // The answer came before the whole request; its rest is not wanted (RFC 9113 section 8.1).
            Remote::Open => put_reset(&mut self.out, id, Code::NoError),
            Remote::Ended => {}
        }
    }

    /// The next part of a request's body; `reader` is woken when there is more.
    pub(crate) fn body(&mut self, id: u32, reader: &Waker) -> Received {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Received::Gone;
        };
        let received = stream.next();
        match &received {
            Received::Piece(Piece::Data(data)) => {
                let length = u32::try_from(data.len()).unwrap_or(0);
                stream.owed += length;
                if stream.remote == Remote::Open && stream.owed >= STREAM_WINDOW / 2 {
                    put_window_update(&mut self.out, id, stream.owed);
                    stream.receive_window += i64::from(stream.owed);
                    stream.owed = 0;
                }
                self.give_back(length);
            }
            Received::Nothing => stream.reader = Some(reader.clone()),
            _ => {}
        }
        received
    }

    /// True when nothing more of a request's body comes or waits.
    pub(crate) fn body_is_over(&self, id: u32) -> bool {
        self.streams
            .get(&id)
            .is_none_or(|stream| stream.remote == Remote::Ended && stream.pieces.is_empty())
    }

    /// Bytes of the connection's window that are free again.
    pub(super) fn give_back(&mut self, length: u32) {
        self.owed += length;
        if self.owed >= CONNECTION_WINDOW / 2 {
            put_window_update(&mut self.out, 0, self.owed);
            self.receive_window += i64::from(self.owed);
            self.owed = 0;
        }
    }

    /// True when the stream's client is gone; else `server` is woken for what concerns the stream.
    pub(crate) fn is_gone(&mut self, id: u32, server: &Waker) -> bool {
        match self.streams.get_mut(&id) {
            Some(stream) if stream.remote != Remote::Gone => {
                let is_same = stream.server.as_ref().is_some_and(|w| w.will_wake(server));
                if !is_same {
                    stream.server = Some(server.clone());
                }
                false
            }
            _ => true,
        }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn queued(&self) -> usize {
        self.out.len() - self.sent
    }

    /// True when the client should read before it is read from.
    pub(crate) fn is_full(&self) -> bool {
        self.queued() >= QUEUED_MAX
    }

    /// What is to be sent next.
    pub(crate) fn unsent(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// So many bytes of it have left.
    pub(crate) fn has_sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.out.len() {
            self.sent = 0;
            self.out.clear();
            self.out.shrink_to(QUEUE_KEPT);
        }
        self.wake_next();
    }

    /// An idle connection holds no memory for answers.
    pub(crate) fn rest(&mut self) {
        if self.streams.is_empty() && self.out.is_empty() {
            self.out = Vec::new();
        }
    }
}
