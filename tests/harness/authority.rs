//! A certificate authority of the test's own, and the files that `edge` and the clients read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};
use rustls::{ClientConfig, RootCertStore};

/// Signs certificates into one directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
}

impl Authority {
    /// A new authority; `ca.pem` is written.
    ///
    /// # Panics
    /// When the directory cannot be written.
    pub fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // A name of its own: a certificate whose issuer is called like its subject counts as self-signed.
        params
            .distinguished_name
            .push(DnType::CommonName, "the test's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        std::fs::write(dir.join("ca.pem"), certificate.pem()).expect("written");
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate.der().clone())
            .expect("an authority of ours");
        Self {
            dir: dir.to_owned(),
            issuer: Issuer::new(params, key),
            roots,
        }
    }

    /// What clients are told to believe.
    pub fn file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Writes `NAME.crt` and `NAME.key` for localhost, each by rename, the key first; the certificate as DER.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn issue(&self, name: &str, serial: u64) -> Vec<u8> {
        self.issue_for(&["localhost", "127.0.0.1"], name, serial)
    }

    /// The same for these hosts.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn issue_for(&self, hosts: &[&str], name: &str, serial: u64) -> Vec<u8> {
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params
            .distinguished_name
            .push(DnType::CommonName, "localhost");
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        self.replace(&format!("{name}.key"), &key.serialize_pem());
        self.replace(&format!("{name}.crt"), &certificate.pem());
        certificate.der().to_vec()
    }

    /// Another text in place of a file, by rename.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn replace(&self, name: &str, text: &str) {
        let new = self.dir.join(format!("{name}.new"));
        std::fs::write(&new, text).expect("written");
        std::fs::rename(&new, self.dir.join(name)).expect("renamed");
    }

    /// For rustls clients: this authority, these protocols.
    ///
    /// # Panics
    /// Never: the provider has TLS 1.2 and 1.3.
    pub fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }
}
