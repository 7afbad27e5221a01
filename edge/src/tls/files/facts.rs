//! What a certificate says about itself: names, dates, key.
//!
//! Room  pure: bytes in, facts out; the clock is a parameter.
//! Holds any bytes end in an error at worst. Names come from subjectAltName only: clients ignore the common
//!       name (RFC 9525, section 2).

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

/// Of the first certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// DNS names (lower-case, wildcards as they are) and addresses, in the certificate's order.
    pub names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Certificates in the file, the first one included.
    pub chain: usize,
    /// `ECDSA 256`, `RSA 2048`, `Ed25519`.
    pub key_kind: String,
    /// Hexadecimal, as browsers show it: `03:a1:…`.
    pub serial: String,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
    /// What a person should look at; none of them keeps the certificate from being served.
    pub warnings: Vec<String>,
}

impl CertificateFacts {
    pub(crate) fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }

    pub(crate) fn is_early(&self, now: SystemTime) -> bool {
        now < self.not_before
    }
}

/// Describes the first certificate of `chain`.
pub(super) fn read(
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<CertificateFacts, String> {
    let first = chain.first().ok_or("there is none")?;
    let (_rest, parsed) = X509Certificate::from_der(first).map_err(|error| error.to_string())?;
    let mut facts = CertificateFacts {
        names: names(&parsed)?,
        not_before: time(parsed.validity().not_before.timestamp()),
        not_after: time(parsed.validity().not_after.timestamp()),
        chain: chain.len(),
        key_kind: key_kind(&parsed),
        serial: parsed.raw_serial_as_string(),
        fingerprint: hexadecimal(digest::digest(&digest::SHA256, first).as_ref()),
        warnings: Vec::new(),
    };
    facts.warnings = warnings(&facts, now);
    Ok(facts)
}

fn names(parsed: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let extension = parsed
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let names = extension
        .iter()
        .flat_map(|names| &names.value.general_names);
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(octets) => Some(address(octets)?.to_string()),
            _ => None,
        })
        .collect())
}

/// Four or sixteen octets (RFC 5280, section 4.2.1.6).
fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    Some(<[u8; 16]>::try_from(octets).ok()?.into())
}

fn key_kind(parsed: &X509Certificate<'_>) -> String {
    /// RFC 8410, section 3.
    const ED25519: &str = "1.3.101.112";
    let key = parsed.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        Ok(PublicKey::EC(point)) => format!("ECDSA {}", point.key_size()),
        _ if key.algorithm.algorithm.to_id_string() == ED25519 => "Ed25519".to_owned(),
        _ => key.algorithm.algorithm.to_id_string(),
    }
}

fn warnings(facts: &CertificateFacts, now: SystemTime) -> Vec<String> {
    let date = |at| humantime::format_rfc3339_seconds(at);
    let mut warnings = Vec::new();
    if facts.is_expired(now) {
        warnings.push(format!(
            "expired since {}; clients refuse it: renew it",
            date(facts.not_after)
        ));
    }
    if facts.is_early(now) {
        warnings.push(format!(
            "not valid before {}; clients refuse it until then: check the host's clock",
            date(facts.not_before)
        ));
    }
    if facts.names.is_empty() {
        warnings.push(
            "has no subjectAltName; clients ignore the common name: have it issued with one"
                .to_owned(),
        );
    }
    warnings
}

/// Before 1970 is 1970: such a certificate has long expired either way.
fn time(seconds: i64) -> SystemTime {
    let after = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    UNIX_EPOCH.checked_add(after).unwrap_or(UNIX_EPOCH)
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
