//! `edge` and the clients that people have: curl, Python's h2, h2load, websockets.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::clients::{Talk, program, python, succeed};
use harness::edge::Site;

/// What clients send and fetch at most.
const LARGE: usize = 20_000_000;

fn digest(path: &Path) -> String {
    let said = succeed(program(&["sha256sum"]).arg(path));
    said.split_whitespace().next().expect("a digest").to_owned()
}

/// One way to reach `edge` with curl.
struct Curl<'a> {
    site: &'a Site,
    base: String,
    version: &'a str,
}

impl Curl<'_> {
    fn command(&self, path: &str, arguments: &[&str]) -> Command {
        let mut curl = program(&["curl"]);
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "60"])
            .arg(self.version)
            .arg("--cacert")
            .arg(self.site.authority.file())
            .args(arguments)
            .arg(format!("{}{path}", self.base));
        curl
    }

    fn says(&self, path: &str, arguments: &[&str]) -> String {
        succeed(&mut self.command(path, arguments))
    }

    fn json(&self, path: &str, arguments: &[&str]) -> serde_json::Value {
        let said = self.says(path, arguments);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }

    fn small_exchanges(&self, version: &str) {
        let used = self.says(
            "/",
            &[
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_version} %{response_code}",
            ],
        );
        assert_eq!(used.trim(), format!("{version} 200"));
        let seen = self.json("/some/path?q=1", &["--header", "X-Mine: yes"]);
        assert_eq!(seen["path"], "/some/path?q=1");
        assert_eq!(seen["headers"]["x-mine"], "yes");
        let expected = if self.base.starts_with("https") {
            "https"
        } else {
            "http"
        };
        assert_eq!(seen["headers"]["x-forwarded-proto"], expected);
        assert_eq!(seen["headers"]["x-forwarded-for"], "127.0.0.1");
        let head = self.says("/bytes/12345", &["--head"]).to_lowercase();
        assert!(head.contains("content-length: 12345"), "{head}");
        let post = self.json("/upload", &["--data", "four"]);
        assert_eq!(post["length"], 4);
        let continued = self.json(
            "/upload",
            &["--header", "Expect: 100-continue", "--data", "four"],
        );
        assert_eq!(continued["length"], 4);
        let deleted = self.json("/thing", &["--request", "DELETE"]);
        assert_eq!(deleted["method"], "DELETE");
        let empty = self.says("/bytes/0", &["--write-out", "%{size_download}"]);
        assert_eq!(empty.trim(), "0");
        if self.version == "--http2-prior-knowledge" {
            // Debian's curl 7.88 cannot use such a connection twice, whoever serves (its error 16).
            return;
        }
        // Three requests on one connection.
        let address = format!("{}/bytes/10", self.base);
        let three = self.says(
            "/bytes/10",
            &[
                &address,
                &address,
                "--output",
                "/dev/null",
                "--output",
                "/dev/null",
                "--output",
                "/dev/null",
                "--write-out",
                "%{num_connects},",
            ],
        );
        assert_eq!(three.trim(), "1,0,0,");
    }

    fn large_exchanges(&self, sent: &Path) {
        let wanted = digest(sent);
        let file = format!("@{}", sent.display());
        let upload = self.json("/upload", &["--data-binary", &file]);
        assert_eq!(upload["length"], LARGE);
        assert_eq!(upload["sha256"], wanted);
        let chunked = self.json(
            "/upload",
            &[
                "--data-binary",
                &file,
                "--header",
                "Transfer-Encoding: chunked",
            ],
        );
        assert_eq!(chunked["length"], LARGE);
        assert_eq!(chunked["sha256"], wanted);
        let continued = self.json(
            "/upload",
            &["--data-binary", &file, "--header", "Expect: 100-continue"],
        );
        assert_eq!(continued["sha256"], wanted);
        let got = self.site.path().join("got");
        let name = got.display().to_string();
        let path = format!("/bytes/{LARGE}");
        let head = self
            .says(&path, &["--output", &name, "--dump-header", "-"])
            .to_lowercase();
        let promised = head
            .split("x-sha256: ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        assert_eq!(promised, Some(digest(&got).as_str()), "{head}");
    }
}

#[test]
fn curl_gets_posts_and_moves_20_mb_both_ways() {
    let site = Site::start();
    let mut edge = site.edge("", "");
    let (https, http) = (edge.port("https"), edge.port("http"));
    let sent = site.path().join("sent");
    let block: Vec<u8> = (0..=249).collect();
    std::fs::write(&sent, block.repeat(LARGE / 250)).expect("written");
    let ways = [
        (format!("https://localhost:{https}"), "--http1.1", "1.1"),
        (format!("https://localhost:{https}"), "--http2", "2"),
        (format!("http://localhost:{http}"), "--http1.1", "1.1"),
        (
            format!("http://localhost:{http}"),
            "--http2-prior-knowledge",
            "2",
        ),
    ];
    for (base, version, used) in ways {
        let curl = Curl {
            site: &site,
            base,
            version,
        };
        curl.small_exchanges(used);
        curl.large_exchanges(&sent);
    }
    // An upgrade to h2c is neither done nor passed on.
    let curl = Curl {
        site: &site,
        base: format!("http://localhost:{http}"),
        version: "--http2",
    };
    let seen = curl.json("/", &[]);
    assert_eq!(
        seen["headers"]["upgrade"],
        serde_json::Value::Null,
        "{seen}"
    );
}

