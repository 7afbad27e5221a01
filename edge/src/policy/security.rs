//! Headers that switch a browser's protections on.
//!
//! Room  pure.
//! Holds what a backend says itself stays, but for Strict-Transport-Security in clear, which browsers must ignore
//!       (RFC 6797 section 8.1) and which is taken off.

use crate::field::FieldSink;
use crate::settings::SecurityHeaders;

/// The fields of [`SecurityHeaders`], made ready.
#[derive(Debug, Default)]
pub(super) struct SecurityFields {
    configured: bool,
    hsts: Option<String>,
    /// At most five, by lower-case name.
    fields: Vec<(&'static str, String)>,
}

/// Which of them a backend has said: a bit for each, in order; the highest one is HSTS.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said(u8);

const HSTS: &str = "strict-transport-security";
const HSTS_BIT: u8 = 1 << 7;

impl SecurityFields {
    pub(super) fn new(headers: Option<&SecurityHeaders>) -> Self {
        let Some(headers) = headers else {
            return Self::default();
        };
        let hsts = headers.hsts_max_age.map(|seconds| {
            let subdomains =
                ["", "; includeSubDomains"][usize::from(headers.hsts_include_subdomains)];
            let preload = ["", "; preload"][usize::from(headers.hsts_preload)];
            format!("max-age={seconds}{subdomains}{preload}")
        });
        let nosniff = headers.content_type_nosniff.then(|| "nosniff".to_owned());
        let fields = [
            (
                "content-security-policy",
                headers.content_security_policy.clone(),
            ),
            ("x-frame-options", headers.frame_options.clone()),
            ("x-content-type-options", nosniff),
            ("referrer-policy", headers.referrer_policy.clone()),
            ("permissions-policy", headers.permissions_policy.clone()),
        ];
        Self {
            configured: true,
            hsts,
            fields: fields
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
        }
    }

    /// Notes a backend's field; `false`: it does not pass.
    pub(super) fn passes(&self, name: &[u8], is_tls: bool, said: &mut Said) -> bool {
        if !self.configured {
            return true;
        }
        if name.eq_ignore_ascii_case(HSTS.as_bytes()) {
            said.0 |= HSTS_BIT;
            return is_tls;
        }
        for (bit, (own, _)) in self.fields.iter().enumerate() {
            if name.eq_ignore_ascii_case(own.as_bytes()) {
                said.0 |= 1 << bit;
            }
        }
        true
    }

    /// What the backend has not said.
    pub(super) fn write(&self, is_tls: bool, said: Said, sink: &mut impl FieldSink) {
        if let Some(value) = &self.hsts
            && is_tls
            && said.0 & HSTS_BIT == 0
        {
            sink.put(HSTS.as_bytes(), value.as_bytes());
        }
        for (bit, (name, value)) in self.fields.iter().enumerate() {
            if said.0 & (1 << bit) == 0 {
                sink.put(name.as_bytes(), value.as_bytes());
            }
        }
    }
}
