//! A client's frames, one after the other (RFC 9113 sections 5 and 6).
//!
//! Room  pure: whole frames in, changes of streams and windows out.
//! Holds any bytes are taken without a panic; each rule that a client breaks ends its stream or its connection as the
//!       RFC says, and counts.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Abuse;
use super::budget::BLOCK_FRAMES_MAX;
use super::connection::{Arrived, Connection, FAREWELL, Fault, Leaving, OpenBlock};
use super::frame::{Code, HEADER_BYTES, Header, PAYLOAD_MAX, WINDOW_MAX, flag, kind, setting};
use super::frame::{put_ping, put_reset, put_settings_ack};
use super::head::{BadHead, Builder, check_field};
use super::stream::{Piece, Remote, Stream};

type Taken = Result<(), Fault>;

const fn broken(code: Code) -> Fault {
    Fault::Broken(code)
}

impl Connection {
    /// Takes what is whole of `bytes`, which came at `now` (milliseconds); returns how much that was.
    ///
    /// # Errors
    /// See [`Fault`]; nothing further may be taken.
    pub(crate) fn take(&mut self, bytes: &[u8], now: u64) -> Result<usize, Fault> {
        self.budget.at(now);
        let mut at = 0;
        if !self.preface.is_empty() {
            let length = self.preface.len().min(bytes.len());
            let (head, rest) = self.preface.split_at_checked(length).unwrap_or_default();
            if bytes.get(..length) != Some(head) {
                return Err(broken(Code::Protocol));
            }
            self.preface = rest;
            at = length;
        }
        while let Some(header) = bytes.get(at..).and_then(Header::parse) {
            if header.length > PAYLOAD_MAX {
                return Err(broken(Code::FrameSize));
            }
            let from = at + HEADER_BYTES;
            let Some(payload) = bytes.get(from..from + header.length) else {
                break;
            };
            self.frame(header, payload, now)?;
            at = from + header.length;
        }
        Ok(at)
    }

