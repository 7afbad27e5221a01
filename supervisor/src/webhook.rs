//! Tells another system about swaps: one HTTP POST for each start, commit, rollback, refusal and pause.
//!
//! In    events of the loop, through a bounded queue. Out  POST requests with JSON, one after the other.
//! Holds the loop never waits: what the queue does not take is dropped and logged; each try is bounded in
//!       time, tries in number. The answer's body is not read.

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use bytes::Bytes;
use control::{Event, Verdict};
use http_body_util::Full;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// How long one try may take, from the name's resolution to the answer's head.
const TRY_DEADLINE: Duration = Duration::from_secs(5);

/// Pauses before the second and the third try.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// Notices that may wait. Sized: a swap makes two, a target that hangs takes 20 s for each.
const QUEUE_MAX: usize = 64;

/// `[webhook]` of supervisor.toml.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookSetting {
    #[serde(deserialize_with = "target")]
    pub(crate) url: Target,
}

/// Where notices go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    host: String,
    port: u16,
    /// As it stands in the Host header.
    authority: String,
    path: String,
}

/// The loop's end of the queue.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    name: String,
    queue: mpsc::Sender<Bytes>,
}

/// The body of a notice.
#[derive(Debug, Serialize)]
struct Notice<'a> {
    /// The supervisor's name.
    name: &'a str,
    host: &'a str,
    /// "start", "commit", "rollback", "rollback-incomplete", "refused", "pause".
    notice: &'static str,
    event: &'a Event,
}

impl Webhook {
    /// Starts the sender as a task of the current runtime.
    pub(crate) fn start(name: &str, setting: &WebhookSetting) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(deliver(setting.url.clone(), waiting));
        Self {
            name: name.to_owned(),
            queue,
        }
    }

    /// Queues what is worth a notice; never waits.
    pub(crate) fn tell(&self, event: &Event) {
        let Some(notice) = notice(event) else {
            return;
        };
        let body = serde_json::to_vec(&Notice {
            name: &self.name,
            host: &rustix::system::uname().nodename().to_string_lossy(),
            notice,
            event,
        });
        let queued = body.is_ok_and(|body| self.queue.try_send(body.into()).is_ok());
        if !queued {
            tracing::warn!(notice, "the webhook's queue is full: not told");
        }
    }
}

fn notice(event: &Event) -> Option<&'static str> {
    match (event.verdict, event.event.as_str()) {
        (Some(Verdict::Committed), _) => Some("commit"),
        (Some(Verdict::RolledBack), _) => Some("rollback"),
        (Some(Verdict::RollbackIncomplete), _) => Some("rollback-incomplete"),
        (Some(Verdict::Refused), _) => Some("refused"),
        (Some(Verdict::Paused), _) | (None, "paused") => Some("pause"),
        (None, "requested") => Some("start"),
        (Some(Verdict::Busy | Verdict::Allowed), _) | (None, _) => None,
    }
}

async fn deliver(target: Target, mut waiting: mpsc::Receiver<Bytes>) {
    while let Some(body) = waiting.recv().await {
        let mut pauses = PAUSES.iter();
        loop {
            let outcome = tokio::time::timeout(TRY_DEADLINE, post(&target, body.clone())).await;
            let reason = match outcome {
                Ok(Ok(status)) if status.is_success() => {
                    tracing::info!(%status, "the webhook was told");
                    break;
                }
                Ok(Ok(status)) => format!("it answered {status}"),
                Ok(Err(error)) => error,
                Err(_) => format!("no answer within {TRY_DEADLINE:?}"),
            };
            let Some(pause) = pauses.next() else {
                tracing::warn!(
                    reason,
                    authority = target.authority,
                    "the webhook was not told"
                );
                break;
            };
            tracing::debug!(reason, "the webhook is tried again");
            tokio::time::sleep(*pause).await;
        }
    }
}

async fn post(target: &Target, body: Bytes) -> Result<StatusCode, String> {
    let address = (target.host.as_str(), target.port);
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::post(target.path.as_str())
        .header("host", target.authority.as_str())
        .header("content-type", "application/json")
        .header(
            "user-agent",
            concat!("zeitwork-supervisor/", env!("CARGO_PKG_VERSION")),
        )
        .header("connection", "close")
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    // The connection is driven here and ends with this try, whatever the other side does.
    let mut sending = std::pin::pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut sending => response,
        // Its end may be that of a whole exchange: the answer, or the reason why there is none, is there.
        _ = connection => sending.await,
    };
    response
        .map(|response| response.status())
        .map_err(|error| error.to_string())
}

fn target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Target, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

