//! What the environment and flags make of a configuration, and what the sample files are.

use std::path::Path;

use dataplane::settings::Mistakes;
use edge::settings::{
    CertificateFiles, Limits, RateKey, RateLimit, RouteAction, SecurityHeaders, Settings as Config,
    Timeouts,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::{parse, show};
use crate::cli::Settings;

const LISTENER: &str = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:8000\"\n";
const REST: &str =
    "[[route]]\nupstream = \"app\"\n[upstream.app]\nbackends = [\"127.0.0.1:3000\"]\n";

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let lookup = |name: &str| {
        let found = environment.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    parse(&Settings::default(), Some(("edge.toml", text)), &lookup)
}

fn plain(more: &str, environment: &[(&str, &str)]) -> Config {
    let text = format!("{LISTENER}{REST}{more}");
    read(&text, environment).expect("is right")
}

/// A pair in `dir`; its files.
fn pair(dir: &Path) -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
    let (certificate, key) = (dir.join("a.crt"), dir.join("a.key"));
    std::fs::write(&certificate, cert.pem()).expect("is written");
    std::fs::write(&key, signing_key.serialize_pem()).expect("is written");
    let name = |path: &Path| path.display().to_string();
    (name(&certificate), name(&key))
}

#[test]
fn the_environment_overrides_what_the_file_says_of_the_process() {
    let more = "drain_mode = false\n[admin]\nlisten = \"127.0.0.1:1\"\n[log]\nlevel = \"warn\"\n";
    let text = format!("{more}{LISTENER}{REST}[discovery]\noperator_url = \"http://a:1\"\n");
    let environment = [
        ("PORT", "8001"),
        ("ADMIN_LISTEN", "127.0.0.1:8083"),
        ("LOG_LEVEL", "debug"),
        ("DRAIN_MODE", "yes"),
        ("OPERATOR_URL", "http://127.0.0.1:8080"),
        ("ALGORITHM", "maglev"),
        ("BACKEND_TIMEOUT", "5s"),
        ("HEALTH_CHECK_INTERVAL", "7s"),
    ];
    let config = read(&text, &environment).expect("is right");
    let shown = show(&config, config.admin, &|_| None);
    assert_eq!(shown["listener"][0]["address"], "127.0.0.1:8001");
    assert_eq!(shown["admin"]["listen"], "127.0.0.1:8083");
    assert_eq!(shown["log"]["level"], "debug");
    assert!(config.drain_mode);
    let url = &shown["discovery"]["operator_url"];
    let url = url.as_str().expect("is shown").trim_end_matches('/');
    assert_eq!(url, "http://127.0.0.1:8080");
    let app = &shown["upstream"]["app"];
    assert_eq!(app["algorithm"], "maglev");
    assert_eq!(app["connect_timeout"], "5s");
    assert_eq!(app["health_check"]["interval"], "7s");
    let empty = environment.map(|(name, _)| (name, ""));
    let untouched = read(&text, &empty).expect("is right");
    assert_eq!(untouched.admin, Some(([127, 0, 0, 1], 1).into()));
    assert_eq!(untouched.listeners[0].address.port(), 8000);
    assert!(!untouched.drain_mode);
}

/// The file's table, the environment, and what is in force.
type RateCase<'c> = (&'c str, &'c [(&'c str, &'c str)], Option<RateLimit>);

#[test]
fn a_rate_limit_comes_from_the_file_the_environment_or_both() {
    const WRITTEN: &str = "[rate_limit]\nrequests_per_minute = 500\nburst = 7\n";
    const OFF: &str = "[rate_limit]\nenabled = false\nrequests_per_minute = 500\nburst = 7\n";
    let limit = |requests_per_minute, burst, by| {
        Some(RateLimit {
            requests_per_minute,
            burst,
            by,
        })
    };
    let cases: [RateCase<'_>; 11] = [
        ("", &[], None),
        ("", &[("RATE_LIMIT_BURST", "5")], None),
        (
            "",
            &[("RATE_LIMIT_ENABLED", "true")],
            limit(100, 20, RateKey::Ip),
        ),
        (
            "",
            &[("RATE_LIMIT_REQUESTS_PER_MINUTE", "60")],
            limit(60, 20, RateKey::Ip),
        ),
        (WRITTEN, &[], limit(500, 7, RateKey::Ip)),
        (WRITTEN, &[("RATE_LIMIT_ENABLED", "0")], None),
        (
            WRITTEN,
            &[("RATE_LIMIT_BURST", "9"), ("RATE_LIMIT_BY_IP", "false")],
            limit(500, 9, RateKey::All),
        ),
        (OFF, &[], None),
        (OFF, &[("RATE_LIMIT_REQUESTS_PER_MINUTE", "60")], None),
        (
            OFF,
            &[("RATE_LIMIT_ENABLED", "1")],
            limit(500, 7, RateKey::Ip),
        ),
        (
            "[rate_limit]\nby = \"all\"\n",
            &[("RATE_LIMIT_REQUESTS_PER_MINUTE", "60")],
            limit(60, 20, RateKey::All),
        ),
    ];
    for (more, environment, expected) in cases {
        let config = plain(more, environment);
        assert_eq!(config.rate_limit, expected, "{more:?} {environment:?}");
    }
}

