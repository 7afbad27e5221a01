//! `[[listener]]`: where to listen, in clear or with which certificates.
//!
//! Room  pure but for a look at the certificate files, which must be usable.

use dataplane::config::listener::{SOCKETS, SOCKETS_MAX, Seen, proxy_protocol};
use dataplane::settings::{Found, Section};
use edge::settings::{CertificateFiles, Listener, ListenerTls};
use edge::tls::check_pair;

use super::Base;
use super::environment::EdgeOverrides;

/// One `[[listener]]`; `port` is that of the environment.
pub(super) fn read(
    mut section: Section<'_>,
    seen: &mut Seen<'_>,
    port: Option<u16>,
    over: &EdgeOverrides<'_>,
    base: &Base,
) -> Option<Listener> {
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
    let tls = tls(&mut section, over, base);
    let redirect = redirect(&mut section, tls.is_some());
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

fn tls(section: &mut Section<'_>, over: &EdgeOverrides<'_>, base: &Base) -> Option<ListenerTls> {
    let wanted = section
        .optional("tls")
        .map(|found| (found.boolean(), found));
    let mut certificates: Vec<CertificateFiles> = section
        .tables("certificate")
        .into_iter()
        .filter_map(|table| certificate(table, base))
        .collect();
    let has_written = section.has("certificate");
    let is_wanted = has_written || matches!(wanted, Some((Some(true), _)));
    if let (true, Some((files, _))) = (is_wanted, &over.certificate) {
        certificates = vec![files.clone()];
    }
    match &wanted {
        Some((Some(true), found)) if certificates.is_empty() && !has_written => found.mistake(
            "a TLS listener needs a certificate",
            Some("write [[listener.certificate]] with certificate and key".to_owned()),
        ),
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

fn certificate(mut section: Section<'_>, base: &Base) -> Option<CertificateFiles> {
    let certificate = section.required("certificate", "the PEM file of the certificate chain");
    let key = section.required("key", "the PEM file of the private key");
    section.finish();
    let certificate = certificate?;
    let files = CertificateFiles {
        certificate: base.path(&certificate.string()?),
        key: base.path(&key?.string()?),
    };
    check_files(&files, &certificate);
    Some(files)
}

/// Notes why a pair cannot be used.
pub(super) fn check_files(files: &CertificateFiles, found: &Found<'_>) {
    if let Err(problem) = check_pair(files) {
        found.mistake(problem, None);
    }
}

/// `true`: to port 443; a number: to that port.
fn redirect(section: &mut Section<'_>, is_tls: bool) -> Option<u16> {
    let found = section.optional("redirect_to_https")?;
    let port = if found.is_integer() {
        found.integer(1..=u16::MAX)
    } else {
        found.boolean()?.then_some(443)
    };
    if is_tls && port.is_some() {
        found.mistake(
            "the listener is https already: a redirect would never end",
            None,
        );
    }
    port
}