fn parse(text: &str) -> Result<Target, String> {
    let wrong = |reason: &str| format!("url: {reason}, as in \"http://127.0.0.1:9000/swaps\"");
    let uri: Uri = text.parse().map_err(|_| wrong("give an address"))?;
    let authority = uri.authority().ok_or_else(|| wrong("give an address"))?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong(
            "only http is spoken here (a relay on this host can add TLS)",
        ));
    }
    if authority.as_str().contains('@') {
        return Err(wrong("no user and password in it"));
    }
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(80);
    if host.is_empty() {
        return Err(wrong("give an address"));
    }
    // An address is checked now; a name is resolved for each try.
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    if is_address && (host.as_str(), port).to_socket_addrs().is_err() {
        return Err(wrong("give an address"));
    }
    Ok(Target {
        host,
        port,
        authority: authority.to_string(),
        path: uri
            .path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use control::{Event, Verdict};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::{QUEUE_MAX, Webhook, WebhookSetting, notice, parse};

    fn event(word: &str, verdict: Option<Verdict>) -> Event {
        Event {
            event: word.to_owned(),
            verdict,
            ..Event::default()
        }
    }

    #[test]
    fn a_start_and_each_end_are_worth_a_notice() {
        let table = [
            (event("requested", None), Some("start")),
            (event("progress", None), None),
            (event("paused", None), Some("pause")),
            (event("finished", Some(Verdict::Committed)), Some("commit")),
            (
                event("finished", Some(Verdict::RolledBack)),
                Some("rollback"),
            ),
            (event("finished", Some(Verdict::Refused)), Some("refused")),
            (event("finished", Some(Verdict::Paused)), Some("pause")),
            (event("refused", Some(Verdict::Busy)), None),
        ];
        for (event, expected) in table {
            assert_eq!(notice(&event), expected, "{event:?}");
        }
    }

    #[test]
    fn an_url_is_understood_or_refused_with_an_example() {
        let target = parse("http://hooks.example/a?b=c").expect("valid");
        assert_eq!((target.port, target.path.as_str()), (80, "/a?b=c"));
        assert_eq!(parse("http://[::1]:9000").expect("valid").host, "::1");
        for wrong in [
            "",
            "https://x/",
            "x",
            "/a",
            "http://u:p@x/",
            "http://",
            "ftp://x",
        ] {
            let error = parse(wrong).expect_err(wrong);
            assert!(error.contains("as in \"http://"), "{error}");
        }
    }

    /// How the other side behaves, one entry for each connection.
    #[derive(Clone, Copy)]
    enum Way {
        Ok,
        Error,
        Closed,
        Silent,
    }

    /// The bodies that arrived, of all tries.
    async fn target(
        ways: &'static [Way],
    ) -> (WebhookSetting, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            let (mut bodies, mut held) = (Vec::new(), Vec::new());
            for way in ways {
                let (mut stream, _) = listener.accept().await.expect("accepts");
                let mut bytes = vec![0; 64 * 1024];
                let mut text = String::new();
                while !text.ends_with("}}") {
                    let count = stream.read(&mut bytes).await.expect("reads");
                    text += &String::from_utf8_lossy(&bytes[..count]);
                }
                bodies.push(text);
                let answer: &[u8] = match way {
                    Way::Ok => b"HTTP/1.1 204 No Content\r\n\r\n",
                    Way::Error => b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
                    Way::Closed => continue,
                    Way::Silent => {
                        held.push(stream);
                        continue;
                    }
                };
                stream.write_all(answer).await.expect("writes");
            }
            bodies
        });
        let url = parse(&format!("http://{address}/hook")).expect("valid");
        (WebhookSetting { url }, task)
    }

    async fn arrived(ways: &'static [Way]) -> Vec<String> {
        let (setting, task) = target(ways).await;
        let webhook = Webhook::start("edge", &setting);
        let started = Instant::now();
        webhook.tell(&event("requested", None));
        webhook.tell(&event("finished", Some(Verdict::Committed)));
        assert!(started.elapsed() < Duration::from_millis(500), "it waited");
        tokio::time::timeout(Duration::from_secs(60), task)
            .await
            .expect("every try arrives")
            .expect("joins")
    }

    #[tokio::test]
    async fn a_notice_arrives_and_says_who_and_what() {
        let bodies = arrived(&[Way::Ok, Way::Ok]).await;
        assert!(
            bodies[0].starts_with("POST /hook HTTP/1.1\r\n"),
            "{bodies:?}"
        );
        assert!(
            bodies[0].contains(r#""name":"edge""#) && bodies[0].contains(r#""notice":"start""#)
        );
        assert!(bodies[1].contains(r#""notice":"commit""#), "{bodies:?}");
        assert!(bodies[1].contains(r#""verdict":"committed""#), "{bodies:?}");
    }

    #[tokio::test]
    async fn three_tries_then_the_next_notice() {
        let bodies = arrived(&[Way::Error, Way::Closed, Way::Error, Way::Ok]).await;
        for body in &bodies[..3] {
            assert!(body.contains(r#""notice":"start""#), "{body}");
        }
        assert!(bodies[3].contains(r#""notice":"commit""#), "{bodies:?}");
    }

    #[tokio::test]
    async fn a_silent_target_is_given_up_and_tried_again() {
        let bodies = arrived(&[Way::Silent, Way::Ok, Way::Ok]).await;
        assert!(bodies[1].contains(r#""notice":"start""#), "{bodies:?}");
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_does_not_wait() {
        let (setting, _task) = target(&[Way::Silent]).await;
        let webhook = Webhook::start("edge", &setting);
        let started = Instant::now();
        for _ in 0..QUEUE_MAX * 4 {
            webhook.tell(&event("requested", None));
        }
        assert!(started.elapsed() < Duration::from_secs(2));
        assert_eq!(webhook.queue.capacity(), 0);
    }
}
