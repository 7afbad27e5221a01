//! Wrong variables and wrong flags. What right ones do is told by the tests of `edge/src/config`.

use super::scratch::{RIGHT, Scratch, stderr, stdout};

/// Every variable, wrong, and what is said of it.
pub(crate) const WRONG: [(&str, &str); 18] = [
    ("PORT", "70000"),
    ("ADMIN_LISTEN", "8083"),
    ("LOG_LEVEL", "loud"),
    ("ALGORITHM", "round-robbin"),
    ("HEALTH_CHECK_INTERVAL", "soon"),
    ("BACKEND_TIMEOUT", "1h"),
    ("OPERATOR_URL", "operator"),
    ("LOAD_BALANCER_URL", "https://lb"),
    ("SSL_CERT_PATH", "nowhere.crt"),
    ("RATE_LIMIT_ENABLED", "maybe"),
    ("RATE_LIMIT_REQUESTS_PER_MINUTE", "0"),
    ("RATE_LIMIT_BURST", "-1"),
    ("RATE_LIMIT_BY_IP", "2"),
    ("SECURITY_HEADERS_ENABLED", "maybe"),
    ("HSTS_MAX_AGE", "1 year"),
    ("CSP_POLICY", "a\nb"),
    ("X_FRAME_OPTIONS", "deny"),
    ("DRAIN_MODE", "maybe"),
];

#[test]
fn every_wrong_variable_stands_in_the_same_list() {
    let mut environment = WRONG.to_vec();
    environment.push(("SSL_KEY_PATH", "server.key"));
    let lines = Scratch::new().mistakes_of(RIGHT, &environment);
    assert_eq!(lines.len(), WRONG.len(), "{lines:#?}");
    for (name, _) in WRONG {
        let start = format!("{name} (environment): ");
        assert!(
            lines.iter().any(|line| line.starts_with(&start)),
            "{name}: {lines:#?}"
        );
    }
    let options =
        "X_FRAME_OPTIONS (environment): unknown X-Frame-Options \"deny\"; did you mean \"DENY\"?";
    assert!(lines.iter().any(|line| line == options), "{lines:#?}");
}

#[test]
fn a_certificate_and_its_key_go_together() {
    let scratch = Scratch::new();
    for (name, file, told) in [
        (
            "SSL_CERT_PATH",
            "server.crt",
            "SSL_CERT_PATH (environment): needs SSL_KEY_PATH beside it",
        ),
        (
            "SSL_KEY_PATH",
            "server.key",
            "SSL_KEY_PATH (environment): needs SSL_CERT_PATH beside it",
        ),
    ] {
        assert_eq!(scratch.mistakes_of(RIGHT, &[(name, file)]), [told]);
    }
    let other = [
        ("SSL_CERT_PATH", "server.crt"),
        ("SSL_KEY_PATH", "other.key"),
    ];
    assert_eq!(
        scratch.mistakes_of(RIGHT, &other),
        [
            "SSL_KEY_PATH (environment): other.key: the key does not match the certificate in server.crt; put the key there that its request was made with"
        ]
    );
}

#[test]
fn a_port_of_several_listeners_is_a_mistake() {
    let text = format!("[[listener]]\nname = \"b\"\naddress = \"127.0.0.1:8001\"\n{RIGHT}");
    assert_eq!(
        Scratch::new().mistakes_of(&text, &[("PORT", "9000")]),
        [
            "PORT (environment): sets the port of the only listener, but the file has 2; remove it and write the addresses in the file"
        ]
    );
}

/// Flags, the environment, and what `check` counts.
type Case<'c> = (&'c [&'c str], &'c [(&'c str, &'c str)], &'c str);

#[test]
fn flags_are_a_configuration() {
    let scratch = Scratch::new();
    let tls = ["--cert", "server.crt", "--key", "server.key"];
    let cases: [Case<'_>; 4] = [
        (
            &["--listen", ":8000", "--to", "127.0.0.1:3000"],
            &[],
            "1 listeners, 0 certificates, 1 routes, 1 upstreams, 1 backends",
        ),
        (
            &[
                "--listen",
                "[::1]:8000",
                "--to",
                "http://a",
                "--to",
                "http://b:81/",
            ],
            &[],
            "0 certificates, 1 routes, 1 upstreams, 2 backends",
        ),
        (
            &["--listen", ":8000"],
            &[("LOAD_BALANCER_URL", "http://127.0.0.1:7000")],
            "1 upstreams, 1 backends",
        ),
        (
            // A flag goes before the variable, whose files are not even looked at.
            &[
                &["--listen", ":8000", "--to", "a:1", "--admin", "127.0.0.1:0"],
                &tls[..],
            ]
            .concat(),
            &[
                ("SSL_CERT_PATH", "nowhere.crt"),
                ("SSL_KEY_PATH", "nowhere.key"),
                ("ADMIN_LISTEN", "127.0.0.1:8083"),
            ],
            "1 listeners, 1 certificates",
        ),
    ];
    for (flags, environment, counts) in cases {
        let output = scratch.edge(&[&["check"], flags].concat(), environment);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{flags:?}: {}",
            stderr(&output)
        );
        let told = stdout(&output);
        assert!(told.contains(counts), "{flags:?}: {told}");
    }
}

#[test]
fn wrong_flags_are_wrong_configurations() {
    let scratch = Scratch::new();
    let cases: [(&str, &str); 13] = [
        ("run", "--config <FILE>"),
        ("run --to a:1", "--listen"),
        ("run --config a --listen :1", "cannot be used with"),
        (
            "run --listen 8000 --to a:1",
            "--listen (command line): \"8000\" is not an address",
        ),
        (
            "run --listen :8000",
            "--listen (command line): nowhere to send requests to; add --to 127.0.0.1:3000",
        ),
        ("run --listen :8000 --to x", "--to (command line): \"x\""),
        (
            "run --listen :8000 --to a:1 --to a:1",
            "--to (command line): this backend is listed twice: \"a:1\"",
        ),
        (
            "run --listen :8000 --to https://a --to http://b",
            "some backends are https and some are not",
        ),
        (
            "run --listen 127.0.0.1:8000 --to a:1 --admin 127.0.0.1:8000",
            "--admin (command line): 127.0.0.1:8000 is already taken by --listen",
        ),
        ("run --listen :1 --to a:1 --cert server.crt", "--key <FILE>"),
        (
            "run --listen :1 --to a:1 --cert nowhere.crt --key server.key",
            "--cert (command line): nowhere.crt: the certificate file cannot be read",
        ),
        (
            "run --listen :1 --to a:1 --cert server.crt --key other.key",
            "--key (command line): other.key: the key does not match",
        ),
        (
            "run --config /nowhere/edge.toml",
            "/nowhere/edge.toml cannot be read",
        ),
    ];
    for (line, expected) in cases {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = scratch.edge(&arguments, &[]);
        assert_eq!(output.status.code(), Some(64), "{line}");
        let told = stderr(&output);
        assert!(told.contains(expected), "{line}: {told}");
    }
}

#[test]
fn a_binary_says_who_it_is() {
    let scratch = Scratch::new();
    let line = stdout(&scratch.edge(&["--version"], &[]));
    assert!(line.starts_with("edge "), "{line}");
    let probed = scratch.edge(&["--version"], &[("ZEITWORK_PROBE", "1")]);
    let told: serde_json::Value = serde_json::from_slice(&probed.stdout).expect("is JSON");
    assert_eq!(told["service"], "edge-proxy");
    assert_eq!(scratch.edge(&["--help"], &[]).status.code(), Some(0));
}
