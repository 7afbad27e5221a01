//! Version 2: sixteen fixed bytes, addresses, then TLVs.
//!
//! Room  pure.
//! Holds the length of a header is what its fixed part announces, whatever else is wrong with it.
//!
//! ```text
//!   0            12        13       14     16                    16 + address block      16 + length
//!   | signature  | ver cmd | family | length | source, destination | TLV: type, length, value … |
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Bad, Ends, HEADER_BYTES_MAX, Header, NOBODY, Parsed, named};

/// How every header begins; chosen so that no HTTP, TLS or text protocol begins so.
pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
const FIXED_BYTES: usize = 16;

const VERSION: u8 = 2;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;

/// Two Unix socket paths of 108 bytes.
const UNIX_BYTES: usize = 216;

const INET_STREAM: u8 = 0x11;
const INET6_STREAM: u8 = 0x21;

/// The bytes begin with [`SIGNATURE`].
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Bad> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(Parsed::Incomplete);
    };
    let [.., version_and_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let total = FIXED_BYTES + length; // at most 65,551
    if version_and_command >> 4 != VERSION {
        return Err(Bad::Version(version_and_command >> 4));
    }
    let command = version_and_command & 0x0F;
    if command != LOCAL && command != PROXY {
        return Err(Bad::Command(command));
    }
    if total > HEADER_BYTES_MAX {
        return Err(Bad::TooLong(total));
    }
    let Some(block) = rest.get(..length) else {
        return Ok(Parsed::Incomplete);
    };
    // LOCAL: the proxy speaks for itself; the block is discarded "including the family which is ignored".
    let header = if command == LOCAL {
        NOBODY
    } else {
        proxied(family, block)?
    };
    Ok(Parsed::Complete {
        header,
        length: total,
    })
}

/// The upper half names the family, the lower one the transport; every other pair must be refused.
fn proxied(family: u8, block: &[u8]) -> Result<Header, Bad> {
    let (header, tlvs) = match family {
        // "The receiver is free to accept the connection anyway and use the real endpoint addresses."
        0x00 => return Ok(NOBODY),
        0x11 | 0x12 => inet(block)?,
        0x21 | 0x22 => inet6(block)?,
        0x31 | 0x32 => (NOBODY, block.get(UNIX_BYTES..).ok_or(Bad::AddressBlock)?),
        unknown => return Err(Bad::Family(unknown)),
    };
    skip_tlvs(tlvs)?;
    Ok(header)
}

fn inet(block: &[u8]) -> Result<(Header, &[u8]), Bad> {
    let (source, rest) = take::<4>(block)?;
    let (destination, rest) = take::<4>(rest)?;
    let ip = |bytes| IpAddr::V4(Ipv4Addr::from(bytes));
    ports(ip(source), ip(destination), rest)
}

fn inet6(block: &[u8]) -> Result<(Header, &[u8]), Bad> {
    let (source, rest) = take::<16>(block)?;
    let (destination, rest) = take::<16>(rest)?;
    let ip = |bytes| IpAddr::V6(Ipv6Addr::from(bytes));
    ports(ip(source), ip(destination), rest)
}

fn ports(source: IpAddr, destination: IpAddr, rest: &[u8]) -> Result<(Header, &[u8]), Bad> {
    let (source_port, rest) = take::<2>(rest)?;
    let (destination_port, tlvs) = take::<2>(rest)?;
    let source = (source, u16::from_be_bytes(source_port));
    let destination = (destination, u16::from_be_bytes(destination_port));
    Ok((named(source, destination), tlvs))
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Bad> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(Bad::AddressBlock)?;
    Ok((*taken, rest))
}

/// Nothing in them is used, but what does not add up is not believed.
fn skip_tlvs(mut rest: &[u8]) -> Result<(), Bad> {
    while !rest.is_empty() {
        let ([_kind, high, low], value_and_more) = rest.split_first_chunk::<3>().ok_or(Bad::Tlv)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        rest = value_and_more.get(length..).ok_or(Bad::Tlv)?;
    }
    Ok(())
}

pub(super) fn encode(ends: Ends, source_port: u16, destination_port: u16) -> Vec<u8> {
    let (family, addresses) = match ends {
        Ends::V4(source, destination) => (
            INET_STREAM,
            [source.octets(), destination.octets()].concat(),
        ),
        Ends::V6(source, destination) => (
            INET6_STREAM,
            [source.octets(), destination.octets()].concat(),
        ),
    };
    let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
    let length = u16::try_from(addresses.len() + ports.len()).unwrap_or(u16::MAX); // 12 or 36
    let mut header = SIGNATURE.to_vec();
    header.extend([(VERSION << 4) | PROXY, family]);
    header.extend(length.to_be_bytes());
    header.extend(addresses);
    header.extend(ports);
    header
}
