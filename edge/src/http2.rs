//! HTTP/2 as a server speaks it, without a socket: frames, header blocks, flow control (RFC 9113, RFC 7541).
//!
//! ```text
//!   bytes ──▶ reader ──▶ streams ──▶ requests, bodies          hpack: fields <-> blocks
//!   bytes ◀── output ◀── windows ◀── answers                   budget: what a client may do how often
//! ```
//!
//! Room  pure: bytes and moments in, bytes and requests out. The sockets, tasks and deadlines are `h2`'s.
//! Holds what a client can make us keep is bounded: header blocks, bodies (by their windows), answers that wait.

mod budget;
mod connection;
mod frame;
mod head;
mod hpack;
mod output;
mod reader;
mod stream;

#[cfg(test)]
mod tests;

pub(crate) use budget::Abuse;
pub(crate) use connection::{Arrived, Bounds, Connection, Fault};
pub(crate) use frame::Code;
pub(crate) use head::RequestHead;
pub(crate) use hpack::Block;
pub(crate) use output::Room;
pub(crate) use stream::{Piece, Received};

/// What a client may send ahead of a slow backend, in bytes: of one stream, and of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
