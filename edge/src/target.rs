//! One normalisation of a request's target, for matching and for forwarding: what is matched is what is sent.
//!
//! ```text
//!   /a/./b//c/%7Euser/../x?q  ──▶  path /a/b/c/x, query q
//! ```
//!
//! Room  pure. RFC 3986 section 6.2.2: unreserved characters decoded, other triplets in upper case, dot segments
//!       removed. Beyond it: repeated slashes are one, as every router of files reads them.
//! Holds normalising twice is normalising once; what hides a separator (`%2F`, `%5C`, `%00`) is refused.

use std::borrow::Cow;

/// A target that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised<'t> {
    pub path: Cow<'t, str>,
    /// Byte for byte as sent.
    pub query: Option<&'t str>,
}

/// Why a target is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetRefused {
    #[error("the path does not begin with a slash")]
    NoSlash,
    #[error("the target has a character that must be encoded")]
    Character,
    #[error("the path has an encoded slash, backslash or control character")]
    Hidden,
    #[error("the path has a percent sign without two digits")]
    Triplet,
    #[error("the path leads above the root")]
    AboveRoot,
}

/// See the module.
///
/// # Errors
/// [`TargetRefused`]; the request gets a 400.
pub fn normalise(path_and_query: &str) -> Result<Normalised<'_>, TargetRefused> {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    if !path.starts_with('/') {
        return Err(TargetRefused::NoSlash);
    }
    let is_allowed = |byte: u8| byte > 0x20 && byte < 0x7f && byte != b'#' && byte != b'\\';
    if !path_and_query.bytes().all(is_allowed) {
        return Err(TargetRefused::Character);
    }
    let path = if is_normal(path) {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(remove_dots(&decode(path)?)?)
    };
    Ok(Normalised { path, query })
}

/// The common case, without a copy: nothing is encoded, no dot begins a segment, no slash follows a slash.
fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    let mut pairs = bytes.iter().zip(bytes.iter().skip(1));
    !bytes.contains(&b'%') && pairs.all(|pair| !matches!(pair, (b'/', b'/' | b'.')))
}

fn decode(path: &str) -> Result<String, TargetRefused> {
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(char::from(byte));
            continue;
        }
        let mut digit = || {
            let digit = bytes.next().and_then(|byte| char::from(byte).to_digit(16));
            digit.and_then(|digit| u8::try_from(digit).ok())
        };
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(TargetRefused::Triplet);
        };
        let value = high * 16 + low;
        match value {
            b'/' | b'\\' | 0..=0x1f | 0x7f => return Err(TargetRefused::Hidden),
            _ if value.is_ascii_alphanumeric() || b"-._~".contains(&value) => {
                out.push(char::from(value));
            }
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                for digit in [value >> 4, value & 15] {
                    let digit = DIGITS.get(usize::from(digit)).copied().unwrap_or(b'0');
                    out.push(char::from(digit));
                }
            }
        }
    }
    Ok(out)
}

/// RFC 3986 section 5.2.4, but a path that leads above the root is refused and not clamped.
fn remove_dots(path: &str) -> Result<String, TargetRefused> {
    let mut kept: Vec<&str> = Vec::new();
    let mut is_folder = false;
    for segment in path.split('/').skip(1) {
        is_folder = false;
        match segment {
            "" | "." => is_folder = true,
            ".." => {
                kept.pop().ok_or(TargetRefused::AboveRoot)?;
                is_folder = true;
            }
            segment => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if is_folder || out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{TargetRefused, normalise};

    #[test]
    fn paths() {
        for (sent, path, query) in [
            ("/", "/", None),
            ("/a/b?x=/../%2f", "/a/b", Some("x=/../%2f")),
            ("/a/./b//c/%7Euser/../x", "/a/b/c/x", None),
            ("/a/..", "/", None),
            ("/a/b/.", "/a/b/", None),
            ("/a//", "/a/", None),
            ("/%61%2e%2E", "/a..", None),
            ("/a/%2e%2e/b", "/b", None),
            ("/%e2%82%ac", "/%E2%82%AC", None),
            ("/.well-known/x", "/.well-known/x", None),
            ("/a?", "/a", Some("")),
        ] {
            let normal = normalise(sent).expect(sent);
            assert_eq!(
                (normal.path.as_ref(), normal.query),
                (path, query),
                "{sent}"
            );
        }
    }

    #[test]
    fn what_is_normal_costs_no_copy() {
        for sent in ["/", "/a/b.c/d-e_f~/", "/a..b/c.?x=%2f"] {
            let path = normalise(sent).expect(sent).path;
            assert!(matches!(path, std::borrow::Cow::Borrowed(_)), "{sent}");
        }
    }

    #[test]
    fn what_hides_something_is_refused() {
        for (sent, why) in [
            ("a", TargetRefused::NoSlash),
            ("/a b", TargetRefused::Character),
            ("/a#b", TargetRefused::Character),
            ("/a\\b", TargetRefused::Character),
            ("/a\u{e9}", TargetRefused::Character),
            ("/a?b\u{7f}", TargetRefused::Character),
            ("/a%2fb", TargetRefused::Hidden),
            ("/a%5Cb", TargetRefused::Hidden),
            ("/a%00", TargetRefused::Hidden),
            ("/a%0d%0ab", TargetRefused::Hidden),
            ("/a%", TargetRefused::Triplet),
            ("/a%4", TargetRefused::Triplet),
            ("/a%zz", TargetRefused::Triplet),
            ("/..", TargetRefused::AboveRoot),
            ("/a/../../b", TargetRefused::AboveRoot),
            ("/%2e%2e/b", TargetRefused::AboveRoot),
        ] {
            assert_eq!(normalise(sent).expect_err(sent), why, "{sent}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(sent in "/[a-z./%0-9A-F~?]{0,40}") {
            if let Ok(once) = normalise(&sent) {
                let again = normalise(&once.path).expect("what is normal is served");
                prop_assert_eq!(&once.path, &again.path);
                prop_assert!(!once.path.contains("//") && !once.path.contains("/../"));
            }
        }

        #[test]
        fn nothing_panics(sent in "\\PC{0,60}") {
            let _ = normalise(&sent);
        }
    }
}
