//! Certificates are replaced under load without a failed handshake, and a broken one changes nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::edge::{Edge, Site};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// How long a replaced certificate may take to be served.
const SOON: Duration = Duration::from_secs(20);

/// A handshake and a request: the certificate that was served, or what went wrong.
fn exchange(port: u16, config: &Arc<ClientConfig>) -> Result<Vec<u8>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let socket = TcpStream::connect(("127.0.0.1", port)).map_err(|error| text(&error))?;
    let timeout = Some(Duration::from_secs(20));
    socket
        .set_read_timeout(timeout)
        .map_err(|error| text(&error))?;
    let name = "localhost".try_into().map_err(|_| "a name".to_owned())?;
    let client = ClientConnection::new(Arc::clone(config), name).map_err(|error| text(&error))?;
    let mut stream = StreamOwned::new(client, socket);
    stream
        .write_all(b"GET /bytes/10 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .map_err(|error| text(&error))?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .map_err(|error| text(&error))?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(&answer).into_owned());
    }
    let served = stream
        .conn
        .peer_certificates()
        .and_then(|chain| chain.first());
    served
        .map(|one| one.to_vec())
        .ok_or_else(|| "no certificate".to_owned())
}

/// Full handshakes only: a resumed session shows the certificate of its first one.
fn fresh(site: &Site) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&site.authority.client(&[]));
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The value of the first series with this name and this label (`""`: any).
fn metric(edge: &mut Edge, name: &str, label: &str) -> Option<f64> {
    let (_, text) = edge.admin("/metrics");
    let line = text
        .lines()
        .find(|line| line.starts_with(name) && line.contains(label))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Handshakes one after the other until told to stop; how many, and what failed.
fn load(
    port: u16,
    config: Arc<ClientConfig>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match exchange(port, &config) {
            Ok(_) => {
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => failures.push(error),
        }
    }
    failures
}

#[test]
fn a_certificate_replaced_under_load_fails_no_handshake_and_a_broken_one_keeps_the_old() {
    let site = Site::start();
    let mut edge = site.edge("", "");
    let port = edge.port("https");
    let config = fresh(&site);
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (config, stop, done) = (Arc::clone(&config), Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || load(port, config, stop, done))
        })
        .collect();
    let mut newest = Vec::new();
    for serial in 2..5 {
        newest = site.authority.issue("server", serial);
        until(&format!("certificate {serial} is served"), || {
            exchange(port, &config).as_ref() == Ok(&newest)
        });
    }
    broken_replacements_change_nothing(&site, &mut edge, port, &config, &newest);
    stop.store(true, Ordering::Relaxed);
    let failures: Vec<String> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("joins"))
        .collect();
    let done = done.load(Ordering::Relaxed);
    assert!(
        failures.is_empty(),
        "{} of {done}: {:?}",
        failures.len(),
        failures.first()
    );
    assert!(done > 50, "only {done} handshakes");
}

fn broken_replacements_change_nothing(
    site: &Site,
    edge: &mut Edge,
    port: u16,
    config: &Arc<ClientConfig>,
    newest: &Vec<u8>,
) {
    let good = std::fs::read_to_string(site.path().join("server.crt")).expect("is there");
    site.authority.issue("other", 99);
    let unmatched = std::fs::read_to_string(site.path().join("other.crt")).expect("is there");
    for broken in ["not a certificate\n", &unmatched] {
        site.authority.replace("server.crt", broken);
        until("the failed reload shows in the metrics", || {
            metric(edge, "edge_certificate_reload_failed{", "") == Some(1.0)
        });
        let failed = metric(edge, "edge_certificate_reloads_total{", "result=\"failed\"");
        assert!(failed >= Some(1.0), "{failed:?}");
        let (status, text) = edge.admin("/api/v1/certificates");
        assert_eq!(status, 200, "{text}");
        let shown: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let error = shown[0]["last_error"].as_str();
        assert!(error.is_some_and(|error| !error.is_empty()), "{shown}");
        assert_eq!(
            exchange(port, config).as_ref(),
            Ok(newest),
            "the old one is served"
        );
        site.authority.replace("server.crt", &good);
        until("the good one is read again", || {
            metric(edge, "edge_certificate_reload_failed{", "") == Some(0.0)
        });
    }
    assert_eq!(exchange(port, config).as_ref(), Ok(newest));
}
