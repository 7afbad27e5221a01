//! Which certificate answers whom, and which hosts a connection may ask for.

use std::sync::Arc;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, ClientConfig, Error, RootCertStore, SignatureAlgorithm};

use super::{Authority, Issued, listener, server, shake, tls_error};
use crate::settings::ListenerTls;
use crate::tls::{CertificateStore, client_config};

/// Takes whatever is shown.
fn any(authority: &Authority) -> Arc<ClientConfig> {
    let mut settings = authority.client_settings();
    settings.insecure = true;
    client_config(&settings, false).unwrap()
}

/// What the server shows to a client that asks for `asked`.
async fn shown(
    client: &Arc<ClientConfig>,
    tls: &ListenerTls,
    asked: &str,
) -> Option<CertificateDer<'static>> {
    let (near, _far) = shake(client, &server(tls), asked).await;
    let near = near.ok()?;
    near.connection().peer_certificates()?.first().cloned()
}

#[tokio::test]
async fn exact_names_then_wildcards_then_the_first_certificate() {
    let authority = Authority::new();
    let issued: Vec<Issued> = [
        &["first.example"][..],
        &["*.sites.example"],
        &["www.sites.example"],
    ]
    .iter()
    .map(|names| authority.issue(names))
    .collect();
    let files = issued.iter().zip(["first", "wildcard", "www"]);
    let mut tls = listener(
        files
            .map(|(issued, name)| authority.write(name, issued))
            .collect(),
    );
    let client = any(&authority);
    for strict in [false, true] {
        tls.strict_sni = strict;
        let default = (!strict).then_some(0);
        for (asked, expected) in [
            ("first.example", Some(0)),
            ("FIRST.example", Some(0)),
            ("www.sites.example", Some(2)),
            ("a.sites.example", Some(1)),
            ("a.b.sites.example", default),
            ("sites.example", default),
            ("unknown.example", default),
            // An address is no SNI.
            ("192.0.2.1", default),
        ] {
            let shown = shown(&client, &tls, asked).await;
            let expected = expected.map(|at: usize| issued[at].der.clone());
            assert_eq!(shown, expected, "{asked}, strict: {strict}");
        }
    }
    let (near, _far) = shake(&client, &server(&tls), "unknown.example").await;
    let alert = Error::AlertReceived(AlertDescription::AccessDenied);
    assert_eq!(*tls_error(&near.unwrap_err()), alert);
}

/// A client that verifies signatures of RSA keys only.
fn rsa_only(authority: &Authority) -> Arc<ClientConfig> {
    let mut provider = default_provider();
    let all = provider.signature_verification_algorithms;
    let rsa = all
        .mapping
        .iter()
        .filter(|(scheme, _)| format!("{scheme:?}").starts_with("RSA_"));
    provider.signature_verification_algorithms = WebPkiSupportedAlgorithms {
        all: all.all,
        mapping: rsa.copied().collect::<Vec<_>>().leak(),
    };
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn of_two_kinds_of_key_the_client_gets_one_that_it_can_verify() {
    let authority = Authority::new();
    let rsa = authority.issue_with(&["localhost"], &PKCS_RSA_SHA256, |_| {});
    let ecdsa = authority.issue_with(&["localhost"], &PKCS_ECDSA_P256_SHA256, |_| {});
    // Whatever their order in the configuration.
    for order in [
        [("rsa", &rsa), ("ecdsa", &ecdsa)],
        [("ecdsa", &ecdsa), ("rsa", &rsa)],
    ] {
        let tls = listener(
            order
                .map(|(name, issued)| authority.write(name, issued))
                .into(),
        );
        let store = CertificateStore::load(&tls).unwrap();
        assert!(
            store
                .statuses()
                .iter()
                .any(|status| status.key_kind == "RSA 2048")
        );
        for asked in ["localhost", "unknown.example"] {
            let modern = shown(&any(&authority), &tls, asked).await;
            assert_eq!(modern.as_ref(), Some(&ecdsa.der), "{asked}");
        }
        let chosen = |schemes: &[rustls::SignatureScheme]| {
            let pair = store.choose(Some("localhost"), schemes).unwrap();
            pair.key.algorithm()
        };
        let (pss, p256) = (
            rustls::SignatureScheme::RSA_PSS_SHA256,
            rustls::SignatureScheme::ECDSA_NISTP256_SHA256,
        );
        assert_eq!(chosen(&[pss]), SignatureAlgorithm::RSA);
        assert_eq!(chosen(&[pss, p256]), SignatureAlgorithm::ECDSA);
    }
}

#[tokio::test]
async fn a_client_that_knows_rsa_only_is_served() {
    let authority = Authority::of(&PKCS_RSA_SHA256);
    let rsa = authority.issue_with(&["localhost"], &PKCS_RSA_SHA256, |_| {});
    let ecdsa = authority.issue_with(&["localhost"], &PKCS_ECDSA_P256_SHA256, |_| {});
    let tls = listener(vec![
        authority.write("ecdsa", &ecdsa),
        authority.write("rsa", &rsa),
    ]);
    let found = shown(&rsa_only(&authority), &tls, "localhost").await;
    assert_eq!(found, Some(rsa.der));
}

#[test]
fn a_connection_may_ask_for_what_its_certificate_covers() {
    let authority = Authority::new();
    let files = [
        ("first", &["first.example", "192.0.2.1", "2001:db8::1"][..]),
        ("sites", &["*.sites.example", "sites.example"]),
    ];
    let files = files.map(|(name, names)| authority.write(name, &authority.issue(names)));
    let mut tls = listener(files.into());
    for (sni, host, covered, covered_if_strict) in [
        (Some("first.example"), "first.example", true, true),
        (Some("first.example"), "FIRST.example.", true, true),
        (Some("first.example"), "a.sites.example", false, false),
        (Some("a.sites.example"), "b.sites.example", true, true),
        (Some("a.sites.example"), "sites.example", true, true),
        (Some("a.sites.example"), "a.b.sites.example", false, false),
        (Some("unknown.example"), "unknown.example", true, true),
        (Some("unknown.example"), "first.example", true, false),
        (Some("first.example"), "192.0.2.1", true, true),
        (Some("first.example"), "[2001:db8::1]", true, true),
        (Some("first.example"), "192.0.2.2", false, false),
        // Who names nobody checked the certificate against what it dialled: an address, or nothing.
        (None, "192.0.2.1", true, true),
        (None, "unknown.example", true, true),
    ] {
        for (strict, expected) in [(false, covered), (true, covered_if_strict)] {
            tls.strict_sni = strict;
            let store = CertificateStore::load(&tls).unwrap();
            let found = store.covers(sni, host);
            assert_eq!(found, expected, "{sni:?} {host}, strict: {strict}");
        }
    }
}
