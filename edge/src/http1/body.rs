//! A body as it arrives, in any of its framings.
//!
//! Room  pure. Holds a body that breaks off is told from one that ended.

use std::ops::Range;

use crate::field::Field;
use crate::http1::{ChunkedDecoder, Refused, RequestBody, ResponseBody};

/// What became of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are dealt with; at least the run's.
    pub consumed: usize,
    /// Where in the input a run of the body lies; it ends where `consumed` does.
    pub data: Option<Range<usize>>,
    pub end: bool,
}

/// The connection ended within the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection ended within a body")]
pub struct Truncated;

/// See the module.
#[derive(Clone, Debug)]
pub struct BodyDecoder(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Length { left: u64 },
    Chunked(ChunkedDecoder),
    UntilClose { ended: bool },
}

impl BodyDecoder {
    /// Of a request.
    #[must_use]
    pub fn request(body: &RequestBody) -> Self {
        Self(match body {
            RequestBody::None => Kind::Length { left: 0 },
            RequestBody::Length(length) => Kind::Length { left: *length },
            RequestBody::Chunked => Kind::Chunked(ChunkedDecoder::new()),
        })
    }

    /// Of a response.
    #[must_use]
    pub fn response(body: &ResponseBody) -> Self {
        Self(match body {
            ResponseBody::None => Kind::Length { left: 0 },
            ResponseBody::Length(length) => Kind::Length { left: *length },
            ResponseBody::Chunked => Kind::Chunked(ChunkedDecoder::new()),
            ResponseBody::UntilClose => Kind::UntilClose { ended: false },
        })
    }

    /// Everything until the connection ends.
    #[must_use]
    pub fn until_close() -> Self {
        Self(Kind::UntilClose { ended: false })
    }

    /// True when nothing of the body is left to come.
    #[must_use]
    pub fn is_end(&self) -> bool {
        match &self.0 {
            Kind::Length { left } => *left == 0,
            Kind::Chunked(decoder) => decoder.is_end(),
            Kind::UntilClose { ended } => *ended,
        }
    }

    /// Finds the next run of the body in `input`.
    ///
    /// # Errors
    /// The coding is broken.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Refused> {
        let run = |count: usize, end| Decoded {
            consumed: count,
            data: (count > 0).then_some(0..count),
            end,
        };
        match &mut self.0 {
            Kind::Length { left } => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let count = input.len().min(most);
                *left -= u64::try_from(count).unwrap_or(0);
                Ok(run(count, *left == 0))
            }
            Kind::Chunked(decoder) => decoder.decode(input),
            Kind::UntilClose { ended } => {
                let count = if *ended { 0 } else { input.len() };
                Ok(run(count, *ended))
            }
        }
    }

    /// The connection ended.
    ///
    /// # Errors
    /// In the middle of the body.
    pub fn on_eof(&mut self) -> Result<(), Truncated> {
        if let Kind::UntilClose { ended } = &mut self.0 {
            *ended = true;
        }
        if self.is_end() {
            Ok(())
        } else {
            Err(Truncated)
        }
    }

    /// The trailers of a chunked body; complete at its end.
    pub fn trailers(&self) -> impl Iterator<Item = Field<'_>> {
        let decoder = match &self.0 {
            Kind::Chunked(decoder) => Some(decoder),
            Kind::Length { .. } | Kind::UntilClose { .. } => None,
        };
        decoder.into_iter().flat_map(ChunkedDecoder::trailers)
    }
}
