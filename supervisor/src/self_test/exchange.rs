//! What is said on the connection of a self-test: one request, or nothing at all.
//!
//! Room  bytes on one stream; the caller has the deadline.
//! Holds an answer is read to the end of its status line and no further; it may say anything.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest status line, in bytes.
const STATUS_LINE_BYTES_MAX: usize = 1024;

pub(crate) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> Result<(), String> {
    let sent = stream.write_all(bytes).await;
    sent.map_err(|error| format!("closed by the worker: {error}"))?;
    let flushed = stream.flush().await;
    flushed.map_err(|error| format!("closed by the worker: {error}"))
}

/// One GET; the status of its answer.
pub(super) async fn get(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    path: &str,
) -> Result<u16, String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: zeitwork-self-test\r\nConnection: close\r\n\r\n"
    );
    send(stream, request.as_bytes()).await?;
    answer(stream).await
}

/// The status of the answer that comes next.
pub(crate) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<u16, String> {
    let mut line = Vec::new();
    loop {
        let byte = stream.read_u8().await;
        match byte.map_err(|error| format!("no answer: {error}"))? {
            b'\n' => return status(&line),
            byte if line.len() < STATUS_LINE_BYTES_MAX => line.push(byte),
            _ => return Err("the answer is not HTTP".to_owned()),
        }
    }
}

/// RFC 9112, section 4: `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Result<u16, String> {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split_ascii_whitespace();
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.parse().ok());
    match status {
        Some(status) if version.starts_with("HTTP/1.") => Ok(status),
        _ => Err(format!("the answer is not HTTP: {:.60}", text.trim())),
    }
}

/// A protocol that is not known: the connection is answered, or stays open for `silence`.
pub(super) async fn stays_open(
    stream: &mut (impl AsyncRead + Unpin),
    silence: Duration,
) -> Result<(), String> {
    let mut byte = [0];
    match tokio::time::timeout(silence, stream.read(&mut byte)).await {
        Err(_) | Ok(Ok(1..)) => Ok(()),
        Ok(Ok(0)) => Err("closed at once: no backend takes the connection".to_owned()),
        Ok(Err(error)) => Err(format!("no backend takes the connection: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn a_status_line_is_read_or_refused() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r"), Ok(204));
        assert_eq!(status(b"HTTP/1.0 503"), Ok(503));
        for wrong in [
            &b""[..],
            b"HTTP/1.1",
            b"SSH-2.0-x",
            b"HTTP/2 200",
            b"HTTP/1.1 x",
            b"\xff\xff",
        ] {
            assert!(status(wrong).is_err(), "{wrong:?}");
        }
    }
}
