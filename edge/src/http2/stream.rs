//! One stream as its connection keeps it (RFC 9113 section 5.1).
//!
//! Room  pure: what came and was not taken, what may still come and go.
//! Holds a body is as long as its Content-Length says; what a client resets is never a whole body.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;

use super::STREAM_WINDOW;

/// A part of a request's body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// What there is of a request's body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Piece(Piece),
    /// It was whole.
    End,
    /// The client took it back, or broke the protocol.
    Gone,
    /// Nothing yet.
    Nothing,
}

/// The client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    Open,
    Ended,
    /// Reset, by the client or because of it.
    Gone,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) remote: Remote,
    /// END_STREAM has been written.
    pub(super) is_answered: bool,
    /// What may still be sent to the client.
    pub(super) send_window: i64,
    /// What the client may still send.
    pub(super) receive_window: i64,
    /// Bytes taken of the body whose window was not given back.
    pub(super) owed: u32,
    /// What the body still has to bring, where Content-Length says so.
    pub(super) body_left: Option<u64>,
    pub(super) pieces: VecDeque<Piece>,
    /// Of who serves the stream.
    pub(super) server: Option<Waker>,
    /// Of who reads the body.
    pub(super) reader: Option<Waker>,
}

impl Stream {
    pub(super) fn new(send_window: i64, body_left: Option<u64>, has_ended: bool) -> Self {
        Self {
            remote: if has_ended {
                Remote::Ended
            } else {
                Remote::Open
            },
            is_answered: false,
            send_window,
            receive_window: i64::from(STREAM_WINDOW),
            owed: 0,
            body_left,
            pieces: VecDeque::new(),
            server: None,
            reader: None,
        }
    }

    /// `length` bytes of the body came; false: they are more than was announced, or than allowed.
    pub(super) fn takes(&mut self, length: usize) -> bool {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        match &mut self.body_left {
            None => true,
            Some(left) => match left.checked_sub(length) {
                Some(rest) => {
                    *left = rest;
                    true
                }
                None => false,
            },
        }
    }

    /// The client's side ends; false: its body is shorter than announced.
    pub(super) fn ends(&mut self) -> bool {
        self.remote = Remote::Ended;
        self.body_left.unwrap_or(0) == 0
    }

    pub(super) fn next(&mut self) -> Received {
        if self.remote == Remote::Gone {
            return Received::Gone;
        }
        match self.pieces.pop_front() {
            Some(piece) => Received::Piece(piece),
            None if self.remote == Remote::Ended => Received::End,
            None => Received::Nothing,
        }
    }

    /// Bytes that nobody will take any more.
    pub(super) fn unread(&self) -> u32 {
        let unread = self.pieces.iter().map(|piece| match piece {
            Piece::Data(data) => u32::try_from(data.len()).unwrap_or(0),
            Piece::Trailers(_) => 0,
        });
        unread.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece, Received, Remote, Stream};
    use bytes::Bytes;

    #[test]
    fn a_body_is_as_long_as_was_announced() {
        let mut stream = Stream::new(10, Some(5), false);
        assert!(stream.takes(3) && !stream.takes(3) && stream.takes(2) && stream.ends());
        let mut short = Stream::new(10, Some(5), false);
        assert!(short.takes(3) && !short.ends());
        let mut any = Stream::new(10, None, false);
        assert!(any.takes(usize::MAX) && any.ends());
    }

    #[test]
    fn what_was_taken_back_is_no_whole_body() {
        let mut stream = Stream::new(10, None, false);
        assert_eq!(stream.next(), Received::Nothing);
        let piece = || Piece::Data(Bytes::from_static(b"x"));
        stream.pieces.push_back(piece());
        stream.remote = Remote::Ended;
        assert_eq!(stream.next(), Received::Piece(piece()));
        assert_eq!(stream.next(), Received::End);
        stream.pieces.push_back(piece());
        stream.remote = Remote::Gone;
        assert_eq!((stream.next(), stream.unread()), (Received::Gone, 1));
    }
}