    fn frame(&mut self, header: Header, payload: &[u8], now: u64) -> Taken {
        let is_first = !std::mem::replace(&mut self.has_settings, true);
        if is_first && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(broken(Code::Protocol));
        }
        let continues = header.kind == kind::CONTINUATION;
        match &self.block {
            Some(block) if !continues || block.stream != header.stream => {
                return Err(broken(Code::Protocol));
            }
            None if continues => return Err(broken(Code::Protocol)),
            _ => {}
        }
        match header.kind {
            kind::DATA => self.data_frame(header, payload),
            kind::HEADERS => self.headers_frame(header, payload, now),
            kind::CONTINUATION => self.continuation(header, payload),
            kind::PRIORITY => self.priority(header),
            kind::RST_STREAM => self.reset_frame(header),
            kind::SETTINGS => self.settings(header, payload),
            kind::PING => self.ping(header, payload),
            kind::WINDOW_UPDATE => self.window_update(header, payload),
            kind::GOAWAY if header.stream == 0 && header.length >= 8 => {
                Ok(self.budget.control()?)
            }
            kind::GOAWAY | kind::PUSH_PROMISE => Err(broken(Code::Protocol)),
            // Unknown ones are ignored (section 5.5), and counted.
            _ => Ok(self.budget.control()?),
        }
    }

    /// The client broke a rule of one stream.
    fn fail_stream(&mut self, id: u32, code: Code) -> Taken {
        put_reset(&mut self.out, id, code);
        self.lose(id);
        Ok(self.budget.reset()?)
    }

    /// The stream's client is gone.
    fn lose(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.remote = Remote::Gone;
            self.wakes.extend(stream.server.take());
            self.wakes.extend(stream.reader.take());
        }
    }

    fn data_frame(&mut self, header: Header, payload: &[u8]) -> Taken {
        let id = header.stream;
        if id == 0 || id > self.last {
            return Err(broken(Code::Protocol));
        }
        let data = unpadded(header, payload).ok_or(broken(Code::Protocol))?;
        let counted = i64::try_from(payload.len()).unwrap_or(i64::MAX);
        self.receive_window -= counted;
        if self.receive_window < 0 {
            return Err(broken(Code::FlowControl));
        }
        let length = u32::try_from(payload.len()).unwrap_or(0);
        let padding = u32::try_from(payload.len() - data.len()).unwrap_or(0);
        let ends = header.has(flag::END_STREAM);
        if data.is_empty() && !ends {
            self.budget.control()?;
        }
        let stream = match self.streams.get_mut(&id) {
            Some(stream) if stream.remote == Remote::Open => stream,
            Some(stream) if stream.remote == Remote::Ended => {
                self.give_back(length);
                return self.fail_stream(id, Code::StreamClosed);
            }
            // It was on its way when the stream ended.
            _ => {
                self.give_back(length);
                return Ok(());
            }
        };
        stream.receive_window -= counted;
        let is_fine = stream.receive_window >= 0;
        let fits = stream.takes(data.len()) && (!ends || stream.ends());
        if !is_fine || !fits {
            self.give_back(length);
            let code = if is_fine {
                Code::Protocol
            } else {
                Code::FlowControl
            };
            return self.fail_stream(id, code);
        }
        // Padding is nobody's to take.
        stream.owed += padding;
        if !data.is_empty() {
            stream
                .pieces
                .push_back(Piece::Data(Bytes::copy_from_slice(data)));
        }
        self.wakes.extend(stream.reader.take());
        self.give_back(padding);
        Ok(())
    }

    fn headers_frame(&mut self, header: Header, payload: &[u8], now: u64) -> Taken {
        let id = header.stream;
        if id.is_multiple_of(2) {
            return Err(broken(Code::Protocol));
        }
        let mut block = unpadded(header, payload).ok_or(broken(Code::Protocol))?;
        if header.has(flag::PRIORITY) {
            block = block.get(5..).ok_or(broken(Code::FrameSize))?;
        }
        if header.has(flag::END_HEADERS) {
            return self.whole_block(id, header.has(flag::END_STREAM), block);
        }
        self.block = Some(OpenBlock {
            stream: id,
            has_ended: header.has(flag::END_STREAM),
            bytes: block.to_vec(),
            frames: 1,
            since: now,
        });
        Ok(())
    }

    fn continuation(&mut self, header: Header, payload: &[u8]) -> Taken {
        let most = self.bounds.list_bytes.saturating_mul(2).max(PAYLOAD_MAX);
        let Some(block) = &mut self.block else {
            return Err(broken(Code::Protocol));
        };
        block.bytes.extend_from_slice(payload);
        block.frames += 1;
        if block.frames > BLOCK_FRAMES_MAX || block.bytes.len() > most {
            return Err(Fault::Abuse(Abuse::Block));
        }
        if header.has(flag::END_HEADERS)
            && let Some(block) = self.block.take()
        {
            return self.whole_block(block.stream, block.has_ended, &block.bytes);
        }
        Ok(())
    }

    fn whole_block(&mut self, id: u32, has_ended: bool, block: &[u8]) -> Taken {
        if id <= self.last {
            return self.trailer_block(id, has_ended, block);
        }
        self.last = id;
        let mut builder = Builder::new(self.bounds.list_bytes);
        let read = self
            .decoder
            .decode(block, |name, value| builder.put(name, value));
        read.map_err(|_| broken(Code::Compression))?;
        if matches!(self.leaving, Leaving::Last(last) if id > last) {
            return Ok(());
        }
        let most = usize::try_from(self.bounds.streams).unwrap_or(usize::MAX);
        if self.streams.len() >= most {
            return self.fail_stream(id, Code::RefusedStream);
        }
        let head = match builder.finish() {
            Ok(head) => Some(head),
            Err(BadHead::TooLarge) => None,
            Err(BadHead::Malformed) => return self.fail_stream(id, Code::Protocol),
        };
        let length = head.as_ref().and_then(super::RequestHead::length);
        if has_ended && length.unwrap_or(0) > 0 {
            return self.fail_stream(id, Code::Protocol);
        }
        let stream = Stream::new(self.first_window, length, has_ended);
        self.streams.insert(id, stream);
        self.arrived.push(Arrived {
            id,
            head,
            has_ended,
        });
        Ok(())
    }

    fn trailer_block(&mut self, id: u32, has_ended: bool, block: &[u8]) -> Taken {
        let (mut trailers, mut is_bad, mut size) = (HeaderMap::new(), false, 0);
        let most = self.bounds.list_bytes;
        let read = self.decoder.decode(block, |name, value| {
            size += name.len() + value.len() + 32;
            let field = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
            match field {
                (Ok(name_), Ok(value_)) if check_field(name, value).is_ok() && size <= most => {
                    trailers.append(name_, value_);
                }
                _ => is_bad = true,
            }
        });
        read.map_err(|_| broken(Code::Compression))?;
        let Some(stream) = self.streams.get_mut(&id) else {
            // It was on its way when the stream ended.
            return Ok(self.budget.control()?);
        };
        match stream.remote {
            Remote::Gone => Ok(self.budget.control()?),
            Remote::Ended => Err(broken(Code::StreamClosed)),
            Remote::Open => {
                let is_whole = stream.ends();
                if is_bad || !has_ended || !is_whole {
                    return self.fail_stream(id, Code::Protocol);
                }
                if !trailers.is_empty() {
                    stream.pieces.push_back(Piece::Trailers(trailers));
                }
                self.wakes.extend(stream.reader.take());
                Ok(())
            }
        }
    }

    fn priority(&mut self, header: Header) -> Taken {
        self.budget.control()?;
        match (header.stream, header.length) {
            (0, _) => Err(broken(Code::Protocol)),
            (_, 5) => Ok(()),
            (id, _) if id <= self.last => self.fail_stream(id, Code::FrameSize),
            _ => Err(broken(Code::FrameSize)),
        }
    }

    fn reset_frame(&mut self, header: Header) -> Taken {
        if header.length != 4 {
            return Err(broken(Code::FrameSize));
        }
        if header.stream == 0 || header.stream > self.last {
            return Err(broken(Code::Protocol));
        }
        self.lose(header.stream);
        Ok(self.budget.reset()?)
    }

    fn ping(&mut self, header: Header, payload: &[u8]) -> Taken {
        if header.stream != 0 {
            return Err(broken(Code::Protocol));
        }
        let Ok(payload) = <[u8; 8]>::try_from(payload) else {
            return Err(broken(Code::FrameSize));
        };
        self.budget.control()?;
        if !header.has(flag::ACK) {
            put_ping(&mut self.out, flag::ACK, payload);
        } else if payload == FAREWELL && self.leaving == Leaving::Warned {
            self.refuse_further();
        }
        Ok(())
    }

    fn settings(&mut self, header: Header, payload: &[u8]) -> Taken {
        if header.stream != 0 {
            return Err(broken(Code::Protocol));
        }
        let is_ack = header.has(flag::ACK);
        if !payload.len().is_multiple_of(6) || (is_ack && !payload.is_empty()) {
            return Err(broken(Code::FrameSize));
        }
        self.budget.control()?;
        if is_ack {
            return Ok(());
        }
        for entry in payload.chunks_exact(6) {
            if let [a, b, c, d, e, f] = *entry {
                let id = u16::from_be_bytes([a, b]);
                self.setting(id, u32::from_be_bytes([c, d, e, f]))?;
            }
        }
        put_settings_ack(&mut self.out);
        Ok(())
    }

    fn setting(&mut self, id: u16, value: u32) -> Taken {
        let size = usize::try_from(value).unwrap_or(usize::MAX);
        match id {
            setting::HEADER_TABLE_SIZE => self.encoder.set_limit(size),
            setting::ENABLE_PUSH if value > 1 => return Err(broken(Code::Protocol)),
            setting::INITIAL_WINDOW_SIZE => return self.first_window(i64::from(value)),
            setting::MAX_FRAME_SIZE => {
                if !(PAYLOAD_MAX..=0xff_ffff).contains(&size) {
                    return Err(broken(Code::Protocol));
                }
                self.payload_max = size;
            }
            _ => {}
        }
        Ok(())
    }

    /// A new first window moves those of open streams too, below zero where it must (section 6.9.2).
    fn first_window(&mut self, window: i64) -> Taken {
        if window > WINDOW_MAX {
            return Err(broken(Code::FlowControl));
        }
        let grown = window - self.first_window;
        self.first_window = window;
        for stream in self.streams.values_mut() {
            stream.send_window += grown;
            if stream.send_window > WINDOW_MAX {
                return Err(broken(Code::FlowControl));
            }
            if grown > 0 {
                self.wakes.extend(stream.server.clone());
            }
        }
        Ok(())
    }

    fn window_update(&mut self, header: Header, payload: &[u8]) -> Taken {
        let Ok(increment) = <[u8; 4]>::try_from(payload) else {
            return Err(broken(Code::FrameSize));
        };
        self.budget.update()?;
        let increment = i64::from(u32::from_be_bytes(increment) & 0x7fff_ffff);
        let id = header.stream;
        if id == 0 {
            self.send_window += increment;
            if increment == 0 {
                return Err(broken(Code::Protocol));
            }
            if self.send_window > WINDOW_MAX {
                return Err(broken(Code::FlowControl));
            }
            self.wake_next();
            return Ok(());
        }
        if id > self.last {
            return Err(broken(Code::Protocol));
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        stream.send_window += increment;
        if increment == 0 {
            return self.fail_stream(id, Code::Protocol);
        }
        if stream.send_window > WINDOW_MAX {
            return self.fail_stream(id, Code::FlowControl);
        }
        self.wakes.extend(stream.server.clone());
        Ok(())
    }
}

/// A payload without its padding; `None`: the padding is longer than the frame.
fn unpadded(header: Header, payload: &[u8]) -> Option<&[u8]> {
    if !header.has(flag::PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}
