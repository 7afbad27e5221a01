//! TLS towards backends.
//!
//! Room  composition, and the reading of a file of authorities.
//! Holds a backend is verified unless the configuration says `insecure` in so many words.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::settings::UpstreamTls;

/// What is asked of backends.
///
/// # Errors
/// Authorities that cannot be read, in words for the person who configured them.
pub fn client_config(tls: &UpstreamTls, http2: bool) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = if tls.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            .with_no_client_auth()
    } else {
        builder
            .with_root_certificates(authorities(tls)?)
            .with_no_client_auth()
    };
    let protocol: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// The name to ask for and to verify: as configured, else the host of the backend's address.
///
/// # Errors
/// It is no name and no address.
pub fn server_name(tls: &UpstreamTls, backend: &str) -> Result<ServerName<'static>, String> {
    let host = match &tls.server_name {
        Some(name) => name.as_str(),
        // Colons before the last one, and no brackets: an address without a port.
        None => match backend.rsplit_once(':') {
            Some((host, _)) if host.starts_with('[') || !host.contains(':') => host,
            _ => backend,
        },
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host:?} is no name that TLS can verify; set tls.server_name"))
}

fn authorities(tls: &UpstreamTls) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let Some(path) = &tls.authorities else {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = store.add_parsable_certificates(found.certs);
        if added == 0 {
            return Err(
                "this host has no trusted authorities; install ca-certificates or set tls.ca"
                    .to_owned(),
            );
        }
        return Ok(store);
    };
    let shown = path.display();
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("{shown} is no PEM: {error}"))?;
        store
            .add(certificate)
            .map_err(|error| format!("{shown} has a certificate that cannot be used: {error}"))?;
    }
    if store.is_empty() {
        return Err(format!("{shown} has no certificate"));
    }
    Ok(store)
}

/// Takes any certificate; the signatures of the handshake are still verified.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
