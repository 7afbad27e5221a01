//! What a request is called in logs, towards the backend and towards the client.
//!
//! Room  pure.
//! Holds an id is 1 to 64 characters of `A-Z a-z 0-9 - _ . : + / = @`: nothing of it needs escaping anywhere.

use std::fmt;

/// A request's id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl RequestId {
    /// Longer ones are not believed, even from a trusted proxy.
    pub const LONGEST: usize = 64;

    /// 32 hexadecimal digits.
    pub fn generated(random: u128) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; Self::LONGEST];
        for (index, byte) in random.to_be_bytes().into_iter().enumerate() {
            bytes[2 * index] = DIGITS[usize::from(byte >> 4)];
            bytes[2 * index + 1] = DIGITS[usize::from(byte & 15)];
        }
        Self { bytes, length: 32 }
    }

    /// One that somebody sent; `None` where it is empty, too long or has other characters.
    pub fn given(value: &[u8]) -> Option<Self> {
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
        if value.is_empty() || value.len() > Self::LONGEST || !value.iter().all(good) {
            return None;
        }
        let mut bytes = [0; Self::LONGEST];
        bytes[..value.len()].copy_from_slice(value);
        Some(Self {
            bytes,
            length: value.len(),
        })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("only ASCII gets in")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RequestId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::RequestId;

    #[test]
    fn ids() {
        assert_eq!(
            RequestId::generated(0xabc).as_str(),
            "00000000000000000000000000000abc"
        );
        for (sent, good) in [
            ("f47ac10b-58cc", true),
            ("Root=1-67891233:a+b/c@d", true),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("<script>", false),
        ] {
            let given = RequestId::given(sent.as_bytes());
            assert_eq!(
                given.map(|id| id.to_string()),
                good.then(|| sent.to_owned())
            );
        }
        assert!(RequestId::given(&[b'a'; 64]).is_some());
        assert!(RequestId::given(&[b'a'; 65]).is_none());
    }
}
