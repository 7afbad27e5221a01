//! Environment variables that override the file: `/etc/zeitwork/edge-proxy.env`.
//!
//! Room  pure.
//! Holds a variable that is wrong is a mistake in the same list as the file's.

use std::path::PathBuf;

use dataplane::config::Overrides;
use dataplane::settings::{Environment, Found, Notes};
use edge::settings::{CertificateFiles, RateKey, RateLimit, SecurityHeaders};

/// What the environment says.
#[derive(Debug)]
pub(super) struct EdgeOverrides<'n> {
    pub(super) shared: Overrides<'n>,
    /// `SSL_CERT_PATH` and `SSL_KEY_PATH`: of every TLS listener.
    pub(super) certificate: Option<(CertificateFiles, Found<'n>)>,
    rate_enabled: Option<bool>,
    rate_per_minute: Option<u32>,
    rate_burst: Option<u32>,
    rate_by_ip: Option<bool>,
    headers_enabled: Option<bool>,
    hsts_max_age: Option<u64>,
    csp: Option<String>,
    frame_options: Option<String>,
    pub(super) drain_mode: Option<bool>,
    /// `LOAD_BALANCER_URL`: where everything goes that no route takes elsewhere.
    pub(super) load_balancer: Option<(String, Found<'n>)>,
}

/// Requests of one client in a minute.
pub(super) const PER_MINUTE_MAX: u32 = 100_000_000;

impl<'n> EdgeOverrides<'n> {
    pub(super) fn read(
        notes: &'n Notes,
        admin_flag: Option<&str>,
        environment: &Environment<'n>,
    ) -> Self {
        let boolean = |name| environment.optional(name).and_then(|found| found.boolean());
        let text = |name| environment.optional(name).and_then(|found| found.string());
        let count = |name| {
            let found = environment.optional(name);
            found.and_then(|found| found.integer(1..=PER_MINUTE_MAX))
        };
        let url = environment.optional("LOAD_BALANCER_URL");
        Self {
            certificate: certificate(environment),
            rate_enabled: boolean("RATE_LIMIT_ENABLED"),
            rate_per_minute: count("RATE_LIMIT_REQUESTS_PER_MINUTE"),
            rate_burst: environment
                .optional("RATE_LIMIT_BURST")
                .and_then(|found| found.integer(0..=PER_MINUTE_MAX)),
            rate_by_ip: boolean("RATE_LIMIT_BY_IP"),
            headers_enabled: boolean("SECURITY_HEADERS_ENABLED"),
            hsts_max_age: environment
                .optional("HSTS_MAX_AGE")
                .and_then(|found| found.integer(0..=10_000_000_000_u64)),
            csp: text("CSP_POLICY"),
            frame_options: environment
                .optional("X_FRAME_OPTIONS")
                .and_then(|found| super::headers::frame_options(&found)),
            drain_mode: boolean("DRAIN_MODE"),
            load_balancer: url.and_then(|found| Some((backend_of_url(&found)?, found))),
            shared: Overrides::read(notes, admin_flag, environment),
        }
    }

    /// The rate limit with what the environment says of it.
    pub(super) fn rate_limit(&self, written: Option<RateLimit>) -> Option<RateLimit> {
        let speaks = self.rate_enabled == Some(true) || self.rate_per_minute.is_some();
        let base = written.or_else(|| {
            speaks.then_some(RateLimit {
                requests_per_minute: 100,
                burst: 20,
                by: RateKey::Ip,
            })
        })?;
        if self.rate_enabled == Some(false) {
            return None;
        }
        Some(RateLimit {
            requests_per_minute: self.rate_per_minute.unwrap_or(base.requests_per_minute),
            burst: self.rate_burst.unwrap_or(base.burst),
            by: match self.rate_by_ip {
                Some(true) => RateKey::Ip,
                Some(false) => RateKey::All,
                None => base.by,
            },
        })
    }

    /// The security headers with what the environment says of them.
    pub(super) fn security_headers(
        &self,
        written: Option<SecurityHeaders>,
    ) -> Option<SecurityHeaders> {
        let speaks = self.headers_enabled == Some(true)
            || self.hsts_max_age.is_some()
            || self.csp.is_some()
            || self.frame_options.is_some();
        let mut headers = written.or_else(|| speaks.then(SecurityHeaders::default))?;
        if self.headers_enabled == Some(false) {
            return None;
        }
        match self.hsts_max_age {
            Some(0) => headers.hsts_max_age = None,
            Some(age) => headers.hsts_max_age = Some(age),
            None => {}
        }
        if let Some(policy) = &self.csp {
            headers.content_security_policy = Some(policy.clone());
        }
        if let Some(options) = &self.frame_options {
            headers.frame_options = Some(options.clone());
        }
        Some(headers)
    }
}

fn certificate<'n>(environment: &Environment<'n>) -> Option<(CertificateFiles, Found<'n>)> {
    let certificate = environment.optional("SSL_CERT_PATH");
    let key = environment.optional("SSL_KEY_PATH");
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let files = CertificateFiles {
                certificate: PathBuf::from(certificate.string()?),
                key: PathBuf::from(key.string()?),
            };
            super::listener::check_files(&files, &certificate);
            Some((files, certificate))
        }
        (Some(alone), None) => {
            alone.mistake("needs SSL_KEY_PATH beside it", None);
            None
        }
        (None, Some(alone)) => {
            alone.mistake("needs SSL_CERT_PATH beside it", None);
            None
        }
        (None, None) => None,
    }
}

/// `http://host:port` or `host:port`.
pub(super) fn backend_of_url(found: &Found<'_>) -> Option<String> {
    found.parsed("a URL such as \"http://127.0.0.1:7000\"", |text| {
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let rest = rest.trim_end_matches('/');
        let problem = format!("{text:?} is not a backend");
        if rest.contains("://") || rest.contains('/') || rest.contains('@') {
            let hint = "write it like \"http://127.0.0.1:7000\"";
            return Err((problem, Some(hint.to_owned())));
        }
        if rest
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        {
            Ok(rest.to_owned())
        } else {
            Ok(format!("{rest}:80"))
        }
    })
}
