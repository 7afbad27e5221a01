//! Which certificate names cover which host (RFC 9525, section 6.3; once RFC 6125).
//!
//! Room  pure: strings only.
//! Holds a wildcard is the whole leftmost label and stands for exactly one label. Comparison ignores ASCII case
//!       and one trailing dot.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

/// Values by certificate name; several values may share a name.
#[derive(Clone, Debug)]
pub(crate) struct NameIndex<T> {
    exact: HashMap<String, Vec<T>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Vec<T>>,
}

impl<T> Default for NameIndex<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        }
    }
}

impl<T> NameIndex<T> {
    /// Adds a name as a certificate has it.
    pub(crate) fn insert(&mut self, name: &str, value: T) {
        let name = normal(name);
        let (map, name) = match name.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent),
            None => (&mut self.exact, &*name),
        };
        map.entry(name.to_owned()).or_default().push(value);
    }

    /// Values whose name covers `host`: exact ones before wildcards, each in the order of insertion.
    pub(crate) fn lookup(&self, host: &str) -> impl Iterator<Item = &T> {
        let host = normal(host);
        let exact = self.exact.get(&*host);
        let wildcard = parent(&host).and_then(|parent| self.wildcard.get(parent));
        exact.into_iter().chain(wildcard).flatten()
    }
}

/// One of a certificate's names covers the host (a name or an address, without port; an IPv6 address with or
/// without brackets).
pub(crate) fn covers(names: &[String], host: &str) -> bool {
    let host = normal(host);
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(&host).parse::<IpAddr>() {
        return names.iter().any(|name| name.parse() == Ok(address));
    }
    names.iter().any(|name| {
        let name = normal(name);
        match name.strip_prefix("*.") {
            Some(suffix) => parent(&host) == Some(suffix),
            None => name == host,
        }
    })
}

/// One host, written twice.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    normal(one) == normal(other)
}

/// What follows the first label, if there is a first label and something follows.
fn parent(host: &str) -> Option<&str> {
    let (label, parent) = host.split_once('.')?;
    // A host that itself begins with a star is no name of a host.
    (!label.is_empty() && label != "*" && !parent.is_empty()).then_some(parent)
}

fn normal(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::{NameIndex, covers};

    #[test]
    fn covers_as_clients_do() {
        for (name, host, covered) in [
            ("example.org", "example.org", true),
            ("example.org", "EXAMPLE.org.", true),
            ("Example.ORG", "example.org", true),
            ("example.org", "a.example.org", false),
            ("*.example.org", "a.example.org", true),
            ("*.example.org", "A.Example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", "a.b.example.org", false),
            ("*.example.org", ".example.org", false),
            ("*.example.org", "*.example.org", false),
            ("f*.example.org", "foo.example.org", false),
            ("*", "example", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("*.0.2.1", "192.0.2.1", false),
            ("2001:db8::1", "[2001:db8:0::1]", true),
            ("example.org", "", false),
        ] {
            let names = [name.to_owned()];
            assert_eq!(covers(&names, host), covered, "{name} {host}");
        }
        assert!(!covers(&[], "example.org"));
    }

    #[test]
    fn exact_names_come_before_wildcards_in_order() {
        let mut index = NameIndex::default();
        index.insert("*.example.org", 1);
        index.insert("a.example.org", 2);
        index.insert("A.example.org", 3);
        let found = |host| index.lookup(host).copied().collect::<Vec<i32>>();
        assert_eq!(found("a.EXAMPLE.org"), [2, 3, 1]);
        assert_eq!(found("b.example.org"), [1]);
        assert_eq!(found("a.b.example.org"), [0; 0]);
        assert_eq!(found("*.example.org"), [0; 0]);
        assert_eq!(found("example.org"), [0; 0]);
    }
}