#[test]
fn security_headers_come_from_the_file_the_environment_or_both() {
    const OFF: &str = "[security_headers]\nenabled = false\nreferrer_policy = \"no-referrer\"\n";
    assert_eq!(plain("", &[]).security_headers, None);
    assert_eq!(
        plain("[security_headers]\n", &[("SECURITY_HEADERS_ENABLED", "0")]).security_headers,
        None
    );
    assert_eq!(plain(OFF, &[("HSTS_MAX_AGE", "5")]).security_headers, None);
    let on = plain(OFF, &[("SECURITY_HEADERS_ENABLED", "on")]).security_headers;
    let policy = on.expect("is on").referrer_policy;
    assert_eq!(policy.as_deref(), Some("no-referrer"));
    let environment = [
        ("HSTS_MAX_AGE", "3600"),
        ("CSP_POLICY", "default-src 'none'"),
        ("X_FRAME_OPTIONS", "SAMEORIGIN"),
    ];
    let expected = SecurityHeaders {
        hsts_max_age: Some(3600),
        content_security_policy: Some("default-src 'none'".to_owned()),
        frame_options: Some("SAMEORIGIN".to_owned()),
        ..SecurityHeaders::default()
    };
    assert_eq!(plain("", &environment).security_headers, Some(expected));
    let off = [
        ("SECURITY_HEADERS_ENABLED", "1"),
        ("HSTS_MAX_AGE", "0"),
        ("CSP_POLICY", "off"),
        ("X_FRAME_OPTIONS", "off"),
    ];
    let more = "[security_headers]\ncontent_security_policy = \"a\"\n";
    let headers = plain(more, &off).security_headers.expect("is on");
    assert_eq!(headers.hsts_max_age, None);
    assert_eq!(headers.content_security_policy, None);
    assert_eq!(headers.frame_options, None);
}

#[test]
fn the_environments_certificate_takes_the_place_of_the_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let (certificate, key) = pair(dir.path());
    let environment = [
        ("SSL_CERT_PATH", certificate.as_str()),
        ("SSL_KEY_PATH", key.as_str()),
    ];
    let pair = vec![CertificateFiles {
        certificate: certificate.clone().into(),
        key: key.clone().into(),
    }];
    // What is overridden need not be there.
    let written = "[[listener.certificate]]\ncertificate = \"no.crt\"\nkey = \"no.key\"\n";
    for tls in ["", "tls = true\n", written] {
        let text = format!("{LISTENER}{tls}{REST}");
        let config = read(&text, &environment).expect("is right");
        let tls = config.listeners[0].tls.as_ref().expect("speaks TLS");
        assert_eq!(tls.certificates, pair);
    }
    let other = "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:8443\"\n";
    let text = format!("{LISTENER}redirect_to_https = true\n{other}tls = true\n{REST}");
    let config = read(&text, &environment).expect("is right");
    assert!(config.listeners[0].tls.is_none());
    let tls = config.listeners[1].tls.as_ref().expect("speaks TLS");
    assert_eq!(tls.certificates, pair);
    for clear in [
        format!("{LISTENER}{other}{REST}"),
        format!("{LISTENER}tls = false\n{REST}"),
        format!("{LISTENER}redirect_to_https = true\n{REST}"),
    ] {
        let mistakes = read(&clear, &environment).expect_err("nobody speaks TLS");
        assert_eq!(
            mistakes.lines(),
            [
                "SSL_CERT_PATH (environment): no listener speaks TLS; write tls = true in the one that shall"
            ]
        );
    }
}

