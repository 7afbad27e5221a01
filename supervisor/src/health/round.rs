//! One round of tries: connections to the shared port until the generation itself answered one.
//!
//! ```text
//!   connect, all of the request but its last line ──▶ who accepted?
//!     ├─ the generation: the last line, its answer counts
//!     ├─ another one:    the last line and its answer, which nobody counts; the next connection
//!     └─ nobody yet:     look again, to the deadline
//! ```
//!
//! Room  tokio tasks; the looks block and run on threads of their own.
//! Holds the acceptor is known before it can answer: a server that closes at once with its answer (as each should,
//!       asked with `Connection: close`) leaves nothing to be looked at afterwards. Every connection is ended as
//!       HTTP wants it, also those of which nothing is believed; a round ends within its deadlines.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::Finding;
use super::url::HealthUrl;
use super::witness::{self, Seen};
use crate::self_test::exchange;

/// Connections of one round. Sized: with two generations that accept alike, one round in 65,536 misses one.
const TRIES_MAX: u32 = 16;

/// How long a round may look for the generation. If passed: it is absent.
const ROUND_DEADLINE: Duration = Duration::from_secs(3);

/// How long the generation may take to answer what it accepted. If passed: it is unhealthy.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Pause after a connection that another generation accepted, times the tries so far: whoever accepts one after the
/// other needs some time to be beaten to it.
const PAUSE: Duration = Duration::from_millis(3);

/// How often a waiting connection is looked at; it costs one look at the kernel's table.
const LOOK: Duration = Duration::from_millis(5);

/// How much of an answer is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Finds out how the generation with this main process is.
pub(crate) async fn run(url: HealthUrl, main: u32) -> Finding {
    let deadline = Instant::now() + ROUND_DEADLINE;
    let mut misses = Misses::default();
    for tries in 1..=TRIES_MAX {
        match attempt(&url, main, deadline).await {
            Ok(finding) => return finding,
            Err(miss) => misses.note(miss),
        }
        let pause = PAUSE * tries;
        if Instant::now() + pause >= deadline {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    Finding::Absent(misses.explain(&url))
}

/// Why a connection says nothing about the generation.
#[derive(Debug)]
enum Miss {
    Other {
        hidden: usize,
    },
    /// Nobody accepted it in time.
    Waited,
    /// It broke before anybody was seen.
    Failed(String),
}

async fn attempt(url: &HealthUrl, main: u32, deadline: Instant) -> Result<Finding, Miss> {
    let connecting = tokio::time::timeout_at(deadline.into(), TcpStream::connect(url.address));
    let mut stream = match connecting.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Miss::Failed(error.to_string())),
        Err(_) => return Err(Miss::Waited),
    };
    // Small writes must not wait for each other's acknowledgement.
    let _ = stream.set_nodelay(true);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: zeitwork-supervisor-health\r\nConnection: close\r\n",
        url.path, url.authority
    );
    let begun = exchange::send(&mut stream, request.as_bytes()).await;
    begun.map_err(Miss::Failed)?;
    match acceptor(&stream, main, deadline).await {
        Ok(Seen::Family) => Ok(judge(stream, url).await),
        Ok(Seen::Other { hidden }) => {
            tokio::spawn(tokio::time::timeout(ANSWER_DEADLINE, finish(stream)));
            Err(Miss::Other { hidden })
        }
        Ok(Seen::Waiting) => Err(Miss::Waited),
        Ok(Seen::Gone) => Err(Miss::Failed("its other end is not to be found".to_owned())),
        Err(error) => Err(Miss::Failed(error.to_string())),
    }
}

/// Looks until somebody has accepted.
async fn acceptor(stream: &TcpStream, main: u32, deadline: Instant) -> io::Result<Seen> {
    let (ours, theirs): (SocketAddr, SocketAddr) = (stream.local_addr()?, stream.peer_addr()?);
    loop {
        let looking = tokio::task::spawn_blocking(move || witness::look(ours, theirs, main));
        let seen = looking.await.map_err(io::Error::other)??;
        if seen != Seen::Waiting || Instant::now() + LOOK >= deadline {
            return Ok(seen);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The generation has the request: what it makes of it.
async fn judge(mut stream: TcpStream, url: &HealthUrl) -> Finding {
    let begun = Instant::now();
    let answered = tokio::time::timeout(ANSWER_DEADLINE, ask(&mut stream)).await;
    let took = begun.elapsed();
    tokio::spawn(tokio::time::timeout(ANSWER_DEADLINE, read_to_end(stream)));
    let reason = match answered {
        Ok(Ok(200..400)) => return Finding::Healthy(took),
        Ok(Ok(status)) => format!("it answers {status}"),
        Ok(Err(reason)) => reason,
        Err(_) => format!("it accepts and does not answer within {ANSWER_DEADLINE:?}"),
    };
    Finding::Unhealthy(format!("{reason} at {url}"))
}

/// The last line of the request; the status of its answer.
async fn ask(stream: &mut TcpStream) -> Result<u16, String> {
    exchange::send(stream, b"\r\n").await?;
    exchange::answer(stream).await
}

/// Left unread, the rest of an answer would be met by a reset, which some servers take for a fault.
async fn read_to_end(stream: TcpStream) {
    let mut rest = stream.take(ANSWER_BYTES_MAX);
    let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
}

/// The same for an answer that is nobody's evidence: the request was made, and is ended as it should be.
async fn finish(mut stream: TcpStream) {
    if ask(&mut stream).await.is_ok() {
        read_to_end(stream).await;
    }
}

/// What the connections of a round came to.
#[derive(Debug, Default)]
struct Misses {
    others: usize,
    waited: usize,
    hidden: usize,
    failed: usize,
    failure: String,
}

impl Misses {
    fn note(&mut self, miss: Miss) {
        match miss {
            Miss::Other { hidden } => {
                self.others += 1;
                self.hidden = self.hidden.max(hidden);
            }
            Miss::Waited => self.waited += 1,
            Miss::Failed(reason) => {
                self.failed += 1;
                self.failure = reason;
            }
        }
    }

    fn explain(&self, url: &HealthUrl) -> String {
        let all = self.others + self.waited + self.failed;
        let mut why = Vec::new();
        if self.others > 0 {
            why.push(format!("{} accepted by other processes", self.others));
        }
        if self.hidden > 0 {
            why.push(format!(
                "{} of its processes may not be looked at (another user's?)",
                self.hidden
            ));
        }
        if self.waited > 0 {
            why.push(format!("{} accepted by nobody", self.waited));
        }
        if self.failed > 0 {
            why.push(format!("{} failed: {}", self.failed, self.failure));
        }
        format!(
            "it accepted none of {all} connections to {url} ({})",
            why.join(", ")
        )
    }
}
