//! The framing matrix (RFC 9110, RFC 9112) over raw sockets: what any known proxy takes differently is refused,
//! and no byte of a refused request reaches a backend.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use harness::authority::Authority;
use harness::edge::{Edge, listeners};
use harness::raw::Raw;
use harness::recorder::{Recorder, contains};
use rustls::ClientConfig;

/// An answer comes at once; a busy machine gets a thousand times as long.
const PATIENCE: Duration = Duration::from_secs(8);

/// A request and the answers that are right; every one closes the connection.
struct Row {
    name: &'static str,
    request: Vec<u8>,
    statuses: &'static [u16],
}

fn row(name: &'static str, statuses: &'static [u16], request: &str) -> Row {
    Row {
        name,
        request: request.as_bytes().to_vec(),
        statuses,
    }
}

/// A POST with these framing lines; the body is a request that nobody may ever see.
fn framed(name: &'static str, statuses: &'static [u16], lines: &str) -> Row {
    row(
        name,
        statuses,
        &format!("POST /refused HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n0\r\n\r\n"),
    )
}

/// A GET with one more line.
fn headed(name: &'static str, statuses: &'static [u16], line: &str) -> Row {
    row(
        name,
        statuses,
        &format!("GET /refused HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n"),
    )
}

/// Framing lines of a POST.
const FRAMED: &[(&str, &[u16], &str)] = &[
    (
        "CL and TE",
        &[400],
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "TE and CL",
        &[400],
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ),
    (
        "TE chunked twice",
        &[400, 501],
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "TE chunked, chunked",
        &[400, 501],
        "Transfer-Encoding: chunked, chunked\r\n",
    ),
    (
        "TE ,chunked",
        &[400, 501],
        "Transfer-Encoding: ,chunked\r\n",
    ),
    (
        "TE xchunked",
        &[400, 501],
        "Transfer-Encoding: xchunked\r\n",
    ),
    (
        "TE identity",
        &[400, 501],
        "Transfer-Encoding: identity\r\n",
    ),
    (
        "TE gzip, chunked",
        &[400, 501],
        "Transfer-Encoding: gzip, chunked\r\n",
    ),
    (
        "CL twice, equal",
        &[400],
        "Content-Length: 5\r\nContent-Length: 5\r\n",
    ),
    (
        "CL twice, different",
        &[400],
        "Content-Length: 5\r\nContent-Length: 6\r\n",
    ),
    ("CL 5, 5", &[400], "Content-Length: 5, 5\r\n"),
    ("CL signed", &[400], "Content-Length: +5\r\n"),
    ("CL negative", &[400], "Content-Length: -5\r\n"),
    ("CL empty", &[400], "Content-Length: \r\n"),
    ("CL hexadecimal", &[400], "Content-Length: 0x5\r\n"),
    (
        "CL beyond 64 bits",
        &[400, 413],
        "Content-Length: 99999999999999999999999\r\n",
    ),
];

/// One line more in a GET.
const HEADED: &[(&str, &[u16], &str)] = &[
    ("obs-fold", &[400], "X-A: one\r\n two"),
    ("space before the colon", &[400], "X-A : one"),
    ("space before CL's colon", &[400], "Content-Length : 5"),
    ("CR in a value", &[400], "X-A: one\rtwo"),
    ("NUL in a value", &[400], "X-A: one\0two"),
    ("empty name", &[400], ": one"),
    ("line without a colon", &[400], "X-A"),
    ("unknown Expect", &[417], "Expect: 200-ok"),
    ("two Hosts", &[400], "Host: localhost"),
    ("bare LF at a line's end", &[400], "X-A: one\nX-B: two"),
];

