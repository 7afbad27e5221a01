//! Version 1: one line of text, `PROXY TCP4 192.0.2.1 192.0.2.7 51000 443` and CR LF.
//!
//! Room  pure.
//! Holds the line is taken to the letter: single spaces, decimal ports without sign or leading zero, addresses
//!       of the family that is named. What is taken loosely by one proxy and strictly by the next is how requests
//!       are smuggled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Bad, Ends, Header, NOBODY, Parsed, named};

/// How every line begins.
pub(super) const OPENING: &[u8] = b"PROXY ";

/// Longest line including CR LF, in bytes (section 2.1: an `UNKNOWN` line with two full IPv6 addresses).
pub(super) const LINE_BYTES_MAX: usize = 107;

/// The bytes begin with [`OPENING`].
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Bad> {
    let window = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return more_or(Bad::LineTooLong, window);
    };
    let (line, ending) = window.split_at(end);
    match ending {
        [b'\r', b'\n', ..] => Ok(Parsed::Complete {
            header: header(line)?,
            length: end + 2,
        }),
        [b'\r'] => more_or(Bad::LineTooLong, window),
        _ => Err(Bad::LineEnd),
    }
}

/// A full window cannot get better by more bytes.
fn more_or(bad: Bad, window: &[u8]) -> Result<Parsed, Bad> {
    if window.len() < LINE_BYTES_MAX {
        Ok(Parsed::Incomplete)
    } else {
        Err(bad)
    }
}

fn header(line: &[u8]) -> Result<Header, Bad> {
    let rest = line.get(OPENING.len()..).unwrap_or_default();
    // "the receiver must ignore anything presented before the CRLF" after UNKNOWN, whatever bytes these are.
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Ok(NOBODY);
    }
    let text = std::str::from_utf8(rest).map_err(|_| Bad::LineGrammar)?;
    let mut words = text.split(' ');
    let mut word = || words.next().ok_or(Bad::LineGrammar);
    let (family, source, destination) = (word()?, word()?, word()?);
    let (source_port, destination_port) = (word()?, word()?);
    if words.next().is_some() {
        return Err(Bad::LineGrammar);
    }
    let read = match family {
        "TCP4" => |text: &str| text.parse::<Ipv4Addr>().map(IpAddr::V4),
        "TCP6" => |text: &str| text.parse::<Ipv6Addr>().map(IpAddr::V6),
        _ => return Err(Bad::LineGrammar),
    };
    let ip = |text: &str| read(text).map_err(|_| Bad::Address);
    Ok(named(
        (ip(source)?, port(source_port)?),
        (ip(destination)?, port(destination_port)?),
    ))
}

fn port(text: &str) -> Result<u16, Bad> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(Bad::Port);
    }
    text.parse().map_err(|_| Bad::Port)
}

pub(super) fn encode(ends: Ends, source_port: u16, destination_port: u16) -> Vec<u8> {
    let line = match ends {
        Ends::V4(source, destination) => format!("TCP4 {source} {destination}"),
        Ends::V6(source, destination) => format!("TCP6 {source} {destination}"),
    };
    format!("PROXY {line} {source_port} {destination_port}\r\n").into_bytes()
}
