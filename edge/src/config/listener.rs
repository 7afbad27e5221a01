//! `[[listener]]`: where to listen, in clear or with which certificates.
//!
//! Room  pure but for a look at the certificate files, which must be usable.

use std::net::SocketAddr;

use dataplane::config::listener::{SOCKETS, SOCKETS_MAX, Seen, proxy_protocol};
use dataplane::settings::{Found, Notes, Section};
use edge::settings::{CertificateFiles, Listener, ListenerTls};
use edge::tls::check_pair;

use super::Base;
use super::environment::EdgeOverrides;
use super::unsupported::{self, refuse};

const NO_CERTIFICATE: &str = "a TLS listener needs a certificate";
const WRITE_CERTIFICATE: &str = "write [[listener.certificate]] with certificate and key";

/// What every listener is read with.
pub(super) struct Given<'g, 'n> {
    pub(super) notes: &'g Notes,
    pub(super) over: &'g EdgeOverrides<'n>,
    pub(super) base: &'g Base,
    /// The file has no other: `PORT` and `SSL_CERT_PATH` mean this one.
    pub(super) is_only: bool,
}

/// One `[[listener]]`.
pub(super) fn read(
    mut section: Section<'_>,
    seen: &mut Seen<'_>,
    given: &Given<'_, '_>,
) -> Option<Listener> {
    refuse(&mut section, &unsupported::OF_A_LISTENER);
    let port = given.over.shared.port.as_ref().map(|(port, _)| *port);
    let port = port.filter(|_| given.is_only);
    let name = section.required(
        "name",
        "every listener has a name, by which its socket is known across upgrades",
    );
    let name = name.and_then(|found| seen.name(&found));
    let address = section.required("address", "where to listen, such as \"0.0.0.0:443\"");
    let address = address.and_then(|found| {
        let mut address = found.listen_address()?;
        address.set_port(port.unwrap_or_else(|| address.port()));
        seen.address(address, found.spot());
        Some(address)
    });
    let sockets = section.optional("sockets");
    let sockets = sockets.and_then(|found| found.integer(1..=SOCKETS_MAX));
    let http2 = section.optional("http2").and_then(|found| found.boolean());
    let tls = tls(&mut section, given);
    let redirect = redirect(&mut section, tls.is_some(), address);
    let (proxy_protocol, trusted) = proxy_protocol(&mut section);
    section.finish();
    Some(Listener {
        name: name?,
        address: address?,
        sockets: sockets.unwrap_or(SOCKETS),
        proxy_protocol,
        trusted,
        tls,
        http2: http2.unwrap_or(true),
        redirect_to_https: redirect,
    })
}

fn tls(section: &mut Section<'_>, given: &Given<'_, '_>) -> Option<ListenerTls> {
    let wanted = section.optional("tls");
    let wanted = wanted.map(|found| (found.boolean(), found));
    let has_written = section.has("certificate");
    let mut certificates = certificates(section, given);
    let is_meant = given.is_only
        && given.over.certificate.is_some()
        && wanted.is_none()
        && !section.has("redirect_to_https");
    let is_wanted = has_written || is_meant || matches!(wanted, Some((Some(true), _)));
    if let (true, Some((files, _))) = (is_wanted, &given.over.certificate) {
        certificates = vec![files.clone()];
    }
    match &wanted {
        Some((Some(true), found)) if certificates.is_empty() && !has_written => {
            found.mistake(NO_CERTIFICATE, Some(WRITE_CERTIFICATE.to_owned()));
        }
        Some((Some(false), found)) if has_written => {
            found.mistake(
                "the listener has certificates",
                Some("remove one of them".to_owned()),
            );
        }
        _ => {}
    }
    let strict = section.optional("strict_sni");
    let least = section.optional("tls_min_version");
    if !is_wanted {
        for found in [&strict, &least].into_iter().flatten() {
            found.mistake("has no effect without certificates", None);
        }
        return None;
    }
    let strict_sni = strict.and_then(|found| found.boolean());
    let versions = [("1.2", true), ("1.3", false)];
    let tls12 = least.and_then(|found| found.choice("TLS version", &versions));
    Some(ListenerTls {
        // With one certificate there is nothing to confuse; with several a wrong name is a mistake.
        strict_sni: strict_sni.unwrap_or(certificates.len() > 1),
        tls12: tls12.unwrap_or(true),
        certificates,
    })
}

/// Those of the file. Where the environment has one in their place, the files need not be there.
fn certificates(section: &mut Section<'_>, given: &Given<'_, '_>) -> Vec<CertificateFiles> {
    let is_overridden = given.over.certificate.is_some();
    let noted = given.notes.count();
    let tables = section.tables("certificate");
    if tables.is_empty()
        && !is_overridden
        && given.notes.count() == noted
        && let Some(found) = section.optional("certificate")
    {
        found.mistake(NO_CERTIFICATE, Some(WRITE_CERTIFICATE.to_owned()));
    }
    let mut certificates = Vec::new();
    for mut table in tables {
        let certificate = table.required("certificate", "the PEM file of the certificate chain");
        let key = table.required("key", "the PEM file of the private key");
        table.finish();
        let (Some(certificate), Some(key)) = (certificate, key) else {
            continue;
        };
        let (Some(chain_file), Some(key_file)) = (certificate.string(), key.string()) else {
            continue;
        };
        let files = CertificateFiles {
            certificate: given.base.path(&chain_file),
            key: given.base.path(&key_file),
        };
        if certificates.contains(&files) {
            let hint = Some("keep one of them".to_owned());
            certificate.mistake("this certificate is listed twice", hint);
        } else if !is_overridden {
            check_files(&files, &certificate, &key);
        }
        certificates.push(files);
    }
    certificates
}

/// Notes why a pair cannot be used, at the file that is to blame.
pub(super) fn check_files(files: &CertificateFiles, certificate: &Found<'_>, key: &Found<'_>) {
    if let Err(problem) = check_pair(files) {
        // Its words begin with the file.
        let is_key = files.key != files.certificate
            && problem.starts_with(&format!("{}:", files.key.display()));
        let found = if is_key { key } else { certificate };
        found.mistake(problem, None);
    }
}

/// `true`: to port 443; a number: to that port.
fn redirect(section: &mut Section<'_>, is_tls: bool, address: Option<SocketAddr>) -> Option<u16> {
    let found = section.optional("redirect_to_https")?;
    let port = if found.is_integer() {
        found.integer(1..=u16::MAX)?
    } else if found.is_string() {
        let hint = Some("without quotes".to_owned());
        found.mistake("write true, or a port", hint);
        return None;
    } else if found.boolean()? {
        443
    } else {
        return None;
    };
    if is_tls {
        found.mistake(
            "the listener is https already: a redirect would never end",
            None,
        );
    } else if address.is_some_and(|address| address.port() == port) {
        found.mistake(
            format!("port {port} is this listener's own: a redirect would never end"),
            None,
        );
    }
    Some(port)
}
