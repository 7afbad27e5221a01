//! Certificates for a scene: an authority that nobody else trusts, and one leaf for loopback.
//!
//! Room  making them and writing them as PEM.
//! In    a directory, the names of the leaf.
//! Out   paths of chain, key and authority.
//! Holds the keys are ECDSA P-256 and never leave the directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Files of one authority and one leaf, PEM.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// What a client trusts.
    pub authority: PathBuf,
    /// The leaf, for a server.
    pub certificate: PathBuf,
    /// The leaf's key, PKCS #8.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes an authority and a leaf for `names` (DNS names or addresses) and writes them into `directory`.
    ///
    /// # Errors
    /// A name that is neither, or what the file system says.
    pub fn write(directory: &Path, names: &[&str]) -> io::Result<Self> {
        let (authority, certificate, key) = make(names).map_err(io::Error::other)?;
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            fs::write(&path, text)?;
            Ok::<_, io::Error>(path)
        };
        Ok(Self {
            authority: write("authority.crt", authority)?,
            certificate: write("server.crt", certificate)?,
            key: write("server.key", key)?,
        })
    }
}

/// Authority, leaf and the leaf's key.
fn make(names: &[&str]) -> Result<(String, String, String), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::new(params, authority_key);
    let leaf_key = KeyPair::generate()?;
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names)?.signed_by(&leaf_key, &issuer)?;
    Ok((authority.pem(), leaf.pem(), leaf_key.serialize_pem()))
}
