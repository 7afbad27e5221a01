//! Why a message is refused: one variant for each reason, so that a test can name the exact one.
//!
//! Room  pure.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("a line does not end in CR LF")]
    BareLineEnd,
    #[error("a line is no field line")]
    FieldLine,
    #[error("a field value has a control character")]
    FieldValue,
    #[error("a field line is folded")]
    Folded,
    #[error("the head is too large")]
    HeadTooLarge,
    #[error("the head has too many lines")]
    TooManyLines,
    #[error("the request target is too long")]
    TargetTooLong,
    #[error("the request line is none")]
    RequestLine,
    #[error("the status line is none")]
    StatusLine,
    #[error("the version is not spoken")]
    Version,
    #[error("the request target is malformed")]
    Target,
    #[error("there is no Host field")]
    NoHost,
    #[error("there are several Host fields")]
    SeveralHosts,
    #[error("the Host field is malformed")]
    Host,
    #[error("the Host field differs from the request target")]
    HostDiffers,
    #[error("Content-Length is no number")]
    ContentLength,
    #[error("there are several Content-Length values")]
    SeveralContentLengths,
    #[error("Content-Length and Transfer-Encoding are both there")]
    LengthAndCoding,
    #[error("Transfer-Encoding is not exactly \"chunked\"")]
    TransferEncoding,
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
    #[error("a response that has no body announces one")]
    BodyNotAllowed,
    #[error("the expectation is unknown")]
    Expectation,
    #[error("a chunk size is malformed")]
    ChunkSize,
    #[error("a chunk extension is malformed or too long")]
    ChunkExtension,
    #[error("a chunk does not end in CR LF")]
    ChunkEnd,
    #[error("the trailers are malformed or too large")]
    Trailers,
}

impl Refused {
    /// The status that says so to a client.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge | Self::TooManyLines => 431,
            Self::TargetTooLong => 414,
            Self::Version => 505,
            Self::Expectation => 417,
            _ => 400,
        }
    }
}
