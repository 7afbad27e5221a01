//! Keys of TLS session tickets, as the supervisor makes them for every generation of a service.
//!
//! Room  pure: values and their form in a message; who makes and rotates them is the supervisor's business.
//! Holds a key is never printed (`Debug` counts them) and never written to a file; a text that is no key is
//!       refused without being repeated in the error.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Length of one key, in bytes.
pub const TICKET_KEY_BYTES: usize = 32;

/// Most keys in one message. Sized: the supervisor keeps three.
const KEYS_MAX: usize = 16;

/// Newest first: new tickets are made with the first one, tickets of all are accepted.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TicketKeys(Vec<[u8; TICKET_KEY_BYTES]>);

impl TicketKeys {
    /// No key: the peer is of a version that has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys, newest first.
    pub fn as_slice(&self) -> &[[u8; TICKET_KEY_BYTES]] {
        &self.0
    }

    /// Makes `key` the newest and forgets all but the newest `keep`.
    pub fn rotate(&mut self, key: [u8; TICKET_KEY_BYTES], keep: usize) {
        self.0.insert(0, key);
        self.0.truncate(keep);
    }
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketKeys({} keys)", self.0.len())
    }
}

impl Serialize for TicketKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(hex))
    }
}

impl<'de> Deserialize<'de> for TicketKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        if texts.len() > KEYS_MAX {
            return Err(serde::de::Error::custom("too many ticket keys"));
        }
        let keys: Option<Vec<_>> = texts.iter().map(|text| key(text)).collect();
        keys.map(Self).ok_or_else(|| {
            serde::de::Error::custom("a ticket key is not 64 hexadecimal digits (not shown)")
        })
    }
}

fn hex(key: &[u8; TICKET_KEY_BYTES]) -> String {
    key.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn key(text: &str) -> Option<[u8; TICKET_KEY_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != TICKET_KEY_BYTES * 2 {
        return None;
    }
    let mut key = [0; TICKET_KEY_BYTES];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else {
            return None;
        };
        *byte = digit(*high)? * 16 + digit(*low)?;
    }
    Some(key)
}

fn digit(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::TicketKeys;

    #[test]
    fn the_newest_is_first_and_old_ones_are_forgotten() {
        let mut keys = TicketKeys::default();
        for byte in 1..=5 {
            keys.rotate([byte; 32], 3);
        }
        assert_eq!(keys.as_slice(), [[5; 32], [4; 32], [3; 32]]);
    }

    #[test]
    fn no_key_is_printed_not_even_in_an_error() {
        let mut keys = TicketKeys::default();
        keys.rotate([0xab; 32], 3);
        assert_eq!(format!("{keys:?}"), "TicketKeys(1 keys)");
        for wrong in ["abcdef", &"g".repeat(64), &"é".repeat(32), &"ab".repeat(33)] {
            let text = serde_json::json!([wrong]).to_string();
            let error = serde_json::from_str::<TicketKeys>(&text).expect_err(wrong);
            assert!(!error.to_string().contains(wrong), "{error}");
        }
        let many = serde_json::json!(vec!["ab".repeat(32); 17]).to_string();
        assert!(serde_json::from_str::<TicketKeys>(&many).is_err());
    }

    proptest! {
        #[test]
        fn keys_arrive_as_they_left(all in proptest::collection::vec(any::<[u8; 32]>(), 0..5)) {
            let mut keys = TicketKeys::default();
            for key in &all {
                keys.rotate(*key, 16);
            }
            let text = serde_json::to_string(&keys).expect("a message");
            let arrived: TicketKeys = serde_json::from_str(&text).expect("the same");
            prop_assert_eq!(arrived, keys);
        }

        #[test]
        fn an_arbitrary_text_never_panics(text in ".{60,70}") {
            let _ = serde_json::from_value::<TicketKeys>(serde_json::json!([text]));
        }
    }
}