/// Whole heads.
const WHOLE: &[(&str, &[u16], &str)] = &[
    (
        "bare LF everywhere",
        &[400],
        "GET /refused HTTP/1.1\nHost: localhost\n\n",
    ),
    ("no Host", &[400], "GET /refused HTTP/1.1\r\n\r\n"),
    (
        "userinfo in Host",
        &[400],
        "GET /refused HTTP/1.1\r\nHost: me@localhost\r\n\r\n",
    ),
    (
        "absolute target and another Host",
        &[400],
        "GET http://other/refused HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ),
    (
        "TE on HTTP/1.0",
        &[400],
        "POST /refused HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "HTTP/1.9",
        &[400, 505],
        "GET /refused HTTP/1.9\r\nHost: localhost\r\n\r\n",
    ),
    (
        "HTTP/3.0",
        &[400, 505],
        "GET /refused HTTP/3.0\r\nHost: localhost\r\n\r\n",
    ),
    (
        "# in the target",
        &[400],
        "GET /refused#x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ),
    (
        "backslash in the path",
        &[400],
        "GET /refused\\x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ),
    (
        "two spaces in the request line",
        &[400],
        "GET  /refused HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ),
];

/// What is refused by its head: nothing of it reaches the backend.
fn refused_heads() -> Vec<Row> {
    let with_line = |(name, statuses, line): &(&'static str, &'static [u16], &str)| {
        headed(name, statuses, line)
    };
    let mut rows: Vec<Row> = HEADED.iter().map(with_line).collect();
    rows.extend(
        FRAMED
            .iter()
            .map(|(name, statuses, lines)| framed(name, statuses, lines)),
    );
    rows.extend(
        WHOLE
            .iter()
            .map(|(name, statuses, request)| row(name, statuses, request)),
    );
    let many = "X-A: one\r\n".repeat(99) + "X-A: one";
    rows.push(headed("101 header lines", &[431], &many));
    rows
}

/// What is refused within its body: the head may be passed on, the bad chunk and all after it may not.
fn refused_chunks() -> Vec<Row> {
    let bodies = [
        ("bare LF after a chunk size", "6\npoison\r\n0\r\n\r\n"),
        ("0x chunk size", "0x6\r\npoison\r\n0\r\n\r\n"),
        ("empty chunk size", "\r\npoison\r\n0\r\n\r\n"),
        ("signed chunk size", "+6\r\npoison\r\n0\r\n\r\n"),
        ("LF in a chunk extension", "6;a\nb\r\npoison\r\n0\r\n\r\n"),
        ("bad chunk end", "1\r\nxpoison\r\n0\r\n\r\n"),
        ("bare LF as chunk end", "1\r\nx\n6\r\npoison\r\n0\r\n\r\n"),
        ("chunk size beyond 64 bits", "fffffffffffffffff\r\npoison"),
        ("bare LF in trailers", "0\r\nX-A: poison\n\r\n"),
        (
            "space before a trailer's colon",
            "0\r\nX-A : poison\r\n\r\n",
        ),
    ];
    bodies
        .into_iter()
        .map(|(name, body)| {
            let head =
                "POST /chunks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
            row(name, &[400], &format!("{head}{body}"))
        })
        .collect()
}

/// What is wrong with the answer to a row; nothing else is answered on its connection.
fn judge(address: SocketAddr, tls: Option<&Arc<ClientConfig>>, row: &Row) -> Result<(), String> {
    let mut raw = Raw::open(address, tls);
    let mut request = row.request.clone();
    // Whoever takes the refused request's end differently answers this one too.
    request.extend(b"GET /refused-second HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw.send(&request);
    let seen = raw.read_to_end(PATIENCE);
    let text = String::from_utf8_lossy(&seen.bytes).into_owned();
    let status = text.get(9..12).and_then(|digits| digits.parse().ok());
    let way = if tls.is_some() { "TLS" } else { "clear" };
    let wrong = |what: &str| Err(format!("{} ({way}): {what}; answer {text:?}", row.name));
    if !status.is_some_and(|status| row.statuses.contains(&status)) {
        return wrong(&format!("not {:?}", row.statuses));
    }
    if text.matches("HTTP/1.1 ").count() != 1 {
        return wrong("more than one answer");
    }
    if seen.closed_after.is_none() {
        return wrong("the connection stays open");
    }
    Ok(())
}

/// A request that is right, on a connection of its own.
fn taken(address: SocketAddr, tls: Option<&Arc<ClientConfig>>, request: &str) {
    let mut raw = Raw::open(address, tls);
    raw.send(request.as_bytes());
    let seen = raw.read_until(PATIENCE, |bytes| bytes.ends_with(b"\r\n\r\nok"));
    let text = String::from_utf8_lossy(&seen.bytes).into_owned();
    assert!(text.starts_with("HTTP/1.1 200"), "{request:?}: {text:?}");
}

#[test]
fn what_is_framed_in_doubt_is_refused_and_no_byte_of_it_reaches_a_backend() {
    let dir = tempfile::tempdir().expect("scratch");
    let authority = Authority::new(dir.path());
    authority.issue("server", 1);
    let recorder = Recorder::start();
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n{}[[route]]\nupstream = \"app\"\n[upstream.app]\nbackends = [\"{}\"]\n",
        listeners(dir.path(), 0, 0),
        recorder.address()
    );
    let file = dir.path().join("edge.toml");
    std::fs::write(&file, config).expect("written");
    let mut edge = Edge::configured(&file);
    let tls = authority.client(&["http/1.1"]);
    let ways = [
        (edge.address("http"), None),
        (edge.address("https"), Some(&tls)),
    ];
    let mut failures = Vec::new();
    for (address, tls) in ways {
        taken(
            address,
            tls,
            "GET /good HTTP/1.1\r\nHost: localhost\r\n\r\n",
        );
        taken(
            address,
            tls,
            "POST /good-chunks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\ngood\r\n0\r\n\r\n",
        );
        taken(
            address,
            tls,
            "GET /h2c HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        );
        for row in refused_heads().iter().chain(&refused_chunks()) {
            failures.extend(judge(address, tls, row).err());
        }
        taken(
            address,
            tls,
            "GET /good-after HTTP/1.1\r\nHost: localhost\r\n\r\n",
        );
    }
    assert!(
        failures.is_empty(),
        "{} rows:\n{}",
        failures.len(),
        failures.join("\n")
    );
    what_reached_the_backend(&recorder);
}

fn what_reached_the_backend(recorder: &Recorder) {
    assert!(
        !recorder.with("/good-chunks").is_empty(),
        "the recorder records"
    );
    for one in recorder.recordings() {
        let text = String::from_utf8_lossy(&one.bytes);
        assert!(
            !contains(&one.bytes, "refused"),
            "a refused request: {text:?}"
        );
        assert!(!contains(&one.bytes, "poison"), "a bad chunk: {text:?}");
        let lower = text.to_ascii_lowercase();
        assert!(
            !lower.contains("h2c\r\n") && !lower.contains("http2-settings"),
            "h2c: {text:?}"
        );
    }
    // A connection that got half a request is closed, and nothing follows on it.
    let deadline = std::time::Instant::now() + PATIENCE;
    while recorder.with("/chunks").iter().any(|one| !one.closed) {
        assert!(
            std::time::Instant::now() < deadline,
            "half a request's connection stays open"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    for one in recorder.with("/chunks") {
        let text = String::from_utf8_lossy(&one.bytes).into_owned();
        let after = text.rsplit("/chunks HTTP/1.1").next().unwrap_or_default();
        assert!(
            !after.contains(" HTTP/1.1\r\n"),
            "reused after half a request: {text:?}"
        );
    }
}
