//! Trying a worker through connections that no client made, before clients come.
//!
//! ```text
//!   a pair of connected sockets ──one end, by the private channel──▶ worker: as if accepted on that listener
//!             └── the other end: health, a request to a backend, a TLS handshake for each name
//! ```
//!
//! Room  the connections and what is said on them; which worker may do what is `core`'s matter.
//! In    what the workers say can be tried. Out  the first failure that only the successor has.
//! Holds whoever answers is the process at the other end of its private channel and nobody else; each try has
//!       a deadline; what fails under the incumbent, too, is not the successor's fault.

mod certificate;
pub(crate) mod exchange;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use handoff::ListenerName;
use handoff::message::{SelfTest, SelfTestKind};
use handoff::supervisor::Order;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long one try may take. Covers: a backend's first answer. If passed: the try has failed.
const TRY_DEADLINE: Duration = Duration::from_secs(5);

/// How long a connection of an unknown protocol must stay open. Sized: a refused backend shows within
/// milliseconds.
const SILENCE: Duration = Duration::from_millis(300);

/// Tries at the same time: a service may have hundreds of listeners and names, and an upgrade waits for all of them.
const AT_ONCE: usize = 32;

/// Said where a PROXY header is expected: a connection of the proxy's own (PROXY protocol, section 2.1).
const PROXY_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) passed: usize,
    /// What the incumbent fails, too.
    pub(crate) remarks: Vec<String>,
    pub(crate) failure: Option<String>,
}

/// A worker that serves the connections it is given.
#[derive(Clone, Debug)]
pub(crate) struct Subject(mpsc::UnboundedSender<Order>);

impl Subject {
    pub(crate) fn new(orders: mpsc::UnboundedSender<Order>) -> Self {
        Self(orders)
    }

    async fn connect(&self, listener: &ListenerName) -> io::Result<TcpStream> {
        let (ours, theirs) = pair().await?;
        let order = Order::Serve {
            listener: listener.clone(),
            connection: theirs,
        };
        self.0
            .send(order)
            .map_err(|_| io::Error::other("the worker is gone"))?;
        Ok(ours)
    }
}

/// Two ends of one connection; what somebody else connects meanwhile is closed.
async fn pair() -> io::Result<(TcpStream, OwnedFd)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let own = ours.local_addr()?;
    loop {
        let (theirs, peer) = listener.accept().await?;
        if peer == own {
            return Ok((ours, theirs.into_std()?.into()));
        }
    }
}

/// One thing to try: a test, for one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Try {
    listener: ListenerName,
    kind: SelfTestKind,
    proxy_protocol: bool,
    name: Option<String>,
    path: String,
    /// Ends with a request, which goes to a backend.
    asks: bool,
}

/// Everything that the successor names, and the names that only the incumbent serves so far.
fn tries(successor: &[SelfTest], incumbent: &[SelfTest]) -> Vec<Try> {
    let mut all = Vec::new();
    for test in successor {
        let known = incumbent.iter().find(|known| {
            (&known.listener, known.kind) == (&test.listener, SelfTestKind::Https)
                && test.kind == SelfTestKind::Https
        });
        let mut names = test.names.clone();
        let more = known.into_iter().flat_map(|known| &known.names);
        names.extend(more.filter(|name| !test.names.contains(name)).cloned());
        let mut names: Vec<Option<String>> = names.into_iter().map(Some).collect();
        if names.is_empty() || test.kind != SelfTestKind::Https {
            names.truncate(1);
            names.resize(1, None);
        }
        for (index, name) in names.into_iter().enumerate() {
            all.push(Try {
                listener: test.listener.clone(),
                kind: test.kind,
                proxy_protocol: test.proxy_protocol,
                name,
                path: test.path.clone(),
                asks: index == 0,
            });
        }
    }
    all.retain(|one| one.kind != SelfTestKind::Unknown);
    all
}