fn http2(site: &Site, case: &str, port: u16, tls: bool) -> Command {
    let mut client = python("http2_client.py");
    client.args([case, &port.to_string()]);
    if tls {
        client.arg(site.authority.file());
    }
    client
}

#[test]
fn an_http2_client_sees_streams_windows_trailers_and_resets_kept_apart() {
    let site = Site::start();
    let mut edge = site.edge("", "");
    let ports = [(edge.port("https"), true), (edge.port("http"), false)];
    let mut failures = Vec::new();
    for (port, tls) in ports {
        for case in [
            "streams", "upload", "trailers", "reset", "late", "shut", "hints", "early",
        ] {
            let (succeeded, said) = harness::clients::run(&mut http2(&site, case, port, tls));
            if !succeeded {
                failures.push(format!("{case} (TLS: {tls}):\n{said}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_window_that_is_never_opened_ends_its_stream_only() {
    let site = Site::start();
    let mut edge = site.edge("[timeouts]\nbody_idle = \"1s\"", "");
    let port = edge.port("https");
    let seen = succeed(&mut http2(&site, "shut_for_good", port, true));
    assert_eq!(seen.trim(), "CANCEL");
}

#[test]
fn a_window_that_is_opened_byte_by_byte_ends_with_the_requests_time() {
    let site = Site::start();
    let waits = ["body_idle", "upstream_first_byte", "upstream_idle"]
        .map(|wait| format!("{wait} = \"2s\"\n"))
        .concat();
    let mut edge = site.edge(&format!("[timeouts]\n{waits}total = \"3s\""), "");
    let port = edge.port("https");
    let seen = succeed(&mut http2(&site, "byte_by_byte", port, true));
    assert_eq!(seen.trim(), "ended");
}

#[test]
fn a_drain_says_goaway_in_two_steps_and_ends_what_is_under_way() {
    for tls in [true, false] {
        let site = Site::start();
        let mut edge = site.edge("[drain]\ntimeout = \"20s\"", "");
        let port = edge.port(if tls { "https" } else { "http" });
        let mut client = Talk::start(&mut http2(&site, "goaway", port, tls));
        client.line_with("ready");
        edge.drain();
        let seen = client.finish();
        assert!(seen.starts_with("GOAWAY"), "{seen}");
        assert!(edge.ended(Duration::from_secs(25)).success());
    }
}

#[test]
fn a_process_that_ends_leaves_every_request_in_its_access_log() {
    let site = Site::start();
    let log = site.path().join("access.log");
    let top = format!("[access_log]\ntarget = \"{}\"", log.display());
    let mut edge = site.edge(&top, "");
    for scheme in ["https", "http"] {
        let url = format!("{scheme}://localhost:{}/bytes/100", edge.port(scheme));
        succeed(program(&["h2load"]).args(["-n", "500", "-c", "4", "-m", "4", &url]));
    }
    edge.drain();
    assert!(edge.ended(Duration::from_secs(40)).success());
    let text = std::fs::read_to_string(&log).expect("a log");
    assert_eq!(text.lines().count(), 1000);
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("one object a line");
        assert_eq!(
            (&record["status"], &record["protocol"]),
            (&200.into(), &"HTTP/2".into())
        );
    }
}

#[test]
fn h2load_has_every_request_answered() {
    let site = Site::start();
    let mut edge = site.edge("", "");
    let addresses = [
        format!("https://localhost:{}/bytes/1000", edge.port("https")),
        format!("http://localhost:{}/bytes/1000", edge.port("http")),
    ];
    for address in addresses {
        let said =
            succeed(program(&["h2load"]).args(["-n", "2000", "-c", "8", "-m", "8", &address]));
        assert!(
            said.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout")
                && said.contains("status codes: 2000 2xx"),
            "{address}: {said}"
        );
    }
}

#[test]
fn websockets_pass_messages_both_ways_close_in_order_and_can_be_refused() {
    let site = Site::start();
    let mut edge = site.edge("", "");
    let port = edge.port("https").to_string();
    for case in ["echo", "refused"] {
        succeed(
            python("websocket_client.py")
                .args([case, &port])
                .arg(site.authority.file()),
        );
    }
}

#[test]
fn one_command_serves_without_a_configuration() {
    let site = Site::start();
    let backend = format!("127.0.0.1:{}", site.origin.http);
    let mut edge = harness::edge::Edge::run(&["--listen", "127.0.0.1:0", "--to", &backend]);
    let line = edge.any_address();
    let (status, body) = harness::edge::get(line, "/hello");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("/hello"), "{body}");
    edge.drain();
    assert!(edge.ended(Duration::from_secs(20)).success());
}
