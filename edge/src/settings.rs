//! Everything that the edge proxy is told, as plain values: what a configuration becomes once it is read
//! and found consistent.
//!
//! Room  pure: no file, no socket, no clock. `config` (in the binary) makes these, every other room reads them.
//! Holds a `Settings` that exists is consistent: every route's upstreams exist, names are unique, regular
//!       sizes and times are within their limits. Every default closes: no wait without an end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dataplane::discovery::DiscoverySettings;
use dataplane::process::LogLevel;
use dataplane::upstream::{BackendSpec, UpstreamSettings};
use handoff::ListenerName;
use ipnet::IpNet;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `None`: no admin server.
    pub admin: Option<SocketAddr>,
    pub log_level: LogLevel,
    /// Worker threads; 0: one for each core.
    pub workers: usize,
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// `/health` says draining while requests are served: a load balancer in front looks elsewhere.
    pub drain_mode: bool,
    /// How long requests and tunnels may go on after SIGTERM.
    pub drain_timeout: Duration,
    pub listeners: Vec<Listener>,
    /// In the order of the configuration; the most specific one wins, then the earlier one.
    pub routes: Vec<Route>,
    pub upstreams: Vec<Upstream>,
    pub discovery: Option<DiscoverySettings>,
    /// For every request; a route may have one of its own beside it.
    pub rate_limit: Option<RateLimit>,
    /// Clients and peers that may come in; see [`Access`].
    pub access: Access,
    /// Networks whose `X-Forwarded-*`, `Forwarded`, `X-Real-IP` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<IpNet>,
    pub security_headers: Option<SecurityHeaders>,
    /// For every route that has none of its own.
    pub cors: Option<Cors>,
    pub error_pages: ErrorPages,
    /// `None`: no access log.
    pub access_log: Option<AccessLog>,
}

/// Every wait of the proxy, each with a default that closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A PROXY protocol header (only where one is expected).
    pub proxy_header: Duration,
    /// From the first byte expected to a finished TLS handshake.
    pub tls_handshake: Duration,
    /// From accept (or the finished TLS handshake) to the first byte of a request.
    pub first_byte: Duration,
    /// From a head's first byte to its last; the same for an HTTP/2 header block.
    pub header: Duration,
    /// Longest pause within a request body, and within writing a response to the client.
    pub body_idle: Duration,
    /// Least average rate of a request body in bytes a second, judged over each `body_idle`; 0: none.
    pub body_rate_min: u32,
    /// Between two requests of an HTTP/1.1 connection.
    pub keep_alive: Duration,
    /// An HTTP/2 connection without a stream; then GOAWAY.
    pub http2_idle: Duration,
    /// From the request (its head written) to the first byte of the backend's answer.
    pub upstream_first_byte: Duration,
    /// Longest pause within a backend's answer.
    pub upstream_idle: Duration,
    /// A request from its first byte to the answer's last one.
    pub total: Duration,
    /// A tunnel (after 101 or CONNECT) without a byte in either direction.
    pub tunnel_idle: Duration,
    /// An idle connection kept for reuse towards a backend.
    pub upstream_keep_alive: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            proxy_header: Duration::from_secs(3),
            tls_handshake: Duration::from_secs(10),
            first_byte: Duration::from_secs(10),
            header: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            body_rate_min: 240,
            keep_alive: Duration::from_secs(60),
            http2_idle: Duration::from_secs(60),
            upstream_first_byte: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(60),
            total: Duration::from_secs(3600),
            tunnel_idle: Duration::from_secs(3600),
            // Below Node's 5 s: the proxy closes first, so that no request meets a closing backend.
            upstream_keep_alive: Duration::from_secs(4),
        }
    }
}

