//! An HTTP server that knows of its supervisor only what the crates `listenfd` and `sd-notify` know: its listener and
//! READY=1. Its version is the last part of its file's name.
//!
//! Holds  told to end (SIGTERM, which std cannot hear, so tokio does) it accepts no more, answers what was asked, serves
//!        who connected and has not asked yet, and ends connections between two requests.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Work per request: so that requests are under way whenever it is told to end.
const WORK: Duration = Duration::from_millis(5);

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// How long a client that connected before the end may take to ask.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// The pattern of bench/src/payload.rs: so many bytes of SplitMix64, repeated.
const PERIOD: usize = 65_521;

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--version") {
        let _ = writeln!(io::stdout(), "listenfd-server {}.0", version());
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(serve())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn version() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit('-').next().unwrap_or_default().to_owned()
}

async fn serve() -> io::Result<()> {
    let listener = ListenFd::from_env().take_tcp_listener(0)?;
    let listener = listener.ok_or_else(|| io::Error::other("LISTEN_FDS names no listener"))?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut told = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    sd_notify::notify(&[NotifyState::Ready])?;
    loop {
        tokio::select! {
            _ = told.recv() => break,
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(converse(stream, stopped.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let _ = stop.send(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// The requests of one connection, one after the other.
async fn converse(mut stream: TcpStream, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
    let mut head = Vec::new();
    let mut is_first = true;
    loop {
        let stop = async {
            let _ = stopped.wait_for(|stopped| *stopped).await;
            if is_first {
                tokio::time::sleep(FIRST_REQUEST).await;
            }
        };
        let request = tokio::select! {
            biased;
            request = read_head(&mut stream, &mut head) => request?,
            () = stop => return Ok(()),
        };
        let Some(request) = request else {
            return Ok(());
        };
        is_first = false;
        let body = body(&request).await;
        let closes = *stopped.borrow() || request.contains("\r\nConnection: close\r\n");
        let word = if closes { "close" } else { "keep-alive" };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: {word}\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        stream.write_all(&body).await?;
        if closes {
            return stream.shutdown().await;
        }
    }
}

/// A whole head; `None` at the end of the connection. What is read already stays in `head` when this is given up.
async fn read_head(stream: &mut TcpStream, head: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let whole: Vec<u8> = head.drain(..end + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&whole).into_owned()));
        }
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(head).await? == 0 {
            return Ok(None);
        }
    }
}

/// GET /bytes/N?offset=O, /slow/MS, /version, /health.
async fn body(request: &str) -> Vec<u8> {
    let target = request.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let number = |text: &str| text.parse::<u32>().unwrap_or_default();
    if let Some(length) = path.strip_prefix("/bytes/") {
        tokio::time::sleep(WORK).await;
        let offset = number(query.strip_prefix("offset=").unwrap_or_default());
        return bytes(offset, number(length));
    }
    if let Some(ms) = path.strip_prefix("/slow/") {
        tokio::time::sleep(Duration::from_millis(number(ms).into())).await;
    }
    version().into_bytes()
}

fn bytes(offset: u32, length: u32) -> Vec<u8> {
    let words = 1..=u64::try_from(PERIOD.div_ceil(8)).unwrap_or_default();
    let pattern: Vec<u8> = words.flat_map(|word| mix(word).to_le_bytes()).collect();
    let period = pattern.iter().take(PERIOD).cycle();
    let from = usize::try_from(offset).unwrap_or_default() % PERIOD;
    let length = usize::try_from(length).unwrap_or_default();
    period.skip(from).take(length).copied().collect()
}

fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
