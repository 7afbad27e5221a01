//! Environment variables that override the file: `/etc/zeitwork/edge-proxy.env`.
//!
//! Room  pure.
//! Holds a variable that is wrong is a mistake in the same list as the file's.

use std::path::PathBuf;

use dataplane::config::Overrides;
use dataplane::settings::{Environment, Found, Notes};
use edge::http1::is_authority;
use edge::settings::{CertificateFiles, RateKey, RateLimit, SecurityHeaders};

use super::headers;
use crate::cli::Settings;

/// What the environment says.
#[derive(Debug)]
pub(super) struct EdgeOverrides<'n> {
    pub(super) shared: Overrides<'n>,
    /// `SSL_CERT_PATH` and `SSL_KEY_PATH`: of every TLS listener; the only listener is one then.
    pub(super) certificate: Option<(CertificateFiles, Found<'n>)>,
    rate_enabled: Option<bool>,
    rate_per_minute: Option<u32>,
    rate_burst: Option<u32>,
    rate_by_ip: Option<bool>,
    headers_enabled: Option<bool>,
    hsts_max_age: Option<u64>,
    /// `Some(None)`: off.
    csp: Option<Option<String>>,
    frame_options: Option<Option<String>>,
    pub(super) drain_mode: Option<bool>,
    /// `LOAD_BALANCER_URL`: where everything goes that no route takes elsewhere.
    pub(super) load_balancer: Option<(String, Found<'n>)>,
}

/// A table that has a switch, `enabled`, of its own.
#[derive(Clone, Debug)]
pub(super) struct Switched<T> {
    pub(super) is_on: Option<bool>,
    pub(super) value: T,
}

impl<T> Switched<T> {
    /// Written and not switched off.
    pub(super) fn in_force(self) -> Option<T> {
        (self.is_on != Some(false)).then_some(self.value)
    }
}

/// What is in force unless it is said otherwise.
pub(super) const RATE_LIMIT: RateLimit = RateLimit {
    requests_per_minute: 100,
    burst: 20,
    by: RateKey::Ip,
};

/// Requests of one client in a minute.
pub(super) const PER_MINUTE_MAX: u32 = 100_000_000;

impl<'n> EdgeOverrides<'n> {
    pub(super) fn read(notes: &'n Notes, flags: &Settings, environment: &Environment<'n>) -> Self {
        let boolean = |name| environment.optional(name).and_then(|found| found.boolean());
        let count = |name| {
            let found = environment.optional(name);
            found.and_then(|found| found.integer(1..=PER_MINUTE_MAX))
        };
        let url = environment.optional("LOAD_BALANCER_URL");
        Self {
            certificate: match flags.cert {
                Some(_) => None,
                None => certificate(environment),
            },
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
            csp: environment
                .optional("CSP_POLICY")
                .and_then(|found| headers::value_or_off(&found)),
            frame_options: environment
                .optional("X_FRAME_OPTIONS")
                .and_then(|found| headers::frame_options(&found)),
            drain_mode: boolean("DRAIN_MODE"),
            load_balancer: url.and_then(|found| Some((backend_of_url(&found)?, found))),
            shared: Overrides::read(notes, flags.admin.as_deref(), environment),
        }
    }

    /// Whether the environment says how many requests a minute may have.
    pub(super) fn sets_rate(&self) -> bool {
        self.rate_per_minute.is_some()
    }

    /// The rate limit with what the environment says of it. The environment's switch goes before the file's; without
    /// either, a limit is in force as soon as one of both says how many.
    pub(super) fn rate_limit(&self, written: Option<Switched<RateLimit>>) -> Option<RateLimit> {
        let switch = written.as_ref().and_then(|written| written.is_on);
        let is_said = written.is_some() || self.sets_rate();
        if !self.rate_enabled.or(switch).unwrap_or(is_said) {
            return None;
        }
        let base = written.map_or(RATE_LIMIT, |written| written.value);
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

    /// The security headers with what the environment says of them; switched as the rate limit is.
    pub(super) fn security_headers(
        &self,
        written: Option<Switched<SecurityHeaders>>,
    ) -> Option<SecurityHeaders> {
        let switch = written.as_ref().and_then(|written| written.is_on);
        let is_said = written.is_some()
            || self.hsts_max_age.is_some()
            || self.csp.is_some()
            || self.frame_options.is_some();
        if !self.headers_enabled.or(switch).unwrap_or(is_said) {
            return None;
        }
        let mut headers = written.map(|written| written.value).unwrap_or_default();
        match self.hsts_max_age {
            Some(0) => headers.hsts_max_age = None,
            Some(age) => headers.hsts_max_age = Some(age),
            None => {}
        }
        if let Some(policy) = &self.csp {
            headers.content_security_policy.clone_from(policy);
        }
        if let Some(options) = &self.frame_options {
            headers.frame_options.clone_from(options);
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
            super::listener::check_files(&files, &certificate, &key);
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

/// `http://host:port` or `host:port`; port 80 unless written.
fn backend_of_url(found: &Found<'_>) -> Option<String> {
    found.parsed("a URL such as \"http://127.0.0.1:7000\"", |text| {
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if !is_authority(rest) || rest.ends_with(':') {
            let hint = "write it like \"http://127.0.0.1:7000\"";
            // A password must not get into a log by way of its mistake.
            let shown = if text.contains('@') { "this" } else { text };
            return Err((format!("{shown:?} is not a backend"), Some(hint.to_owned())));
        }
        let port = rest.rsplit_once(':').map(|(_, port)| port);
        Ok(match port {
            Some(port) if port.parse::<u16>().is_ok() => rest.to_owned(),
            _ => format!("{rest}:80"),
        })
    })
}