/// Every size and count, each with a default that bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A request's head in bytes, request line included; more is 431 (414 when the request line alone is longer).
    pub head_bytes: usize,
    /// Header lines of a request or response; cookie crumbs of HTTP/2 count singly.
    pub head_lines: usize,
    /// A backend's response head in bytes; more is 502.
    pub response_head_bytes: usize,
    /// A request's body in bytes; more is 413, early where Content-Length says so. `None`: no limit.
    pub body_bytes: Option<u64>,
    /// Client connections at once over all listeners; further ones wait in the accept queue.
    pub connections: usize,
    /// Client connections at once from one address (IPv6: one /64); further ones are closed at once. `None`: no limit.
    pub connections_per_ip: Option<usize>,
    /// Requests under way at once over all connections; further ones get 503. `None`: no limit.
    pub concurrent_requests: Option<usize>,
    /// Requests of one HTTP/1.1 or HTTP/2 connection; then it is closed at a response boundary.
    pub requests_per_connection: u64,
    /// Streams at once of one HTTP/2 connection.
    pub http2_streams: u32,
    /// Streams that a client may reset within ten seconds on one HTTP/2 connection; then it is closed.
    pub http2_resets: u32,
    /// Buckets of the rate limiter; the longest unused one makes room.
    pub rate_limit_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 32 * 1024,
            head_lines: 100,
            response_head_bytes: 64 * 1024,
            body_bytes: Some(100 * 1024 * 1024),
            connections: 100_000,
            connections_per_ip: None,
            concurrent_requests: None,
            requests_per_connection: 100_000_000,
            http2_streams: 100,
            http2_resets: 200,
            rate_limit_entries: 100_000,
        }
    }
}

/// One `[[listener]]`.
#[derive(Clone, Debug)]
pub struct Listener {
    pub name: ListenerName,
    pub address: SocketAddr,
    /// Members of its SO_REUSEPORT group.
    pub sockets: usize,
    /// Connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Whose PROXY headers are believed.
    pub trusted: Vec<IpNet>,
    /// `None`: in clear.
    pub tls: Option<ListenerTls>,
    /// Speak HTTP/2: by ALPN over TLS, by prior knowledge in clear.
    pub http2: bool,
    /// Answer every request with a redirect to https on this port (308; 301 for GET and HEAD).
    pub redirect_to_https: Option<u16>,
}

/// The TLS side of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; chosen by SNI. The first one answers clients without SNI unless `strict_sni`.
    pub certificates: Vec<CertificateFiles>,
    /// A handshake whose SNI is absent or matches no certificate is refused.
    pub strict_sni: bool,
    /// `TLSv1.2` too, or 1.3 only.
    pub tls12: bool,
}

/// PEM files, watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// One `[[route]]`: which requests, and what becomes of them.
#[derive(Clone, Debug)]
pub struct Route {
    /// Unique; the `name` key, else `route-1`, `route-2`, … by position.
    pub name: String,
    pub matcher: RouteMatch,
    pub action: RouteAction,
    pub rewrite: Rewrite,
    pub request_headers: HeaderChanges,
    pub response_headers: HeaderChanges,
    pub rate_limit: Option<RateLimit>,
    /// Requests under way at once; further ones get 503. `None`: no limit.
    pub concurrent_requests: Option<usize>,
    /// Instead of [`Settings::cors`].
    pub cors: Option<Cors>,
    pub access: Access,
    /// Instead of [`Limits::body_bytes`].
    pub body_bytes: Option<u64>,
    /// Instead of [`Timeouts::total`].
    pub total_timeout: Option<Duration>,
    /// Instead of [`Timeouts::upstream_first_byte`].
    pub upstream_first_byte: Option<Duration>,
}

/// Every condition must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    /// Lower-case host names; `*.example.org` matches one or more further labels. Empty: any host.
    pub hosts: Vec<String>,
    pub path: PathMatch,
    /// Upper-case; empty: any method.
    pub methods: Vec<String>,
    pub headers: Vec<HeaderMatch>,
}

/// Which paths, compared with the normalised path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    Exact(String),
    /// By whole segments: `/api` matches `/api` and `/api/x`, not `/apix`. `/` matches everything.
    Prefix(String),
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix("/".to_owned())
    }
}

