//! Compression of header fields (RFC 7541).
//!
//! Room  pure: `decoder` for requests, `encoder` for answers, the tables that both ends keep.

mod decoder;
mod encoder;
mod huffman;
mod table;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::{Block, Encoder};
