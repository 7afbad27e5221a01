//! Everybody's configuration for the same work.
//!
//! Room  pure: text.

use std::net::SocketAddr;

use super::{Kind, Peer, Scenario, Site, others};

/// nginx's streams are a module of their own in Debian.
pub(super) const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// The configuration of one proxy.
pub(super) fn text(
    kind: Kind,
    scenario: Scenario,
    site: &Site,
    [clear, tls]: [SocketAddr; 2],
    name: &str,
) -> String {
    match (kind, scenario.is_l4()) {
        (Kind::Ours | Kind::Again, true) => lb(site, 1, clear),
        (Kind::Ours | Kind::Again, false) => edge(site, clear, tls),
        (Kind::Peer(Peer::Haproxy), true) => haproxy_tcp(site, clear),
        (Kind::Peer(Peer::Haproxy), false) => haproxy_http(site, clear, tls),
        (Kind::Peer(Peer::Nginx), true) => nginx_stream(site, clear, name),
        (Kind::Peer(Peer::Nginx), false) => nginx_http(site, (clear, tls), name),
        (Kind::Peer(Peer::Envoy), is_l4) => others::envoy(site, is_l4, (clear, tls)),
        (Kind::Peer(Peer::Caddy), _) => others::caddy(site, (clear, tls)),
        (Kind::Peer(Peer::Traefik), is_l4) => others::traefik(site, is_l4),
    }
}

/// That of `lb` with so many workers.
pub(crate) fn lb(site: &Site, workers: u32, clear: SocketAddr) -> String {
    format!(
        "workers = {workers}\n[[listener]]\nname = \"web\"\naddress = \"{clear}\"\nupstream = \"app\"\n[upstream.app]\nbackends = [\"{}\"]\n[upstream.app.health_check]\nkind = \"tcp\"\n",
        site.origin
    )
}

fn edge(site: &Site, clear: SocketAddr, tls: SocketAddr) -> String {
    let log = match site.access_log {
        true => format!(
            "[access_log]\ntarget = \"{}\"\n",
            log_of(site, &format!("edge-{clear}"))
        ),
        false => String::new(),
    };
    format!(
        "{}[[route]]\npath_prefix = \"/\"\nupstream = \"app\"\n[upstream.app]\nbackends = [\"{}\"]\n[upstream.app.health_check]\nkind = \"tcp\"\n{log}",
        edge_listeners(site, 1, clear, tls),
        site.origin
    )
}

/// The beginning of that of `edge`: its workers and where it listens.
pub(crate) fn edge_listeners(
    site: &Site,
    workers: u32,
    clear: SocketAddr,
    tls: SocketAddr,
) -> String {
    format!(
        "workers = {workers}\n[[listener]]\nname = \"http\"\naddress = \"{clear}\"\n[[listener]]\nname = \"https\"\naddress = \"{tls}\"\n[[listener.certificate]]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        site.certificates.certificate.display(),
        site.certificates.key.display(),
    )
}

/// A file for somebody's access log.
fn log_of(site: &Site, who: &str) -> String {
    let file = site.directory.join(format!("{who}.access"));
    file.display().to_string()
}

fn haproxy_tcp(site: &Site, clear: SocketAddr) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  option splice-auto\n  timeout connect 2s\n  timeout client 600s\n  timeout server 600s\nlisten l\n  bind {clear}\n  server a {} check\n",
        site.origin
    )
}

fn haproxy_http(site: &Site, clear: SocketAddr, tls: SocketAddr) -> String {
    // HAProxy wants chain and key in one file.
    let pem = site.directory.join("haproxy.pem");
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let both = read(&site.certificates.certificate) + &read(&site.certificates.key);
    std::fs::write(&pem, both).unwrap_or_default();
    // It writes into the file that is its standard output.
    let (log, on) = match site.access_log {
        true => (
            "  log stdout format raw local0\n",
            "  log global\n  option httplog\n",
        ),
        false => ("", ""),
    };
    format!(
        "global\n{log}  nbthread 1\n  maxconn 4000\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n  ssl-default-bind-ciphersuites TLS_AES_256_GCM_SHA384\n  ssl-default-bind-curves X25519\ndefaults\n  mode http\n{on}  timeout connect 2s\n  timeout client 600s\n  timeout server 600s\n  http-reuse always\nfrontend f\n  bind {clear}\n  bind {tls} ssl crt {} alpn h2,http/1.1\n  option forwardfor\n  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n  default_backend b\nbackend b\n  server a {} check\n",
        pem.display(),
        site.origin
    )
}

fn nginx_head(site: &Site, name: &str) -> String {
    format!(
        "daemon off; master_process off; worker_processes 1; error_log stderr crit; pid {}/{name}.pid;\nevents {{ worker_connections 8192; }}\n",
        site.directory.display()
    )
}

fn nginx_stream(site: &Site, clear: SocketAddr, name: &str) -> String {
    format!(
        "load_module {NGINX_STREAM};\n{}stream {{ server {{ listen {clear} backlog=4096; proxy_pass {}; }} }}\n",
        nginx_head(site, name),
        site.origin
    )
}

fn nginx_http(site: &Site, (clear, tls): (SocketAddr, SocketAddr), name: &str) -> String {
    let path = site.directory.display();
    let log = match site.access_log {
        true => log_of(site, name),
        false => "off".to_owned(),
    };
    format!(
        "{}http {{ access_log {log}; keepalive_requests 100000000; client_body_temp_path {path}; proxy_temp_path {path}; fastcgi_temp_path {path}; uwsgi_temp_path {path}; scgi_temp_path {path};\nupstream app {{ server {}; keepalive 256; keepalive_requests 100000000; }}\nserver {{ listen {clear} backlog=4096; listen {tls} ssl http2 backlog=4096;\nssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; ssl_session_cache shared:s:10m; ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;\nlocation / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; }} }} }}\n",
        nginx_head(site, name),
        site.origin,
        site.certificates.certificate.display(),
        site.certificates.key.display()
    )
}