/// A header that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Lower-case.
    pub name: String,
    /// `None`: any value.
    pub value: Option<String>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// To one of these by weight (canary by percent); at least one.
    Forward(Vec<WeightedUpstream>),
    Redirect(Redirect),
    /// A fixed answer.
    Respond {
        status: u16,
        body: String,
    },
}

/// An upstream's share of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedUpstream {
    pub upstream: String,
    /// 0 ..= 10 000.
    pub weight: u32,
}

/// `Location` from parts; what is absent is kept from the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    pub scheme: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    /// A whole path; the query is kept.
    pub path: Option<String>,
}

/// How the forwarded target differs from the matched one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Removes the matched prefix.
    pub strip_prefix: bool,
    /// Put in front of the path (after stripping).
    pub add_prefix: Option<String>,
    /// The whole path; the query is kept.
    pub path: Option<String>,
    /// The Host header towards the backend.
    pub host: Option<String>,
}

/// Names are lower-case; `remove` first, then `set`, then `add`. Framing and hop-by-hop names are refused by the
/// configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

/// One `[upstream.NAME]`.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub name: String,
    /// Algorithm, connect timeout, health checks, ejection, panic threshold, slow start.
    pub balance: UpstreamSettings,
    /// Empty: discovered.
    pub backends: Vec<BackendSpec>,
    pub protocol: UpstreamProtocol,
    pub tls: Option<UpstreamTls>,
    /// Retries as a share of requests, in percent, beside a floor of ten in ten seconds; 0: no retries.
    pub retry_budget_percent: u32,
}

/// What is spoken to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    #[default]
    Http1,
    /// By prior knowledge in clear (h2c), by ALPN over TLS.
    Http2,
}

/// TLS towards backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM file of authorities; `None`: the host's.
    pub authorities: Option<PathBuf>,
    /// Name asked for and verified; `None`: the backend's host name or address as configured.
    pub server_name: Option<String>,
    /// The certificate is not verified. Said aloud in logs and `check`.
    pub insecure: bool,
}

/// A bucket for each client (or for all of a route).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub requests_per_minute: u32,
    /// Requests at once above the steady rate.
    pub burst: u32,
    pub by: RateKey,
}

/// What has a bucket of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateKey {
    /// The client's address; IPv6 by its /64.
    #[default]
    Ip,
    /// All requests together.
    All,
}

/// Who may come in: `deny` first, then `allow` (empty: everybody). Refused clients get 403.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
}

/// Headers that a browser's protections need; a backend's own value wins except for HSTS in clear, which is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityHeaders {
    /// Seconds; `None`: no Strict-Transport-Security. Only sent over TLS.
    pub hsts_max_age: Option<u64>,
    pub hsts_include_subdomains: bool,
    pub hsts_preload: bool,
    pub content_security_policy: Option<String>,
    /// X-Frame-Options: `DENY` or `SAMEORIGIN`.
    pub frame_options: Option<String>,
    pub content_type_nosniff: bool,
    pub referrer_policy: Option<String>,
    pub permissions_policy: Option<String>,
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        Self {
            hsts_max_age: Some(31_536_000),
            hsts_include_subdomains: false,
            hsts_preload: false,
            content_security_policy: None,
            frame_options: Some("DENY".to_owned()),
            content_type_nosniff: true,
            referrer_policy: Some("strict-origin-when-cross-origin".to_owned()),
            permissions_policy: None,
        }
    }
}

/// Cross-origin resource sharing (Fetch standard, section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Exact origins (`https://app.example.com`); `*` alone: any.
    pub origins: Vec<String>,
    pub methods: Vec<String>,
    pub headers: Vec<String>,
    pub expose: Vec<String>,
    pub credentials: bool,
    pub max_age: Duration,
}

/// Bodies of the proxy's own errors by status; others get the built-in page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// HTML, read at start; `{status}`, `{reason}` and `{request_id}` are filled in.
    pub html: BTreeMap<u16, String>,
}

/// One JSON object a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    pub target: AccessLogTarget,
}

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLogTarget {
    #[default]
    Stdout,
    /// Appended; opened again on SIGHUP.
    File(PathBuf),
}
