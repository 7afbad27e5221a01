//! A connection's other end, in the words of the kernel: lines of /proc/net/tcp and links of /proc/PID/fd (proc(5)).
//!
//! Room  pure: lines in, values out.
//! Holds an IPv4 address inside an IPv6 one is the IPv4 address: a program that listens on `::` holds such sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One TCP socket of this network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// 0: no process holds it, as while it waits to be accepted.
    pub(crate) inode: u64,
}

/// A line of /proc/net/tcp or /proc/net/tcp6; `None` for the heading and whatever else is none.
pub(crate) fn parse_line(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace();
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
    let number = words.next()?;
    number.strip_suffix(':')?.parse::<u64>().ok()?;
    Some(Entry {
        local: parse_address(words.next()?)?,
        remote: parse_address(words.next()?)?,
        inode: words.nth(6)?.parse().ok()?,
    })
}

/// `0100007F:1F90`: words of the address in the host's byte order, the port as a number.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex(ip) || !is_hex(port) || port.len() != 4 {
        return None;
    }
    let word = |index: usize| {
        let digits = ip.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (index, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index)?);
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// The same address as the kernel's tables have it after [`parse_line`].
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The number in `socket:[4711]`, which is what a link in /proc/PID/fd says of a socket.
pub(crate) fn parse_link(link: &str) -> Option<u64> {
    let number = link.strip_prefix("socket:[")?.strip_suffix(']')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{canonical, parse_line, parse_link};

    const HEADING: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

    /// As the kernel of a little-endian host prints it; the words of the others are turned around.
    fn line(local: &str, remote: &str, inode: &str) -> String {
        let turned = |address: &str| {
            let (ip, port) = address.split_once(':').expect("an address");
            let words: String = (0..ip.len() / 8)
                .map(|at| {
                    let word = u32::from_str_radix(&ip[at * 8..at * 8 + 8], 16).expect("hex");
                    format!("{:08X}", u32::from_ne_bytes(word.to_le_bytes()))
                })
                .collect();
            format!("{words}:{port}")
        };
        format!(
            "   3: {} {} 01 00000000:00000000 02:000004D2 00000000  1000        0 {inode} 2 0000000000000000 20 4 30 10 -1",
            turned(local),
            turned(remote)
        )
    }

    #[test]
    fn both_families_are_read_and_a_mapped_address_is_the_one_it_maps() {
        let table = [
            (
                line("0100007F:1F90", "0200007F:C350", "4711"),
                "127.0.0.1:8080",
                "127.0.0.2:50000",
                4711,
            ),
            (
                line("00000000:0016", "00000000:0000", "0"),
                "0.0.0.0:22",
                "0.0.0.0:0",
                0,
            ),
            (
                line(
                    "00000000000000000000000001000000:1F90",
                    "B80D0120000000000000000042000000:FFFF",
                    "18446744073709551615",
                ),
                "[::1]:8080",
                "[2001:db8::42]:65535",
                u64::MAX,
            ),
            (
                line(
                    "0000000000000000FFFF00000100007F:1F90",
                    "0000000000000000FFFF00000A00000A:0050",
                    "9",
                ),
                "127.0.0.1:8080",
                "10.0.0.10:80",
                9,
            ),
        ];
        for (line, local, remote, inode) in table {
            let entry = parse_line(&line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(entry.local.to_string(), local);
            assert_eq!(entry.remote.to_string(), remote);
            assert_eq!(entry.inode, inode);
        }
    }

    #[test]
    fn what_is_no_socket_is_nothing() {
        let good = line("0100007F:1F90", "0200007F:C350", "4711");
        assert!(parse_line(&good).is_some());
        for wrong in [
            HEADING.to_owned(),
            String::new(),
            "3:".to_owned(),
            good.replace("3:", "3"),
            good.replace(":1F90", ":1F9"),
            good.replace(":1F90", ":+F90"),
            good.replace(":1F90", ""),
            good.replace("7F:1F90", ":1F90"),
            good.replace("7F:1F90", "7Fä:1F90"),
            good.replace("7F:1F90", "+F:1F90"),
            good.replace(" 4711 ", " -1 "),
            good.replace(" 4711 ", " 18446744073709551616 "),
            good.split(" 4711").next().expect("a part").to_owned(),
        ] {
            assert_eq!(parse_line(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_mapped_address_of_ours_is_found_in_the_table() {
        let address = |text: &str| text.parse().expect("an address");
        assert_eq!(
            canonical(address("[::ffff:127.0.0.1]:80")),
            address("127.0.0.1:80")
        );
        assert_eq!(canonical(address("[::1]:80")), address("[::1]:80"));
    }

    #[test]
    fn a_link_is_a_socket_or_not() {
        let table = [
            ("socket:[4711]", Some(4711)),
            ("socket:[0]", Some(0)),
            ("socket:[]", None),
            ("socket:[-1]", None),
            ("socket:[4711", None),
            ("pipe:[4711]", None),
            ("/dev/null", None),
            ("", None),
        ];
        for (link, expected) in table {
            assert_eq!(parse_link(link), expected, "{link}");
        }
    }
}
