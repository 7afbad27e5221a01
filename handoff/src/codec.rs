//! Message <-> frame bytes.
//!
//! Room  pure: no I/O.
//! In    a frame as it came from the socket, with the number of descriptors beside it.
//! Out   a message, or the reason why the frame is refused.
//! Holds arbitrary bytes never panic; a frame names how many descriptors belong to it, and the sequence
//!       number makes a lost or doubled frame visible.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest frame, in bytes. Sized: a full batch (253 members with 63-byte names) is 28 KiB.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// A frame that is refused.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the peer's frame is not a message: {0}")]
    NotAMessage(#[from] serde_json::Error),
    #[error("the peer's frame number {got} does not follow {last}")]
    OutOfSequence { last: u64, got: u64 },
    #[error("the peer's frame announces {announced} descriptors, {arrived} arrived")]
    Descriptors { announced: usize, arrived: usize },
    #[error("the message needs {0} bytes, more than a frame holds ({FRAME_BYTES_MAX})")]
    TooLong(usize),
}

#[derive(Serialize)]
struct Outgoing<'a, M> {
    seq: u64,
    fds: usize,
    message: &'a M,
}

#[derive(Deserialize)]
struct Incoming<M> {
    seq: u64,
    #[serde(default)]
    fds: usize,
    message: M,
}

/// Numbers the frames that leave.
#[derive(Debug, Default)]
pub struct Encoder {
    last: u64,
}

impl Encoder {
    /// The next frame.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]: the caller's message does not fit; nothing is numbered.
    pub fn encode<M: Serialize>(
        &mut self,
        message: &M,
        descriptors: usize,
    ) -> Result<Vec<u8>, FrameError> {
        let frame = serde_json::to_vec(&Outgoing {
            seq: self.last + 1,
            fds: descriptors,
            message,
        })?;
        if frame.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(frame.len()));
        }
        self.last += 1;
        Ok(frame)
    }
}

/// Checks the frames that arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    last: u64,
}

impl Decoder {
    /// The message in `frame`, which came with `descriptors` descriptors.
    ///
    /// # Errors
    /// See [`FrameError`]: the peer is at fault, the conversation cannot go on.
    pub fn decode<M: DeserializeOwned>(
        &mut self,
        frame: &[u8],
        descriptors: usize,
    ) -> Result<M, FrameError> {
        let incoming: Incoming<M> = serde_json::from_slice(frame)?;
        if incoming.seq != self.last.wrapping_add(1) {
            return Err(FrameError::OutOfSequence {
                last: self.last,
                got: incoming.seq,
            });
        }
        if incoming.fds != descriptors {
            return Err(FrameError::Descriptors {
                announced: incoming.fds,
                arrived: descriptors,
            });
        }
        self.last = incoming.seq;
        Ok(incoming.message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Decoder, Encoder, FrameError};
    use crate::message::{ToSupervisor, ToWorker};

    #[test]
    fn unknown_fields_and_kinds_of_a_newer_peer_are_ignored() {
        let frame = br#"{"seq":1,"fds":0,"colour":"red","message":{"type":"drain","within_ms":5,"spread":true}}"#;
        let message: ToWorker = Decoder::default().decode(frame, 0).expect("decodes");
        assert_eq!(message, ToWorker::Drain { within_ms: 5 });
        let frame = br#"{"seq":1,"message":{"type":"teleport","to":"mars"}}"#;
        let message: ToWorker = Decoder::default().decode(frame, 0).expect("decodes");
        assert_eq!(message, ToWorker::Unknown);
    }

    #[test]
    fn a_lost_or_doubled_frame_is_refused() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let first = encoder.encode(&ToWorker::Pause, 0).expect("fits");
        let _lost = encoder.encode(&ToWorker::Resume, 0).expect("fits");
        let third = encoder.encode(&ToWorker::Pause, 0).expect("fits");
        assert!(decoder.decode::<ToWorker>(&first, 0).is_ok());
        assert!(matches!(
            decoder.decode::<ToWorker>(&first, 0),
            Err(FrameError::OutOfSequence { .. })
        ));
        assert!(matches!(
            decoder.decode::<ToWorker>(&third, 0),
            Err(FrameError::OutOfSequence { last: 1, got: 3 })
        ));
    }

    #[test]
    fn a_frame_whose_descriptors_went_missing_is_refused() {
        let frame = Encoder::default()
            .encode(&ToWorker::Pause, 3)
            .expect("fits");
        assert!(matches!(
            Decoder::default().decode::<ToWorker>(&frame, 2),
            Err(FrameError::Descriptors {
                announced: 3,
                arrived: 2
            })
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048), fds in 0usize..300) {
            let _ = Decoder::default().decode::<ToSupervisor>(&bytes, fds);
            let _ = Decoder::default().decode::<ToWorker>(&bytes, fds);
        }

        #[test]
        fn a_damaged_frame_never_panics(position in 0usize..200, byte in any::<u8>()) {
            let mut frame = Encoder::default().encode(
                &ToSupervisor::Drained { finished: 7, cut: 1, moved: 0 }, 0).expect("fits");
            let at = position % frame.len();
            frame[at] = byte;
            let _ = Decoder::default().decode::<ToSupervisor>(&frame, 0);
        }
    }
}
