//! Listeners by name: how a socket is known across processes and upgrades.
//!
//! Holds: a name is valid from the moment it exists; each descriptor has one owner.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A listener's name: `[a-z0-9][a-z0-9_-]{0,62}`.
///
/// The alphabet leaves out `.` and `:` because `name.member` is the name of one socket in the service
/// manager's descriptor store, where `:` separates names (systemd.socket(5), `FileDescriptorName=`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenerName(String);

/// Longest listener name, in bytes: `name.member` must stay far below systemd's 255.
const NAME_BYTES_MAX: usize = 63;

/// A text that cannot name a listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a listener: use 1 to 63 of a-z 0-9 _ -, starting with a letter or a digit"
)]
pub struct ListenerNameError(pub String);

impl ListenerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ListenerName {
    type Error = ListenerNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let first_is_plain =
            text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rest_is_plain = text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
        if first_is_plain && rest_is_plain && text.len() <= NAME_BYTES_MAX {
            Ok(Self(text))
        } else {
            Err(ListenerNameError(text))
        }
    }
}

impl FromStr for ListenerName {
    type Err = ListenerNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<ListenerName> for String {
    fn from(name: ListenerName) -> Self {
        name.0
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Listening sockets by name; the members of each SO_REUSEPORT group in their fixed order.
#[derive(Debug, Default)]
pub struct Listeners(BTreeMap<ListenerName, Vec<OwnedFd>>);

impl Listeners {
    /// No listeners.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes ownership of a group; a group of the same name is closed and replaced.
    pub fn insert(&mut self, name: ListenerName, members: Vec<OwnedFd>) {
        self.0.insert(name, members);
    }

    /// Adds one member at the end of its group.
    pub fn push(&mut self, name: ListenerName, member: OwnedFd) {
        self.0.entry(name).or_default().push(member);
    }

    /// Gives the group up to the caller.
    pub fn take(&mut self, name: &ListenerName) -> Option<Vec<OwnedFd>> {
        self.0.remove(name)
    }

    /// The members of one group.
    pub fn get(&self, name: &ListenerName) -> Option<&[OwnedFd]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &ListenerName> {
        self.0.keys()
    }

    /// Every group, in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&ListenerName, &[OwnedFd])> {
        self.0
            .iter()
            .map(|(name, members)| (name, members.as_slice()))
    }

    /// True when there is no group at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sockets in all groups.
    pub fn socket_count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Duplicates every descriptor (close-on-exec); the open file descriptions stay the same.
    ///
    /// # Errors
    /// The descriptor limit of this process (EMFILE) or of the host (ENFILE).
    pub fn try_clone(&self) -> io::Result<Self> {
        let mut copy = Self::new();
        for (name, members) in &self.0 {
            let members = members
                .iter()
                .map(OwnedFd::try_clone)
                .collect::<io::Result<_>>()?;
            copy.insert(name.clone(), members);
        }
        Ok(copy)
    }

    /// Takes over every group of `other`; groups of the same name are replaced.
    pub fn absorb(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl IntoIterator for Listeners {
    type Item = (ListenerName, Vec<OwnedFd>);
    type IntoIter = std::collections::btree_map::IntoIter<ListenerName, Vec<OwnedFd>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::ListenerName;

    #[test]
    fn a_name_has_a_small_alphabet_and_a_bound() {
        for good in ["web", "0", "a_b-c9", &"x".repeat(63)] {
            assert!(good.parse::<ListenerName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-web",
            "_w",
            "Web",
            "we b",
            "web.1",
            "a:b",
            "ü",
            &"x".repeat(64),
        ] {
            assert!(bad.parse::<ListenerName>().is_err(), "{bad}");
        }
    }
}
