//! Promises about configurations: every mistake is found, at its place, with its suggestion, at once; the exit
//! code says so; what is right is taken, with the environment over it.
//!
//! In    `wrong-configs/*.toml`, each with the lines it must cause in a sibling `.expected`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Fewest files in the table.
const WRONG_CONFIGURATIONS_MIN: usize = 60;

fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong-configs")
}

fn edge(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edge"))
        .args(arguments)
        .current_dir(table())
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("edge starts")
}

fn mistakes(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const RIGHT: &str = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:8000\"\n[[route]]\nupstream = \"app\"\n\
                     [upstream.app]\nbackends = [\"127.0.0.1:9001\"]\n";

/// Checks a text as a file of its own.
fn checked(text: &str, environment: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("scratch");
    let path = dir.path().join("edge.toml");
    std::fs::write(&path, text).expect("is written");
    edge(&["check", "--config", &path.to_string_lossy()], environment)
}

#[test]
fn every_wrong_configuration_is_told_what_is_wrong_with_it() {
    let entries = std::fs::read_dir(table()).expect("the table is there");
    let mut files: Vec<String> = entries
        .map(|entry| {
            let name = entry.expect("is readable").file_name();
            name.to_string_lossy().into_owned()
        })
        .filter(|name| name.ends_with(".toml"))
        .collect();
    files.sort();
    assert!(files.len() >= WRONG_CONFIGURATIONS_MIN, "{}", files.len());
    let mut differences = Vec::new();
    for file in &files {
        let output = edge(&["check", "--config", file], &[]);
        let expected_file = table().join(file).with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected_file, mistakes(&output)).expect("is written");
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        let is_told = mistakes(&output) == expected && !expected.is_empty();
        if output.status.code() != Some(64) || !is_told {
            differences.push(format!(
                "{file} ({}):\n{}expected:\n{expected}",
                output.status,
                mistakes(&output)
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_examples_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for example in ["docs/examples/edge.toml", "systemd/edge-proxy.toml"] {
        let path = root.join(example);
        let output = edge(&["check", "--config", &path.to_string_lossy()], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", mistakes(&output));
        assert!(printed(&output).contains("is right"));
    }
    let output = edge(
        &[
            "check",
            "--listen",
            ":8000",
            "--to",
            "http://127.0.0.1:3000",
            "--json",
        ],
        &[],
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    assert_eq!(report["ok"], true);
}

#[test]
fn a_certificate_must_belong_to_its_key() {
    let dir = tempfile::tempdir().expect("scratch");
    let issue = |name: &str| {
        let issued =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("issues");
        std::fs::write(dir.path().join(format!("{name}.crt")), issued.cert.pem())
            .expect("is written");
        std::fs::write(
            dir.path().join(format!("{name}.key")),
            issued.signing_key.serialize_pem(),
        )
        .expect("is written");
    };
    issue("a");
    issue("b");
    let path = dir.path().join("edge.toml");
    let check = |key: &str| {
        let text = RIGHT.replace(
            "[[route]]",
            &format!(
                "[[listener.certificate]]\ncertificate = \"a.crt\"\nkey = \"{key}\"\n[[route]]"
            ),
        );
        std::fs::write(&path, text).expect("is written");
        edge(&["check", "--config", &path.to_string_lossy()], &[])
    };
    let right = check("a.key");
    assert_eq!(right.status.code(), Some(0), "{}", mistakes(&right));
    assert!(printed(&right).contains("1 certificates"));
    let wrong = check("b.key");
    assert_eq!(wrong.status.code(), Some(64));
    assert!(
        mistakes(&wrong).contains("edge.toml:5:1: listener[0].certificate[0].certificate: "),
        "{}",
        mistakes(&wrong)
    );
    // What has expired is said, and is no mistake: a host must be able to start.
    let mut parameters =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let expired = parameters.self_signed(&key).expect("issues");
    std::fs::write(dir.path().join("a.crt"), expired.pem()).expect("is written");
    std::fs::write(dir.path().join("a.key"), key.serialize_pem()).expect("is written");
    let output = check("a.key");
    assert_eq!(output.status.code(), Some(0), "{}", mistakes(&output));
    assert!(
        printed(&output).contains("warning: "),
        "{}",
        printed(&output)
    );
    // The environment names files for a TLS listener without any.
    let tls = RIGHT.replace("[[route]]", "tls = true\n[[route]]");
    let files = ["a.crt", "a.key"].map(|name| dir.path().join(name).display().to_string());
    let environment = [
        ("SSL_CERT_PATH", files[0].as_str()),
        ("SSL_KEY_PATH", files[1].as_str()),
    ];
    let output = checked(&tls, &environment);
    assert_eq!(output.status.code(), Some(0), "{}", mistakes(&output));
}

#[test]
fn the_environment_is_checked_like_the_file() {
    let right = [
        ("PORT", "8443"),
        ("ADMIN_LISTEN", "127.0.0.1:9999"),
        ("LOG_LEVEL", "debug"),
        ("RATE_LIMIT_ENABLED", "true"),
        ("RATE_LIMIT_REQUESTS_PER_MINUTE", "10"),
        ("RATE_LIMIT_BURST", "0"),
        ("RATE_LIMIT_BY_IP", "true"),
        ("SECURITY_HEADERS_ENABLED", "true"),
        ("HSTS_MAX_AGE", "0"),
        ("CSP_POLICY", "default-src 'self'"),
        ("X_FRAME_OPTIONS", "SAMEORIGIN"),
        ("DRAIN_MODE", "true"),
        ("OPERATOR_URL", "http://127.0.0.1:8080"),
    ];
    let output = checked(RIGHT, &right);
    assert_eq!(output.status.code(), Some(0), "{}", mistakes(&output));
    let without_routes = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:8000\"\n";
    let output = checked(
        without_routes,
        &[("LOAD_BALANCER_URL", "http://127.0.0.1:7000")],
    );
    assert_eq!(output.status.code(), Some(0), "{}", mistakes(&output));
    assert!(printed(&output).contains("1 routes, 1 upstreams, 1 backends"));
    for (name, value) in [
        ("PORT", "http"),
        ("LOG_LEVEL", "loud"),
        ("RATE_LIMIT_ENABLED", "perhaps"),
        ("RATE_LIMIT_REQUESTS_PER_MINUTE", "0"),
        ("HSTS_MAX_AGE", "-1"),
        ("X_FRAME_OPTIONS", "NEVER"),
        ("DRAIN_MODE", "2"),
        ("SSL_CERT_PATH", "alone.crt"),
        ("LOAD_BALANCER_URL", "https://x/y"),
    ] {
        let output = checked(RIGHT, &[(name, value)]);
        assert_eq!(output.status.code(), Some(64), "{name}={value}");
        assert!(mistakes(&output).contains(name), "{}", mistakes(&output));
    }
}

#[test]
fn explain_says_which_route_and_why() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/edge.toml");
    let root = root.to_string_lossy();
    let explain = |arguments: &[&str]| {
        let all = [&["explain"], arguments, &["--config", &root]].concat();
        let output = edge(&all, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", mistakes(&output));
        printed(&output)
    };
    let api = explain(&["https://api.example.com/api/x", "-H", "X-Canary: 1"]);
    assert!(api.contains("route      api"), "{api}");
    assert!(api.contains("/v1/x"), "{api}");
    let other = explain(&["https://api.example.com/api/x"]);
    assert!(other.contains("route-4"), "{other}");
    let json = explain(&["http://x/old", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("is JSON");
    assert!(value.is_object());
    let bad = edge(&["explain", "x", "--config", &root], &[]);
    assert_eq!(bad.status.code(), Some(64));
}
