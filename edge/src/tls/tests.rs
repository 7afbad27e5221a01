//! Tests of the whole room: real handshakes over loopback sockets with certificates made on the spot.
//!
//! Room  the fixtures; what is tested lives in the files below.

mod handshakes;
mod pairs;
mod reload;
mod resumption;
mod secrets;
mod sni;
mod streams;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::{CertificateStore, ClientConfig, ServerConfig, Ticketer, TlsStream, server_config};
use crate::settings::{CertificateFiles, ListenerTls, UpstreamTls};

/// Bounds every wait of these tests.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// An authority and a directory for what it issues.
pub(super) struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key as PEM.
pub(super) struct Issued {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) der: CertificateDer<'static>,
}

impl Authority {
    pub(super) fn new() -> Self {
        Self::of(&PKCS_ECDSA_P256_SHA256)
    }

    /// Signs with this kind of key.
    pub(super) fn of(kind: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(kind).unwrap();
        let authority = Self {
            dir: TempDir::new().unwrap(),
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        };
        std::fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub(super) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, &PKCS_ECDSA_P256_SHA256, |_params| {})
    }

    pub(super) fn issue_with(
        &self,
        names: &[&str],
        kind: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate_for(kind).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }

    /// Where a pair of this name lies.
    pub(super) fn files(&self, name: &str) -> CertificateFiles {
        CertificateFiles {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        }
    }

    pub(super) fn write(&self, name: &str, issued: &Issued) -> CertificateFiles {
        let files = self.files(name);
        replace(&files.certificate, &issued.certificate);
        replace(&files.key, &issued.key);
        files
    }

    /// One listener with one fresh certificate for `localhost`.
    pub(super) fn listener(&self) -> ListenerTls {
        listener(vec![self.write("localhost", &self.issue(&["localhost"]))])
    }

    pub(super) fn client_settings(&self) -> UpstreamTls {
        UpstreamTls {
            authorities: Some(self.path("ca.pem")),
            server_name: None,
            insecure: false,
        }
    }

    /// A client that trusts this authority and offers `http/1.1`.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        super::client_config(&self.client_settings(), false).unwrap()
    }

    /// The same with changes.
    pub(super) fn client_with(&self, change: impl FnOnce(&mut ClientConfig)) -> Arc<ClientConfig> {
        let mut config = Arc::unwrap_or_clone(self.client());
        change(&mut config);
        Arc::new(config)
    }
}

/// As a careful renewer does: the new content appears at once.
pub(super) fn replace(file: &Path, content: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, file).unwrap();
}

pub(super) fn listener(certificates: Vec<CertificateFiles>) -> ListenerTls {
    ListenerTls {
        certificates,
        strict_sni: false,
        tls12: true,
    }
}

/// A server of its own: fresh store, fresh ticket key.
pub(super) fn server(tls: &ListenerTls) -> Arc<ServerConfig> {
    let store = CertificateStore::load(tls).unwrap();
    server_config(store, Ticketer::random().unwrap(), tls, true).unwrap()
}

pub(super) fn name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

/// A socket's buffer when it is to be small, in bytes. Sized: about one record, so that records are cut at any
/// place; with the kernel's least (2 KiB) plain TCP itself needs 14 s for 256 KiB.
const SMALL: usize = 16 * 1024;

/// Two ends of one connection; with buffers of [`SMALL`] when `small`.
pub(super) async fn sockets(small: bool) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(connecting, listener.accept());
    let ends = (client.unwrap(), server.unwrap().0);
    if small {
        for end in [&ends.0, &ends.1] {
            let socket = socket2::SockRef::from(end);
            socket.set_send_buffer_size(SMALL).unwrap();
            socket.set_recv_buffer_size(SMALL).unwrap();
        }
    }
    ends
}

/// Boxed: two handshakes side by side are too large for a test's stack frame.
pub(super) type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A client's end and a server's end.
pub(super) type Ends = (io::Result<TlsStream>, io::Result<TlsStream>);

/// Both results of one handshake: the client's, the server's.
pub(super) fn shake<'a>(
    client: &'a Arc<ClientConfig>,
    server: &'a Arc<ServerConfig>,
    asked: &'a str,
) -> Waiting<'a, Ends> {
    Box::pin(async move { shake_over(sockets(false).await, client, server, asked).await })
}

pub(super) fn shake_over<'a>(
    (near, far): (TcpStream, TcpStream),
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    asked: &str,
) -> Waiting<'a, Ends> {
    let connecting = TlsStream::connect(near, Arc::clone(client), name(asked));
    let accepting = TlsStream::accept(far, Arc::clone(server));
    within(async { tokio::join!(connecting, accepting) })
}

/// A handshake that must succeed: the client's end, the server's end.
pub(super) async fn established(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> (TlsStream, TlsStream) {
    let (near, far) = shake(client, server, "localhost").await;
    (near.unwrap(), far.unwrap())
}

pub(super) fn within<'a, T>(waiting: impl Future<Output = T> + 'a) -> Waiting<'a, T> {
    Box::pin(async move { tokio::time::timeout(SOON, waiting).await.expect("in time") })
}

/// The TLS error inside an I/O error.
pub(super) fn tls_error(error: &io::Error) -> &rustls::Error {
    let inner = error.get_ref().expect("an error with a cause");
    inner.downcast_ref().expect("an error of rustls")
}
