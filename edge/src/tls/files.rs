//! One certificate with its key: read from PEM files, checked, described.
//!
//! Room  reads files when asked; keeps nothing.
//! In    `CertificateFiles`.
//! Out   what rustls signs with, and facts for people.
//! Holds a pair that is returned belongs together: its key made the certificate's public key.

mod facts;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::settings::CertificateFiles;
pub use facts::CertificateFacts;

/// Largest PEM file that is read, in bytes. Covers: long chains (rustls sends at most 64 KiB of them).
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A checked pair.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) facts: Arc<CertificateFacts>,
}

/// Reads and checks a pair as a start or a reload would.
///
/// What does not keep it from being served (expired, not yet valid, no names) is in the facts'
/// [`warnings`](CertificateFacts::warnings).
///
/// # Errors
/// What is wrong, with the file's name and the next step, in words.
pub fn check_pair(files: &CertificateFiles) -> Result<CertificateFacts, String> {
    Ok(Arc::unwrap_or_clone(
        read_pair(files, SystemTime::now())?.facts,
    ))
}

/// As [`check_pair`], with what rustls needs.
pub(crate) fn read_pair(files: &CertificateFiles, now: SystemTime) -> Result<Pair, String> {
    let chain = chain(&files.certificate)?;
    let key = key(&files.key)?;
    let facts = facts::read(&chain, now).map_err(|why| {
        format!(
            "{}: the first certificate cannot be read ({why}); it must be the server's own, in PEM",
            files.certificate.display()
        )
    })?;
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(|error| unusable(&error, files))?;
    Ok(Pair {
        certified: Arc::new(certified),
        facts: Arc::new(facts),
    })
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(file, "certificate")?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| broken(file, &error))?;
    if chain.is_empty() {
        return Err(format!(
            "{}: no certificate in it; expected PEM with \"BEGIN CERTIFICATE\", the server's own first, then its \
             intermediates",
            file.display()
        ));
    }
    Ok(chain)
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(file, "key")?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(&text) => format!(
            "{}: the key is encrypted with a passphrase; write it without one (`openssl pkey -in … -out …`)",
            file.display()
        ),
        pem::Error::NoItemsFound => format!(
            "{}: no private key in it; expected PEM with \"BEGIN PRIVATE KEY\", \"BEGIN RSA PRIVATE KEY\" or \
             \"BEGIN EC PRIVATE KEY\"",
            file.display()
        ),
        error => broken(file, &error),
    })
}

fn is_encrypted(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"BEGIN ENCRYPTED PRIVATE KEY").is_some()
}

fn read(file: &Path, what: &str) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| {
        format!(
            "{}: the {what} file cannot be read: {error}; check its path and that this user may read it",
            file.display()
        )
    };
    let opened = std::fs::File::open(file).map_err(failed)?;
    let mut text = Vec::new();
    let mut bounded = opened.take(FILE_BYTES_MAX + 1);
    let length = bounded.read_to_end(&mut text).map_err(failed)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(format!(
            "{}: the {what} file is larger than 1 MiB; is it the right one?",
            file.display()
        ));
    }
    Ok(text)
}

fn broken(file: &Path, error: &pem::Error) -> String {
    format!(
        "{}: not valid PEM ({error}); was it written to the end?",
        file.display()
    )
}

fn unusable(error: &rustls::Error, files: &CertificateFiles) -> String {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    if *error == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
        return format!(
            "{key}: the key does not match the certificate in {certificate}; put the key there that its request \
             was made with"
        );
    }
    format!(
        "{key}: the key cannot be used with {certificate} ({error}); use RSA (2048 to 8192 bits), ECDSA or Ed25519"
    )
}
