//! A certificate and its key as files: read, matched, described.
//!
//! Room  files in, a usable certificate or the reason why not, in words with a next step.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::settings::CertificateFiles;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Lower-case; wildcards as `*.example.org`.
    pub names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    pub serial: String,
    /// Certificates in the chain.
    pub chain: usize,
}

/// Reads both files and says what they are; for `edge check`.
///
/// # Errors
/// Why the pair cannot be used.
pub fn check_pair(files: &CertificateFiles) -> Result<CertificateFacts, String> {
    load(files).map(|(_, facts)| facts)
}

pub(super) fn load(files: &CertificateFiles) -> Result<(Arc<CertifiedKey>, CertificateFacts), String> {
    let shown = files.certificate.display();
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .map_err(|error| format!("{shown} cannot be read: {}", plain(&error)))?
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{shown} is no PEM file of certificates: {}", plain(&error)))?;
    let Some(leaf) = chain.first() else {
        return Err(format!("{shown} has no certificate; it must begin with -----BEGIN CERTIFICATE-----"));
    };
    let facts = describe(leaf, chain.len()).map_err(|error| format!("{shown}: {error}"))?;
    let shown_key = files.key.display();
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("{shown_key} has no private key in PEM form: {}", plain(&error)))?;
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| format!("{shown_key} cannot be used: {error}"))?;
    let certified = CertifiedKey::new(chain, signer);
    certified
        .keys_match()
        .map_err(|_| format!("the key {shown_key} does not belong to the certificate {shown}; replace both together"))?;
    Ok((Arc::new(certified), facts))
}

fn plain(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => "there is none in it".to_owned(),
        other => other.to_string(),
    }
}

fn describe(leaf: &CertificateDer<'_>, chain: usize) -> Result<CertificateFacts, String> {
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|error| format!("no X.509 certificate: {error}"))?;
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    names.dedup();
    Ok(CertificateFacts {
        names,
        not_before: at(parsed.validity().not_before.timestamp()),
        not_after: at(parsed.validity().not_after.timestamp()),
        serial: parsed.raw_serial_as_string(),
        chain,
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}

fn at(timestamp: i64) -> SystemTime {
    let seconds = u64::try_from(timestamp).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
