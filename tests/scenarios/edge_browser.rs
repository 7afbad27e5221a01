//! A browser through `edge`: a page over HTTP/2 that opens a WebSocket.

use harness::clients::{Talk, program};
use harness::edge::Site;

#[test]
fn chromium_loads_a_page_over_http2_and_talks_over_a_websocket() {
    let mut site = Site::start();
    let mut edge = site.edge("", "");
    let port = edge.port("https");
    let profile = tempfile::tempdir().expect("scratch");
    let mut chromium = program(&["chromium-headless-shell", "chromium"]);
    chromium
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--ignore-certificate-errors",
            // Without it the browser leaves once the page is loaded.
            "--remote-debugging-port=0",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("https://localhost:{port}/page"));
    let _browser = Talk::start(&mut chromium);
    let report = site.origin.report();
    assert_eq!(report["protocol"], "h2", "{report}");
    assert_eq!(report["echo"], "from the page", "{report}");
}
