//! Which addresses belong to a list of networks, and who may come in.
//!
//! Room  pure.
//! Holds an IPv4 address is the same one when it comes as `::ffff:a.b.c.d`; what is denied stays out, allowed or not.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks that may, and networks that may not.
#[derive(Clone, Debug, Default)]
pub(super) struct AccessList {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

impl AccessList {
    pub(super) fn new(allow: &[IpNet], deny: &[IpNet]) -> Self {
        // A smaller list is a shorter search: networks within others go.
        Self {
            allow: IpNet::aggregate(&allow.to_vec()),
            deny: IpNet::aggregate(&deny.to_vec()),
        }
    }

    /// `deny` first, then `allow`; an empty `allow` lets everybody in.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        !within(&self.deny, address) && (self.allow.is_empty() || within(&self.allow, address))
    }

    /// Whether `allow` has it; an empty one has nobody.
    pub(super) fn lists(&self, address: IpAddr) -> bool {
        within(&self.allow, address.to_canonical())
    }
}

fn within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::AccessList;

    #[test]
    fn deny_then_allow() {
        let nets = |texts: &[&str]| -> Vec<ipnet::IpNet> {
            texts
                .iter()
                .map(|text| text.parse().expect("a network"))
                .collect()
        };
        let list = AccessList::new(
            &nets(&["10.0.0.0/8", "2001:db8::/32"]),
            &nets(&["10.1.0.0/16", "2001:db8:bad::/48"]),
        );
        for (address, admitted) in [
            ("10.2.3.4", true),
            ("::ffff:10.2.3.4", true),
            ("10.1.3.4", false),
            ("::ffff:10.1.3.4", false),
            ("192.0.2.1", false),
            ("2001:db8::1", true),
            ("2001:db8:bad::1", false),
        ] {
            assert_eq!(
                list.admits(address.parse().expect("an address")),
                admitted,
                "{address}"
            );
        }
        let anybody = AccessList::new(&[], &nets(&["192.0.2.0/24"]));
        assert!(anybody.admits("198.51.100.1".parse().expect("an address")));
        assert!(!anybody.admits("192.0.2.1".parse().expect("an address")));
        assert!(!anybody.lists("198.51.100.1".parse().expect("an address")));
    }
}
