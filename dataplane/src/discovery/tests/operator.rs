//! An operator in this process that says what a test wants, and notes how it was asked.
//!
//! It speaks HTTP by hand: it must also be able to speak it wrongly.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::super::OperatorUrl;
use super::PATIENCE;

/// What it answers from now on.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Http {
        status: u16,
        etag: Option<&'static str>,
        body: String,
    },
    /// These bytes, then the end of the connection.
    Raw(&'static [u8]),
    /// These bytes, then nothing more.
    RawThenSilence(&'static [u8]),
    Silence,
}

impl Reply {
    pub(super) fn ok(body: &str) -> Self {
        Self::status(200, body)
    }

    pub(super) fn status(status: u16, body: &str) -> Self {
        Self::Http {
            status,
            etag: None,
            body: body.to_owned(),
        }
    }

    pub(super) fn tagged(body: &str, etag: &'static str) -> Self {
        Self::Http {
            status: 200,
            etag: Some(etag),
            body: body.to_owned(),
        }
    }
}

#[derive(Debug)]
struct Script {
    reply: Reply,
    /// The `If-None-Match` of each request.
    tags: Vec<Option<String>>,
    unchanged: usize,
}

#[derive(Debug)]
pub(super) struct Operator {
    address: SocketAddr,
    /// Bound, but nobody listens: a connection is refused, and the port is nobody else's.
    bound: Mutex<Option<Socket>>,
    script: Arc<Mutex<Script>>,
    asked: watch::Sender<usize>,
    serving: Mutex<Option<AbortHandle>>,
}

impl Operator {
    pub(super) fn start(reply: Reply) -> Self {
        let operator = Self::away();
        operator.come(reply);
        operator
    }

    /// One whose port refuses connections until it comes.
    pub(super) fn away() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("a port");
        let address = socket
            .local_addr()
            .expect("bound")
            .as_socket()
            .expect("an IP address");
        Self {
            address,
            bound: Mutex::new(Some(socket)),
            script: Arc::new(Mutex::new(Script {
                reply: Reply::Silence,
                tags: Vec::new(),
                unchanged: 0,
            })),
            asked: watch::Sender::new(0),
            serving: Mutex::new(None),
        }
    }

    pub(super) fn come(&self, reply: Reply) {
        self.say(reply);
        let socket = self
            .bound
            .lock()
            .expect("a lock")
            .take()
            .expect("it is away");
        socket.listen(64).expect("listens");
        socket.set_nonblocking(true).expect("non-blocking");
        let listener = TcpListener::from_std(socket.into()).expect("in a runtime");
        let (script, asked) = (Arc::clone(&self.script), self.asked.clone());
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, Arc::clone(&script), asked.clone()));
            }
        });
        *self.serving.lock().expect("a lock") = Some(serving.abort_handle());
    }

    pub(super) fn say(&self, reply: Reply) {
        self.script.lock().expect("a lock").reply = reply;
    }

    pub(super) fn url(&self) -> OperatorUrl {
        OperatorUrl::parse(&format!("http://{}", self.address)).expect("a URL")
    }

    /// Waits until it was asked so often.
    pub(super) async fn asked(&self, times: usize) {
        let mut asked = self.asked.subscribe();
        let enough = asked.wait_for(|count| *count >= times);
        tokio::time::timeout(PATIENCE, enough)
            .await
            .expect("it is asked")
            .expect("it lives");
    }

    /// The tags of the first requests.
    pub(super) fn tags(&self, count: usize) -> Vec<Option<String>> {
        self.script
            .lock()
            .expect("a lock")
            .tags
            .iter()
            .take(count)
            .cloned()
            .collect()
    }

    /// How often it answered 304 by itself.
    pub(super) fn unchanged(&self) -> usize {
        self.script.lock().expect("a lock").unchanged
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.lock().expect("a lock").take() {
            serving.abort();
        }
    }
}

async fn answer(mut stream: TcpStream, script: Arc<Mutex<Script>>, asked: watch::Sender<usize>) {
    let Some(head) = head(&mut stream).await else {
        return;
    };
    assert!(
        head.starts_with("GET /api/v1/backends HTTP/1.1\r\n"),
        "{head}"
    );
    let tag = head
        .lines()
        .find_map(|line| line.strip_prefix("if-none-match: "))
        .map(str::to_owned);
    let reply = script.lock().expect("a lock").reply.clone();
    let bytes = match &reply {
        Reply::Http {
            etag: Some(etag), ..
        } if tag.as_deref() == Some(*etag) => {
            script.lock().expect("a lock").unchanged += 1;
            written(304, Some(etag), "")
        }
        Reply::Http { status, etag, body } => written(*status, *etag, body),
        Reply::Raw(bytes) | Reply::RawThenSilence(bytes) => bytes.to_vec(),
        Reply::Silence => Vec::new(),
    };
    script.lock().expect("a lock").tags.push(tag);
    // The client may have heard enough before the end.
    let _ = stream.write_all(&bytes).await;
    asked.send_modify(|count| *count += 1);
    if matches!(reply, Reply::Silence | Reply::RawThenSilence(_)) {
        std::future::pending().await
    }
}

fn written(status: u16, etag: Option<&str>, body: &str) -> Vec<u8> {
    let etag = etag
        .map(|etag| format!("etag: {etag}\r\n"))
        .unwrap_or_default();
    let length = if matches!(status, 204 | 304) {
        String::new()
    } else {
        format!("content-length: {}\r\n", body.len())
    };
    format!("HTTP/1.1 {status} Said\r\n{etag}{length}\r\n{body}").into_bytes()
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(bytes).ok()
}
