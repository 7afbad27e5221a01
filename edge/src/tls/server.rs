//! What a TLS listener offers.
//!
//! Room  pure composition.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};

use super::{CertificateStore, Ticketer};
use crate::settings::ListenerTls;

/// TLS 1.2 and 1.3 (or 1.3 alone), hybrid post-quantum key exchange first, tickets and no other sessions, no early
/// data.
///
/// # Errors
/// rustls refuses the combination.
pub fn server_config(
    store: Arc<CertificateStore>,
    ticketer: Arc<Ticketer>,
    tls: &ListenerTls,
    http2: bool,
) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions: &[_] = if tls.tls12 {
        &[&TLS13, &TLS12]
    } else {
        &[&TLS13]
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(store);
    config.alpn_protocols = if http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    config.ticketer = ticketer;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 2;
    // An idle connection's keys can go to the successor (docs/adr/0007-edge-engine.md).
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}
