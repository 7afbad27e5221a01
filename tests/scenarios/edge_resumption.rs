//! TLS sessions are resumed with tickets: within one process here, over a swap in `edge_swap`.

use std::path::Path;

use harness::clients::{Talk, program};
use harness::edge::Site;

/// `openssl s_client` to its end, after one request; what it said.
pub(crate) fn openssl(port: u16, authority: &Path, arguments: &[&str]) -> String {
    let mut client = program(&["openssl"]);
    client
        .args([
            "s_client",
            "-ign_eof",
            "-servername",
            "localhost",
            "-verify_return_error",
        ])
        .args(["-connect", &format!("127.0.0.1:{port}")])
        .arg("-CAfile")
        .arg(authority)
        .args(arguments);
    let mut talk = Talk::start(&mut client);
    talk.say("GET /bytes/10 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut said = Vec::new();
    while let Some(line) = talk.line() {
        said.push(line);
    }
    let said = said.join("\n");
    assert!(said.contains("HTTP/1.1 200"), "no answer:\n{said}");
    said
}

#[test]
fn openssl_resumes_its_session_in_tls_12_and_13() {
    let site = Site::start();
    let mut edge = site.edge("", "");
    let port = edge.port("https");
    for version in ["-tls1_2", "-tls1_3"] {
        let file = site.path().join(format!("session{version}"));
        let session = file.display().to_string();
        let first = openssl(
            port,
            &site.authority.file(),
            &[version, "-sess_out", &session],
        );
        assert!(first.contains("\nNew, TLSv1."), "{version}: {first}");
        let second = openssl(
            port,
            &site.authority.file(),
            &[version, "-sess_in", &session],
        );
        assert!(second.contains("\nReused, TLSv1."), "{version}: {second}");
        std::fs::remove_file(&file).expect("a session was written");
    }
}