fn goes_to(config: &Config, route: usize) -> &str {
    match &config.routes[route].action {
        RouteAction::Forward(shares) => &shares[0].upstream,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_load_balancers_url_takes_everything_that_no_route_takes_elsewhere() {
    let environment = [("LOAD_BALANCER_URL", "http://127.0.0.1:7000/")];
    let backend = |config: &Config| {
        let upstream = config.upstreams.iter().find(|u| u.name == "load-balancer");
        let backends = upstream.map(|upstream| upstream.backends.clone());
        let labels = backends.unwrap_or_default().into_iter().map(|b| b.label);
        labels.collect::<Vec<_>>()
    };
    let alone = read(LISTENER, &environment).expect("is right");
    assert_eq!(goes_to(&alone, 0), "load-balancer");
    assert_eq!(backend(&alone), ["127.0.0.1:7000"]);
    let replaced = plain("", &environment);
    assert_eq!(replaced.routes.len(), 1);
    assert_eq!(goes_to(&replaced, 0), "load-balancer");
    let beside = REST.replace(
        "[[route]]",
        "[[route]]\nname = \"load-balancer\"\npath = \"/a\"",
    );
    let beside = read(&format!("{LISTENER}{beside}"), &environment).expect("is right");
    assert_eq!(goes_to(&beside, 0), "app");
    assert_eq!(goes_to(&beside, 1), "load-balancer");
    assert_eq!(beside.routes[1].name, "load-balancer-2");
    let written =
        "[[route]]\nupstream = \"load-balancer\"\n[upstream.load-balancer]\nretries = 7\n";
    let written = read(&format!("{LISTENER}{written}"), &environment).expect("is right");
    assert_eq!(written.upstreams.len(), 1);
    assert_eq!(written.upstreams[0].balance.retries, 7);
    assert_eq!(backend(&written), ["127.0.0.1:7000"]);
    let answers = format!("{LISTENER}[[route]]\nrespond = {{ status = 404 }}\n");
    let mistakes = read(&answers, &environment).expect_err("has no effect");
    assert_eq!(
        mistakes.lines(),
        [
            "LOAD_BALANCER_URL (environment): has no effect: the route \"route-1\" answers every request itself; remove one of them"
        ]
    );
}

#[test]
fn a_load_balancers_url_is_a_host_and_a_port() {
    for (url, expected) in [
        ("127.0.0.1:7000", "127.0.0.1:7000"),
        ("http://lb.internal", "lb.internal:80"),
        ("http://[::1]", "[::1]:80"),
        ("http://[::1]:7000/", "[::1]:7000"),
    ] {
        let config = read(LISTENER, &[("LOAD_BALANCER_URL", url)]).expect(url);
        assert_eq!(config.upstreams[0].backends[0].label, expected);
    }
    for url in ["https://lb", "http://lb/x", "http://", "a b", "lb:", "lb:x"] {
        let refused = read(LISTENER, &[("LOAD_BALANCER_URL", url)]);
        let text = refused.expect_err(url).to_string();
        let start = format!("LOAD_BALANCER_URL (environment): {url:?} is not a backend");
        assert!(text.contains(&start), "{text}");
    }
    let secret = read(LISTENER, &[("LOAD_BALANCER_URL", "http://me:word@lb")]);
    let text = secret.expect_err("is refused").to_string();
    assert!(!text.contains("word"), "{text}");
}

#[test]
fn relative_paths_begin_beside_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    pair(dir.path());
    std::fs::write(dir.path().join("404.html"), "gone").expect("is written");
    let tls = "[[listener.certificate]]\ncertificate = \"a.crt\"\nkey = \"a.key\"\n";
    let more = "[error_pages]\n404 = \"404.html\"\n[access_log]\ntarget = \"access.log\"\n\
                [discovery]\noperator_url = \"http://a:1\"\ncache = \"seen.json\"\n";
    let text = format!("{LISTENER}{tls}{REST}{more}");
    let file = dir.path().join("edge.toml").display().to_string();
    let config = parse(&Settings::default(), Some((&file, &text)), &|_| None).expect("is right");
    assert_eq!(
        config.error_pages.html.get(&404).map(String::as_str),
        Some("gone")
    );
    let cache = config.discovery.and_then(|discovery| discovery.cache);
    assert_eq!(cache, Some(dir.path().join("seen.json")));
}

#[test]
fn no_secret_is_shown() {
    let text = format!(
        "{LISTENER}[[route]]\nupstream = \"app\"\nheaders = {{ x-key = \"s3cret\" }}\n\
         request_headers = {{ set = {{ authorization = \"s3cret\" }} }}\n\
         [upstream.app]\nbackends = [\"127.0.0.1:3000\"]\n"
    );
    let config = read(&text, &[]).expect("is right");
    let shown = show(&config, None, &|_| None).to_string();
    assert!(
        shown.contains("x-key") && shown.contains("authorization"),
        "{shown}"
    );
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn the_example_is_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/edge.toml");
    let text = std::fs::read_to_string(path).expect("is there");
    let config = read(&text, &[]).expect("is right");
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.rate_limit, None);
    let shown = show(&config, None, &|_| None);
    let bare = "[[listener]]\nname = \"http\"\naddress = \"0.0.0.0:8000\"\n\
                [admin]\nlisten = \"127.0.0.1:8083\"\n\
                [[route]]\nname = \"everything\"\nupstream = \"app\"\n\
                [upstream.app]\nbackends = [\"127.0.0.1:3000\"]\n";
    let bare = read(bare, &[]).expect("is right");
    assert_eq!(shown, show(&bare, None, &|_| None));
}
