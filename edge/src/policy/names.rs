//! Which field names mean something to a proxy.
//!
//! Room  pure.
//! Holds names are compared without case and with `_` as `-`: many backends read `X_Forwarded_For` as
//!       `X-Forwarded-For`, so an alias is never an ordinary field.

/// What a field is to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// End to end; passed on as it is.
    Plain,
    Host,
    /// Of this connection only, or the framing of this message.
    HopByHop,
    Connection,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    /// Any further `X-Forwarded-…`.
    ForwardedOther,
    Forwarded,
    RealIp,
    RequestId,
    /// One of the names above written with `_`; never passed on.
    Alias,
}

/// By length first: most fields of a request are of a length that no special name has.
pub(super) fn kind(name: &[u8]) -> Kind {
    let kind = match name.len() {
        2 if same(name, b"te") => Kind::HopByHop,
        4 if same(name, b"host") => Kind::Host,
        // Reserved, so that `Connection: close` names no field (RFC 9110 section 16.3.1).
        5 if same(name, b"close") => Kind::HopByHop,
        6 if same(name, b"expect") => Kind::HopByHop,
        7 if same(name, b"upgrade") || same(name, b"trailer") => Kind::HopByHop,
        9 if same(name, b"forwarded") => Kind::Forwarded,
        9 if same(name, b"x-real-ip") => Kind::RealIp,
        10 if same(name, b"connection") => Kind::Connection,
        10 if same(name, b"keep-alive") => Kind::HopByHop,
        12 if same(name, b"x-request-id") => Kind::RequestId,
        14 if same(name, b"content-length") || same(name, b"http2-settings") => Kind::HopByHop,
        16 if same(name, b"proxy-connection") => Kind::HopByHop,
        17 if same(name, b"transfer-encoding") => Kind::HopByHop,
        18 if same(name, b"proxy-authenticate") => Kind::HopByHop,
        19 if same(name, b"proxy-authorization") => Kind::HopByHop,
        25 if same(name, b"proxy-authentication-info") => Kind::HopByHop,
        12.. => x_forwarded(name),
        _ => Kind::Plain,
    };
    if kind != Kind::Plain && name.contains(&b'_') {
        return Kind::Alias;
    }
    kind
}

fn x_forwarded(name: &[u8]) -> Kind {
    const PREFIX: &[u8] = b"x-forwarded-";
    let (prefix, rest) = name.split_at(PREFIX.len());
    if !same(prefix, PREFIX) {
        return Kind::Plain;
    }
    if same(rest, b"for") {
        Kind::ForwardedFor
    } else if same(rest, b"proto") {
        Kind::ForwardedProto
    } else if same(rest, b"host") {
        Kind::ForwardedHost
    } else {
        Kind::ForwardedOther
    }
}

/// `name` is a special one in `canonical` form (lower-case, `-`).
fn same(name: &[u8], canonical: &[u8]) -> bool {
    name.len() == canonical.len()
        && name.iter().zip(canonical).all(|(sent, meant)| match sent {
            b'_' => *meant == b'-',
            sent => sent.eq_ignore_ascii_case(meant),
        })
}

fn starts(name: &[u8], canonical: &[u8]) -> bool {
    name.get(..canonical.len())
        .is_some_and(|start| same(start, canonical))
}

fn any(name: &[u8], canonical: &[&[u8]]) -> bool {
    canonical.iter().any(|meant| same(name, meant))
}

/// Fields that the proxy never copies: they belong to one connection (RFC 9110 section 7.6.1) or to one
/// message's framing (RFC 9112 section 6), or are answered on the way (Expect). Aliases with `_` count too.
pub fn is_framing_or_hop_by_hop(name: &[u8]) -> bool {
    match kind(name) {
        Kind::HopByHop | Kind::Connection => true,
        Kind::Alias => any(
            name,
            &[
                b"keep-alive",
                b"content-length",
                b"http2-settings",
                b"proxy-connection",
                b"transfer-encoding",
                b"proxy-authenticate",
                b"proxy-authorization",
                b"proxy-authentication-info",
            ],
        ),
        _ => false,
    }
}

