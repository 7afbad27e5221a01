//! Pairs of files: which are taken, and what is said about the others.

use std::time::{Duration, SystemTime};

use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Authority, listener};
use crate::tls::{CertificateStore, check_pair};

#[test]
fn a_good_pair_is_described() {
    let authority = Authority::new();
    for (kind, described) in [
        (&PKCS_ECDSA_P256_SHA256, "ECDSA 256"),
        (&PKCS_ECDSA_P384_SHA384, "ECDSA 384"),
        (&PKCS_RSA_SHA256, "RSA 2048"),
        (&PKCS_ED25519, "Ed25519"),
    ] {
        let names = ["Example.org", "*.example.org", "192.0.2.1", "2001:db8::1"];
        let mut issued = authority.issue_with(&names, kind, |params| {
            params.not_after = date_time_ymd(2100, 1, 1);
        });
        issued.certificate += &authority.issuer.pem();
        let facts = check_pair(&authority.write("pair", &issued)).unwrap();
        assert_eq!(
            facts.names,
            ["example.org", "*.example.org", "192.0.2.1", "2001:db8::1"]
        );
        assert_eq!((facts.chain, facts.key_kind.as_str()), (2, described));
        let seconds = Duration::from_secs(4_102_444_800);
        assert_eq!(facts.not_after, SystemTime::UNIX_EPOCH + seconds);
        assert_eq!(facts.fingerprint.len(), 64);
        assert_eq!(facts.warnings, [""; 0]);
    }
}

#[test]
fn what_clients_will_refuse_is_a_warning_and_not_a_mistake() {
    let authority = Authority::new();
    let warned = |names: &[&str], from, to| {
        let issued = authority.issue_with(names, &PKCS_ECDSA_P256_SHA256, |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        });
        check_pair(&authority.write("pair", &issued))
            .unwrap()
            .warnings
    };
    let [expired] = &warned(&["a.example"], 2000, 2001)[..] else {
        panic!()
    };
    assert!(expired.contains("expired since 2001-01-01"), "{expired}");
    let [early] = &warned(&["a.example"], 2090, 2100)[..] else {
        panic!()
    };
    assert!(early.contains("not valid before 2090-01-01"), "{early}");
    let [nameless] = &warned(&[], 2000, 2100)[..] else {
        panic!()
    };
    assert!(nameless.contains("subjectAltName"), "{nameless}");
}

#[test]
fn a_mistake_names_the_file_and_the_next_step() {
    let authority = Authority::new();
    let (one, other) = (
        authority.issue(&["a.example"]),
        authority.issue(&["a.example"]),
    );
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let torn = &one.certificate[..one.certificate.len() / 2];
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (certificate, key, expected) in [
        (
            one.certificate.as_str(),
            other.key.as_str(),
            "pair.key: the key does not match the certificate",
        ),
        (
            &one.certificate,
            encrypted,
            "pair.key: the key is encrypted with a passphrase",
        ),
        (&one.certificate, "", "pair.key: no private key in it"),
        (
            &one.certificate,
            &one.certificate,
            "pair.key: no private key in it",
        ),
        ("", &one.key, "pair.pem: no certificate in it"),
        (&one.key, &one.key, "pair.pem: no certificate in it"),
        (torn, &one.key, "pair.pem: not valid PEM"),
        (
            no_certificate,
            &one.key,
            "pair.pem: the first certificate cannot be read",
        ),
    ] {
        let files = authority.files("pair");
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        let why = check_pair(&files).unwrap_err();
        assert!(why.contains(expected), "{why}\nexpected: {expected}");
    }
    let why = check_pair(&authority.files("absent")).unwrap_err();
    assert!(
        why.contains("absent.pem: the certificate file cannot be read"),
        "{why}"
    );
    let large = authority.files("large");
    std::fs::write(&large.certificate, vec![b'\n'; 1024 * 1024 + 1]).unwrap();
    assert!(
        check_pair(&large)
            .unwrap_err()
            .contains("larger than 1 MiB")
    );
}

#[test]
fn a_listener_names_all_of_its_mistakes() {
    let authority = Authority::new();
    let good = authority.write("good", &authority.issue(&["a.example"]));
    let tls = listener(vec![authority.files("one"), good, authority.files("two")]);
    let why = CertificateStore::load(&tls).unwrap_err();
    let lines: Vec<&str> = why.lines().collect();
    assert_eq!(lines.len(), 2, "{why}");
    assert!(
        lines[0].contains("one.pem") && lines[1].contains("two.pem"),
        "{why}"
    );
    assert!(CertificateStore::load(&listener(Vec::new())).is_err());
}

/// What lies in the octet string of a PKCS #8 key (RFC 5958, section 2): the same key in its older form.
fn older_form(pem: &str) -> Vec<u8> {
    let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap() else {
        panic!("not PKCS #8");
    };
    let (_tag, inside, _rest) = element(der.secret_pkcs8_der());
    let (_tag, _version, rest) = element(inside);
    let (_tag, _algorithm, rest) = element(rest);
    let (tag, key, _rest) = element(rest);
    assert_eq!(tag, 4);
    key.to_vec()
}

/// Tag, content and rest of the first DER element.
fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let (length, header) = match der[1] {
        short @ 0..0x80 => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            let length = der[2..2 + count]
                .iter()
                .fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
            (length, 2 + count)
        }
    };
    (
        der[0],
        &der[header..header + length],
        &der[header + length..],
    )
}

fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for three in der.chunks(3) {
        let bits = three
            .iter()
            .fold(0, |bits: usize, byte| (bits << 8) | usize::from(*byte))
            << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) & 63];
            text.push(if at > three.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text + &format!("\n-----END {label}-----\n")
}

#[test]
fn keys_in_older_forms_are_taken() {
    let authority = Authority::new();
    for (kind, label) in [
        (&PKCS_RSA_SHA256, "RSA PRIVATE KEY"),
        (&PKCS_ECDSA_P256_SHA256, "EC PRIVATE KEY"),
    ] {
        let mut issued = authority.issue_with(&["a.example"], kind, |_| {});
        issued.key = pem(label, &older_form(&issued.key));
        check_pair(&authority.write("pair", &issued)).unwrap();
    }
}
