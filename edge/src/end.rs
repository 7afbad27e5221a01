//! How a request ended: who ended it, and why. One word each, the same in logs, metrics and documents.
//!
//! Room  pure. Holds every request that was begun ends with exactly one of these.

/// Who, and why. `docs/configuration.md` has a hint for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The answer was delivered whole.
    Done,
    /// A tunnel ended by its peers.
    TunnelClosed,
    /// The client's head was no valid request.
    ClientMalformed,
    /// The client's body broke its framing.
    ClientBadBody,
    /// The client was too slow with its head.
    ClientHeadTimeout,
    /// The client paused too long in its body, or sent less than the least rate.
    ClientBodyTimeout,
    /// The client did not take its answer.
    ClientWriteTimeout,
    /// The client went away.
    ClientClosed,
    /// The head or body was larger than allowed.
    TooLarge,
    /// No route matched, or not with this method.
    NoRoute,
    /// An access list refused the client.
    Denied,
    /// A rate limit.
    RateLimited,
    /// A concurrency limit.
    Overloaded,
    /// The host is none of the certificate that the client was shown.
    Misdirected,
    /// A redirect or a fixed answer of the configuration, a CORS preflight.
    Answered,
    /// The upstream has nobody to send the request to.
    NoBackend,
    /// No backend could be connected.
    ConnectFailed,
    /// No backend could be connected in time.
    ConnectTimeout,
    /// The backend closed or reset the connection before its answer.
    BackendClosed,
    /// The backend's answer did not begin in time.
    BackendFirstByteTimeout,
    /// The backend's answer was no valid response.
    BackendMalformed,
    /// The backend ended its answer early.
    BackendTruncated,
    /// The backend paused too long, in its answer or in taking the request.
    BackendIdleTimeout,
    /// The request took longer than its whole time.
    TotalTimeout,
    /// A tunnel in which nothing moved.
    TunnelIdle,
    /// A drain reached its deadline.
    CutByDrain,
    /// A tunnel that another process serves now (a swap); its end is counted there.
    Moved,
    /// A bug of ours, kept to the one connection that met it.
    Internal,
}

impl End {
    /// Every end, in the order of its counter.
    pub const ALL: [Self; 28] = [
        Self::Done,
        Self::TunnelClosed,
        Self::ClientMalformed,
        Self::ClientBadBody,
        Self::ClientHeadTimeout,
        Self::ClientBodyTimeout,
        Self::ClientWriteTimeout,
        Self::ClientClosed,
        Self::TooLarge,
        Self::NoRoute,
        Self::Denied,
        Self::RateLimited,
        Self::Overloaded,
        Self::Misdirected,
        Self::Answered,
        Self::NoBackend,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::BackendClosed,
        Self::BackendFirstByteTimeout,
        Self::BackendMalformed,
        Self::BackendTruncated,
        Self::BackendIdleTimeout,
        Self::TotalTimeout,
        Self::TunnelIdle,
        Self::CutByDrain,
        Self::Moved,
        Self::Internal,
    ];

    /// `who:why`, as in the access log and in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "none:done",
            Self::TunnelClosed => "none:tunnel-closed",
            Self::ClientMalformed => "client:malformed",
            Self::ClientBadBody => "client:bad-body",
            Self::ClientHeadTimeout => "client:head-timeout",
            Self::ClientBodyTimeout => "client:body-timeout",
            Self::ClientWriteTimeout => "client:write-timeout",
            Self::ClientClosed => "client:closed",
            Self::TooLarge => "client:too-large",
            Self::NoRoute => "proxy:no-route",
            Self::Denied => "proxy:denied",
            Self::RateLimited => "proxy:rate-limited",
            Self::Overloaded => "proxy:overloaded",
            Self::Misdirected => "proxy:misdirected",
            Self::Answered => "proxy:answered",
            Self::NoBackend => "backend:none",
            Self::ConnectFailed => "backend:connect-failed",
            Self::ConnectTimeout => "backend:connect-timeout",
            Self::BackendClosed => "backend:closed",
            Self::BackendFirstByteTimeout => "backend:first-byte-timeout",
            Self::BackendMalformed => "backend:malformed",
            Self::BackendTruncated => "backend:truncated",
            Self::BackendIdleTimeout => "backend:idle-timeout",
            Self::TotalTimeout => "proxy:total-timeout",
            Self::TunnelIdle => "proxy:tunnel-idle",
            Self::CutByDrain => "proxy:cut-by-drain",
            Self::Moved => "none:moved",
            Self::Internal => "proxy:internal",
        }
    }

    /// True when the proxy or what stands behind it is to blame: counted in `edge_errors_total`.
    #[must_use]
    pub fn is_error(self) -> bool {
        matches!(
            self,
            Self::NoBackend
                | Self::ConnectFailed
                | Self::ConnectTimeout
                | Self::BackendClosed
                | Self::BackendFirstByteTimeout
                | Self::BackendMalformed
                | Self::BackendTruncated
                | Self::BackendIdleTimeout
                | Self::Overloaded
                | Self::CutByDrain
                | Self::Internal
        )
    }

    /// The status that tells a client of this end, where an answer can still be given.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        Some(match self {
            Self::ClientMalformed | Self::ClientBadBody => 400,
            Self::ClientHeadTimeout | Self::ClientBodyTimeout => 408,
            Self::TooLarge => 413,
            Self::NoRoute => 404,
            Self::Denied => 403,
            Self::RateLimited => 429,
            Self::Overloaded | Self::NoBackend => 503,
            Self::Misdirected => 421,
            Self::ConnectFailed
            | Self::BackendClosed
            | Self::BackendMalformed
            | Self::BackendTruncated => 502,
            Self::ConnectTimeout
            | Self::BackendFirstByteTimeout
            | Self::BackendIdleTimeout
            | Self::TotalTimeout => 504,
            Self::Internal => 500,
            Self::Done
            | Self::TunnelClosed
            | Self::ClientWriteTimeout
            | Self::ClientClosed
            | Self::Answered
            | Self::TunnelIdle
            | Self::Moved
            | Self::CutByDrain => return None,
        })
    }

    /// Its place in [`End::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::End;

    #[test]
    fn every_end_has_a_word_and_a_place_of_its_own() {
        let words: BTreeSet<_> = End::ALL.iter().map(|end| end.as_str()).collect();
        assert_eq!(words.len(), End::ALL.len());
        for (place, end) in End::ALL.iter().enumerate() {
            assert_eq!(end.index(), place);
            assert_eq!(end.as_str().split(':').count(), 2);
        }
    }
}