/// Fields that a message's `Connection` may not take away from it: somebody behind the proxy decides by them.
pub(super) fn is_protected(name: &[u8]) -> bool {
    let special = match kind(name) {
        Kind::Plain => false,
        // These say `Connection: Keep-Alive`, `Upgrade`, `TE` in all honesty.
        Kind::HopByHop | Kind::Connection => {
            any(name, &[b"content-length", b"transfer-encoding", b"expect"])
        }
        _ => true,
    };
    special
        || starts(name, b"content-")
        || starts(name, b"if-")
        || starts(name, b"access-control-")
        || starts(name, b"sec-")
        || any(
            name,
            &[
                b"authorization",
                b"cookie",
                b"set-cookie",
                b"origin",
                b"traceparent",
                b"tracestate",
                b"cache-control",
                b"range",
                b"date",
                b"location",
                b"vary",
                b"max-forwards",
            ],
        )
}

/// Options of `Connection` that name no field to remove beside those removed anyway.
pub(super) fn is_usual_option(name: &[u8]) -> bool {
    kind(name) == Kind::HopByHop
}

/// Fields that may stand in a trailer section and are passed on from there (RFC 9110 section 6.5.1): nothing that
/// frames, routes, authenticates, modifies the request, steers caches or describes the content's form.
pub fn may_forward_trailer(name: &[u8]) -> bool {
    if any(name, &[b"content-digest", b"content-md5"]) {
        return true;
    }
    kind(name) == Kind::Plain
        && !is_protected(name)
        && !any(
            name,
            &[
                b"www-authenticate",
                b"authentication-info",
                b"accept",
                b"accept-encoding",
                b"accept-charset",
                b"accept-language",
                b"age",
                b"expires",
                b"pragma",
                b"warning",
                b"retry-after",
                b"strict-transport-security",
                b"x-frame-options",
                b"x-content-type-options",
                b"referrer-policy",
                b"permissions-policy",
                b"via",
            ],
        )
}

#[cfg(test)]
mod tests {
    use super::{Kind, is_framing_or_hop_by_hop, is_protected, kind, may_forward_trailer};

    #[test]
    fn kinds() {
        for (name, expected) in [
            ("Accept", Kind::Plain),
            ("HOST", Kind::Host),
            ("Te", Kind::HopByHop),
            ("transfer-encoding", Kind::HopByHop),
            ("Proxy-Authorization", Kind::HopByHop),
            ("Connection", Kind::Connection),
            ("X-Forwarded-For", Kind::ForwardedFor),
            ("x-forwarded-proto", Kind::ForwardedProto),
            ("x-forwarded-host", Kind::ForwardedHost),
            ("x-forwarded-prefix", Kind::ForwardedOther),
            ("x-forwarded-", Kind::ForwardedOther),
            ("x-forwarded", Kind::Plain),
            ("X_Forwarded_For", Kind::Alias),
            ("x-forwarded_for", Kind::Alias),
            ("X_REAL_IP", Kind::Alias),
            ("x_request-id", Kind::Alias),
            ("content_length", Kind::Alias),
            ("x_custom", Kind::Plain),
            ("traceparent", Kind::Plain),
            ("", Kind::Plain),
        ] {
            assert_eq!(kind(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn framing() {
        for (name, expected) in [
            ("Content-Length", true),
            ("Transfer_Encoding", true),
            ("Connection", true),
            ("Keep-Alive", true),
            ("Upgrade", true),
            ("Trailer", true),
            ("Host", false),
            ("X_Forwarded_For", false),
            ("Content-Type", false),
        ] {
            assert_eq!(
                is_framing_or_hop_by_hop(name.as_bytes()),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn protected() {
        for (name, expected) in [
            ("Host", true),
            ("Authorization", true),
            ("cookie", true),
            ("X-Forwarded-Prefix", true),
            ("x_real_ip", true),
            ("Forwarded", true),
            ("traceparent", true),
            ("Content-Length", true),
            ("Transfer-Encoding", true),
            ("keep-alive", false),
            ("upgrade", false),
            ("te", false),
            ("close", false),
            ("x-mine", false),
        ] {
            assert_eq!(is_protected(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn trailers() {
        for (name, expected) in [
            ("grpc-status", true),
            ("grpc-message", true),
            ("Server-Timing", true),
            ("Content-Digest", true),
            ("Content-Type", false),
            ("content-length", false),
            ("X-Forwarded-For", false),
            ("X_Forwarded_For", false),
            ("Host", false),
            ("Authorization", false),
            ("Set-Cookie", false),
            ("Connection", false),
        ] {
            assert_eq!(may_forward_trailer(name.as_bytes()), expected, "{name}");
        }
    }
}
