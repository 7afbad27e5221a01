//! What is agreed upon: versions, protocols, key exchange.

use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, Error, NamedGroup, ProtocolVersion, RootCertStore};

use super::{Authority, established, server, shake, sockets, tls_error, within};
use crate::tls::{TlsStream, client_config, server_name};

fn client_of(
    authority: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
    groups: &[&'static dyn rustls::crypto::SupportedKxGroup],
) -> Arc<ClientConfig> {
    let mut provider = default_provider();
    if !groups.is_empty() {
        provider.kx_groups = groups.to_vec();
    }
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn both_versions_are_spoken_and_the_newer_one_is_preferred() {
    let authority = Authority::new();
    let server = server(&authority.listener());
    for (offered, agreed) in [
        (&[&TLS12, &TLS13][..], ProtocolVersion::TLSv1_3),
        (&[&TLS12][..], ProtocolVersion::TLSv1_2),
        (&[&TLS13][..], ProtocolVersion::TLSv1_3),
    ] {
        let client = client_of(&authority, offered, &[]);
        let (near, far) = established(&client, &server).await;
        assert_eq!(near.protocol_version(), Some(agreed));
        assert_eq!(far.protocol_version(), Some(agreed));
        assert_eq!(far.server_name(), Some("localhost"));
        assert_eq!(near.server_name(), None);
        assert!(!far.is_resumed());
        assert!(near.is_idle() || agreed == ProtocolVersion::TLSv1_3);
        assert!(far.is_idle());
    }
}

#[tokio::test]
async fn tls12_is_refused_where_it_is_not_allowed_and_the_client_hears_why() {
    let authority = Authority::new();
    let mut tls = authority.listener();
    tls.tls12 = false;
    let client = client_of(&authority, &[&TLS12], &[]);
    let (near, far) = shake(&client, &server(&tls), "localhost").await;
    assert_eq!(far.unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(
        *tls_error(&near.unwrap_err()),
        Error::AlertReceived(AlertDescription::ProtocolVersion)
    );
}

#[tokio::test]
async fn the_post_quantum_group_is_preferred_and_older_ones_still_do() {
    let authority = Authority::new();
    let server = server(&authority.listener());
    for (offered, agreed) in [
        (&[][..], NamedGroup::X25519MLKEM768),
        (&[kx_group::X25519], NamedGroup::X25519),
        (&[kx_group::SECP256R1], NamedGroup::secp256r1),
        (&[kx_group::SECP384R1], NamedGroup::secp384r1),
    ] {
        let client = client_of(&authority, &[&TLS13], offered);
        let (near, far) = established(&client, &server).await;
        for end in [near, far] {
            assert_eq!(end.key_exchange_group(), Some(agreed));
        }
    }
}

#[tokio::test]
async fn the_server_prefers_http2_and_refuses_what_it_does_not_speak() {
    let authority = Authority::new();
    let server = server(&authority.listener());
    for (offered, agreed) in [
        (&["http/1.1", "h2"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["spdy/3", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let client = authority.client_with(|config| {
            config.alpn_protocols = offered
                .iter()
                .map(|name| name.as_bytes().to_vec())
                .collect();
        });
        let (near, far) = established(&client, &server).await;
        assert_eq!(near.alpn(), agreed.map(str::as_bytes), "{offered:?}");
        assert_eq!(far.alpn(), agreed.map(str::as_bytes), "{offered:?}");
    }
    let client = authority.client_with(|config| config.alpn_protocols = vec![b"spdy/3".to_vec()]);
    let (near, _far) = shake(&client, &server, "localhost").await;
    assert_eq!(
        *tls_error(&near.unwrap_err()),
        Error::AlertReceived(AlertDescription::NoApplicationProtocol)
    );
}

#[tokio::test]
async fn a_backend_is_verified_unless_the_settings_say_otherwise() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = server(&theirs.listener());
    let mut settings = ours.client_settings();
    let client = client_config(&settings, false).unwrap();
    let (near, _far) = shake(&client, &server, "localhost").await;
    assert!(matches!(
        tls_error(&near.unwrap_err()),
        Error::InvalidCertificate(_)
    ));
    let (wrong_name, _far) = shake(&theirs.client(), &server, "elsewhere.example").await;
    assert!(wrong_name.is_err());
    settings.insecure = true;
    let client = client_config(&settings, true).unwrap();
    let (near, far) = shake(&client, &server, "elsewhere.example").await;
    assert_eq!(near.unwrap().alpn(), Some(&b"h2"[..]));
    far.unwrap();
}

#[test]
fn the_name_of_a_backend_comes_from_the_settings_or_its_label() {
    let mut settings = Authority::new().client_settings();
    for (label, name) in [
        ("backend.example:8443", Some("backend.example")),
        ("backend.example", Some("backend.example")),
        ("192.0.2.1:443", Some("192.0.2.1")),
        ("[2001:db8::1]:443", Some("2001:db8::1")),
        ("2001:db8::1", Some("2001:db8::1")),
        ("no name:443", None),
    ] {
        let found = server_name(&settings, label).ok();
        assert_eq!(
            found
                .as_ref()
                .map(|name| name.to_str().into_owned())
                .as_deref(),
            name
        );
    }
    settings.server_name = Some("other.example".to_owned());
    let found = server_name(&settings, "192.0.2.1:443").unwrap();
    assert_eq!(found.to_str(), "other.example");
}

#[test]
fn authorities_that_cannot_be_read_are_named() {
    let authority = Authority::new();
    let mut settings = authority.client_settings();
    for (file, content) in [
        ("none.pem", None),
        ("empty.pem", Some("")),
        ("text.pem", Some("text")),
    ] {
        if let Some(content) = content {
            std::fs::write(authority.path(file), content).unwrap();
        }
        settings.authorities = Some(authority.path(file));
        let why = client_config(&settings, false).unwrap_err();
        assert!(why.contains(file), "{why}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_or_speaks_no_tls_ends_the_handshake() {
    use tokio::io::AsyncWriteExt as _;
    let authority = Authority::new();
    let config = server(&authority.listener());
    let (near, far) = sockets(false).await;
    drop(near);
    let gone = within(TlsStream::accept(far, Arc::clone(&config))).await;
    assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let (mut near, far) = sockets(false).await;
    near.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let clear = within(TlsStream::accept(far, config)).await;
    assert_eq!(clear.unwrap_err().kind(), io::ErrorKind::InvalidData);
}