/// Tries everything, [`AT_ONCE`] at a time, until the successor fails where the incumbent does not.
pub(crate) async fn run(
    successor: (Subject, Vec<SelfTest>),
    incumbent: Option<(Subject, Vec<SelfTest>)>,
) -> Report {
    let known = incumbent.as_ref().map_or(&[][..], |(_, tests)| tests);
    let mut report = Report::default();
    for batch in tries(&successor.1, known).chunks(AT_ONCE) {
        let mut trying = JoinSet::new();
        for (place, one) in batch.iter().enumerate() {
            let (subject, one) = (successor.0.clone(), one.clone());
            trying.spawn(async move { (place, attempt(&subject, &one).await) });
        }
        let mut failures = Vec::new();
        while let Some(tried) = trying.join_next().await {
            match tried {
                Ok((_, Ok(()))) => report.passed += 1,
                Ok((place, Err(failure))) => failures.push((place, failure)),
                Err(error) => {
                    report.failure = Some(format!("a self-test could not be made: {error}"));
                    return report;
                }
            }
        }
        failures.sort();
        for (place, failure) in failures {
            let Some(one) = batch.get(place) else {
                continue;
            };
            let about = match &one.name {
                Some(name) => format!("{} for {name}", one.listener),
                None => one.listener.to_string(),
            };
            let told = format!("self-test of {about}: {failure}");
            let is_shared = match &incumbent {
                Some((subject, _)) => attempt(subject, one).await.is_err(),
                None => false,
            };
            if is_shared {
                report
                    .remarks
                    .push(format!("{told}; so does the incumbent"));
            } else {
                report.failure = Some(told);
                return report;
            }
        }
    }
    report
}

async fn attempt(subject: &Subject, one: &Try) -> Result<(), String> {
    let trying = async {
        let mut stream = subject
            .connect(&one.listener)
            .await
            .map_err(|error| format!("no connection: {error}"))?;
        if one.proxy_protocol {
            exchange::send(&mut stream, PROXY_UNKNOWN).await?;
        }
        let host = one.name.as_deref().unwrap_or("self-test");
        match one.kind {
            SelfTestKind::Health => match exchange::get(&mut stream, host, &one.path).await? {
                200 => Ok(()),
                status => Err(format!("GET {} answers {status}", one.path)),
            },
            SelfTestKind::Http => asked(exchange::get(&mut stream, host, &one.path).await?),
            SelfTestKind::Https => {
                let mut stream = certificate::handshake(stream, host).await?;
                if !one.asks {
                    return Ok(());
                }
                asked(exchange::get(&mut stream, host, &one.path).await?)
            }
            SelfTestKind::Tcp => exchange::stays_open(&mut stream, SILENCE).await,
            SelfTestKind::Unknown => Ok(()),
        }
    };
    tokio::time::timeout(TRY_DEADLINE, trying)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {TRY_DEADLINE:?}")))
}

/// Any answer that is nobody's failure: a backend may well have no such page.
fn asked(status: u16) -> Result<(), String> {
    if status < 500 {
        return Ok(());
    }
    Err(format!("a request is answered with {status}"))
}

#[cfg(test)]
mod tests {
    use handoff::message::{SelfTest, SelfTestKind};

    use super::tries;

    fn test(listener: &str, kind: SelfTestKind, names: &[&str]) -> SelfTest {
        SelfTest {
            listener: listener.parse().expect("a name"),
            kind,
            proxy_protocol: false,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            path: "/".to_owned(),
        }
    }

    #[test]
    fn names_that_only_the_incumbent_serves_are_tried_too() {
        let successor = [
            test("https", SelfTestKind::Https, &["a.example"]),
            test("echo", SelfTestKind::Tcp, &[]),
            test("new", SelfTestKind::Unknown, &[]),
        ];
        let incumbent = [
            test("https", SelfTestKind::Https, &["a.example", "b.example"]),
            test("gone", SelfTestKind::Https, &["c.example"]),
        ];
        let all = tries(&successor, &incumbent);
        let told: Vec<_> = all
            .iter()
            .map(|one| (one.listener.as_str(), one.name.as_deref(), one.asks))
            .collect();
        assert_eq!(
            told,
            [
                ("https", Some("a.example"), true),
                ("https", Some("b.example"), false),
                ("echo", None, true),
            ]
        );
    }
}
