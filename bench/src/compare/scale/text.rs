//! Configurations with much in them.
//!
//! Room  pure: text. What clients ask for (the host `localhost`) comes last, so that a search in order would show.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::compare::contender::Site;

/// Listeners in clear and with TLS, one worker.
fn edge(site: &Site, (clear, tls): (SocketAddr, SocketAddr)) -> String {
    format!(
        "workers = 1\n[limits]\nconnections = 100000\n[[listener]]\nname = \"http\"\naddress = \"{clear}\"\n\
         [[listener]]\nname = \"https\"\naddress = \"{tls}\"\n[[listener.certificate]]\ncertificate = \"{}\"\nkey = \"{}\"\n\
         [timeouts]\nkeep_alive = \"10m\"\n",
        site.certificates.certificate.display(),
        site.certificates.key.display(),
    )
}

fn route(text: &mut String, host: &str, upstream: &str) {
    // To a string.
    let _ = write!(
        text,
        "[[route]]\nhosts = [\"{host}\"]\npath_prefix = \"/\"\nupstream = \"{upstream}\"\n"
    );
}

/// So many routes before the one that is asked for.
pub(super) fn routes(site: &Site, at: (SocketAddr, SocketAddr), others: usize) -> String {
    let mut text = edge(site, at);
    for number in 0..others {
        route(&mut text, &format!("h{number}.test"), "app");
    }
    route(&mut text, "localhost", "app");
    text + &format!("[upstream.app]\nbackends = [\"{}\"]\n", site.origin)
}

/// So many upstreams, each with a route, before the one that is asked for.
pub(super) fn upstreams(
    site: &Site,
    at: (SocketAddr, SocketAddr),
    others: usize,
    backends: u8,
) -> String {
    let mut text = edge(site, at);
    for number in 0..others {
        route(&mut text, &format!("h{number}.test"), &format!("u{number}"));
    }
    route(&mut text, "localhost", "app");
    let port = site.origin.port();
    let list: Vec<String> = (0..backends)
        .map(|number| format!("\"127.0.1.{}:{port}\"", number + 1))
        .collect();
    let list = list.join(", ");
    for number in 0..others {
        let _ = write!(text, "[upstream.u{number}]\nbackends = [{list}]\n");
    }
    text + &format!("[upstream.app]\nbackends = [{list}]\n")
}

/// The usual one with so many workers.
pub(super) fn workers(
    site: &Site,
    program: &str,
    at: (SocketAddr, SocketAddr),
    workers: usize,
) -> String {
    let origin = site.origin;
    let text = match program {
        "lb" => format!(
            "workers = 1\n[[listener]]\nname = \"web\"\naddress = \"{}\"\nupstream = \"app\"\n[upstream.app]\nbackends = [\"{origin}\"]\n",
            at.0
        ),
        _ => routes(site, at, 0),
    };
    text.replacen("workers = 1", &format!("workers = {workers}"), 1)
}
