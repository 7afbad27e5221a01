//! Tickets across configurations, as across the processes of a service.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Authority, ServerConfig, Ticketer, established, within};
use crate::settings::ListenerTls;
use crate::tls::{CertificateStore, server_config};

/// A process of its own, as far as TLS goes: nothing but the keys is shared.
fn process(tls: &ListenerTls, keys: &[[u8; 32]]) -> (Arc<ServerConfig>, Arc<Ticketer>) {
    let ticketer = Ticketer::random().unwrap();
    ticketer.install(keys);
    let store = CertificateStore::load(tls).unwrap();
    let config = server_config(store, Arc::clone(&ticketer), tls, true).unwrap();
    (config, ticketer)
}

/// One connection with a round trip, in which the client gets its tickets; whether it was resumed.
async fn visit(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> bool {
    let (mut near, mut far) = established(client, server).await;
    let talk = async {
        near.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        far.read_exact(&mut got).await.unwrap();
        far.write_all(&got).await.unwrap();
        near.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
    };
    within(talk).await;
    assert_eq!(near.is_resumed(), far.is_resumed());
    far.is_resumed()
}

#[tokio::test]
async fn a_session_goes_on_in_another_process_and_after_rotations() {
    let authority = Authority::new();
    let tls = authority.listener();
    for version in [&TLS12, &TLS13] {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let client =
            ClientConfig::builder_with_provider(authority.client().crypto_provider().clone())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        let client = Arc::new(client);
        let (first, keys) = process(&tls, &[]);
        assert!(!visit(&client, &first).await);
        assert!(visit(&client, &first).await, "{version:?}");
        let (second, second_keys) = process(&tls, &keys.keys());
        assert!(
            visit(&client, &second).await,
            "{version:?}: in the successor"
        );
        second_keys.rotate().unwrap();
        assert!(
            visit(&client, &second).await,
            "{version:?}: after a rotation"
        );
        // Its newest ticket is now under the newest key, which the first process learns.
        keys.install(&second_keys.keys());
        assert!(
            visit(&client, &first).await,
            "{version:?}: back in the incumbent"
        );
        let (stranger, _) = process(&tls, &[]);
        assert!(
            !visit(&client, &stranger).await,
            "{version:?}: without the keys"
        );
    }
}

#[tokio::test]
async fn a_renewed_certificate_does_not_end_sessions() {
    let authority = Authority::new();
    let tls = authority.listener();
    let client = authority.client();
    let (server, keys) = process(&tls, &[]);
    assert!(!visit(&client, &server).await);
    authority.write("localhost", &authority.issue(&["localhost"]));
    let (renewed, _) = process(&tls, &keys.keys());
    assert!(visit(&client, &renewed).await);
}

#[tokio::test]
async fn no_early_data_is_offered() {
    let authority = Authority::new();
    let (server, _) = process(&authority.listener(), &[]);
    assert_eq!(server.max_early_data_size, 0);
    let client = authority.client_with(|config| config.enable_early_data = true);
    visit(&client, &server).await;
    let (near, _far) = established(&client, &server).await;
    let rustls::Connection::Client(connection) = near.connection() else {
        panic!("a client's end");
    };
    assert!(near.is_resumed());
    assert!(!connection.is_early_data_accepted());
}
