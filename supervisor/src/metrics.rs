//! Metrics of every generation as Prometheus text, with a `generation` label, so that counters of two
//! versions never run into each other.
//!
//! Room  a pure print, and an HTTP listener that asks the loop for what is to be printed.
//! Holds a value that nobody knows is left out, never 0; clients are bounded in number and time.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control::{GenerationStatus, Status};
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::core::Happening;
use crate::requests::Request;
use crate::tally::Tally;
use crate::usage::{self, Usage};

/// Media type of the text exposition format.
pub(crate) const CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Most clients at once; one Prometheus needs one.
const CLIENTS_MAX: usize = 16;

/// How long one client may stay. Sized: some scrapes over one connection.
const CLIENT_DEADLINE: Duration = Duration::from_secs(300);

/// How long a client may take for its request head, and be silent between two.
const HEAD_DEADLINE: Duration = Duration::from_secs(70);

/// Pause after a failed accept (EMFILE), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What the loop knows.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) status: Status,
    pub(crate) tally: Tally,
}

/// Asks the loop and the kernel; `None` when the supervisor is ending.
pub(crate) async fn text(happenings: &mpsc::UnboundedSender<Happening>) -> Option<String> {
    let (answer, answered) = oneshot::channel();
    let request = Happening::Request(Request::Metrics(answer));
    happenings.send(request).ok()?;
    let snapshot = answered.await.ok()?;
    Some(print(&snapshot, usage::of))
}

/// Accepts until the process ends.
pub(crate) async fn serve(listener: TcpListener, happenings: mpsc::UnboundedSender<Happening>) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let happenings = happenings.clone();
                tokio::spawn(async move {
                    let _ =
                        tokio::time::timeout(CLIENT_DEADLINE, converse(stream, happenings)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics listener does not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, happenings: mpsc::UnboundedSender<Happening>) {
    let service = service_fn(move |request: HttpRequest<hyper::body::Incoming>| {
        let happenings = happenings.clone();
        async move { Ok::<_, Infallible>(answer(&request, &happenings).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer<B>(
    request: &HttpRequest<B>,
    happenings: &mpsc::UnboundedSender<Happening>,
) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match text(happenings).await {
            Some(text) => (StatusCode::OK, text),
            None => (StatusCode::SERVICE_UNAVAILABLE, "ending\n".to_owned()),
        },
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "there is /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT));
    response
}

/// The whole text; `usage` looks at one process.
fn print(snapshot: &Snapshot, usage: impl Fn(u32) -> Option<Usage>) -> String {
    let mut page = Page::default();
    let (status, tally) = (&snapshot.status, &snapshot.tally);
    let version = [
        ("name", status.name.as_str()),
        ("version", &status.supervisor_version),
    ];
    page.gauge("info", "This supervisor.", [(&version[..], "1".to_owned())]);
    let phase = [("phase", status.phase.as_str())];
    page.gauge("phase", "What it is doing.", [(&phase[..], "1".to_owned())]);
    page.counter(
        "crashes_total",
        "Workers that died while they served.",
        [(&[][..], status.crashes_total.to_string())],
    );
    print_swaps(&mut page, tally);
    print_stayed(&mut page, tally);
    print_generations(&mut page, &status.generations, usage);
    let sockets = status.listeners.iter().map(|listener| {
        let labels = vec![
            ("listener", listener.name.as_str()),
            ("address", listener.address.as_str()),
        ];
        (labels, listener.sockets.to_string())
    });
    page.gauge("listener_sockets", "Sockets held, by listener.", sockets);
    page.text
}

fn print_swaps(page: &mut Page, tally: &Tally) {
    let swaps = tally
        .swaps
        .iter()
        .map(|(verdict, count)| ([("verdict", *verdict)], count.to_string()));
    page.counter("swaps_total", "Upgrades and rollbacks that ended.", swaps);
    let last = tally
        .last_swap
        .map(|took| (&[][..], took.as_secs_f64().to_string()));
    page.gauge("last_swap_seconds", "How long the last one took.", last);
    page.counter(
        "drained_connections_total",
        "Connections of generations that left: finished by themselves, cut, or moved to another generation.",
        [
            ([("outcome", "finished")], tally.finished.to_string()),
            ([("outcome", "cut")], tally.cut.to_string()),
            ([("outcome", "moved")], tally.moved.to_string()),
        ],
    );
}

/// Who did not move when others did.
fn print_stayed(page: &mut Page, tally: &Tally) {
    let stayed = tally.stayed.iter();
    let stayed = stayed.map(|(why, count)| ([("reason", why.as_str())], count.to_string()));
    page.counter(
        "stayed_connections_total",
        "Connections that could not move to another generation when others did.",
        stayed,
    );
}

/// One metric of a generation.
type Metric = (
    &'static str,
    &'static str,
    fn(&GenerationStatus, Option<&Usage>) -> Option<String>,
);

const COUNTERS: [Metric; 4] = [
    ("accepted_total", "Connections accepted.", |one, _| {
        one.accepted_total.map(|n| n.to_string())
    }),
    (
        "errors_total",
        "Errors, as the worker counts them.",
        |one, _| one.errors_total.map(|n| n.to_string()),
    ),
    ("bytes_total", "Bytes passed on.", |one, _| {
        one.bytes_total.map(|n| n.to_string())
    }),
    ("cpu_seconds_total", "Processor time.", |_, usage| {
        usage.map(|usage| usage.cpu.as_secs_f64().to_string())
    }),
];

const GAUGES: [Metric; 6] = [
    ("connections", "Connections held.", |one, _| {
        one.connections.map(|n| n.to_string())
    }),
    ("accepting", "Whether it accepts.", |one, _| {
        Some(u8::from(one.accepting).to_string())
    }),
    ("age_seconds", "Time since its start.", |one, _| {
        Some(one.age_s.to_string())
    }),
    ("resident_bytes", "Resident memory.", |_, usage| {
        usage.map(|usage| usage.rss_bytes.to_string())
    }),
    ("open_descriptors", "Open descriptors.", |_, usage| {
        usage.map(|usage| usage.descriptors.to_string())
    }),
    ("threads", "Threads.", |_, usage| {
        usage.map(|usage| usage.threads.to_string())
    }),
];

fn print_generations(
    page: &mut Page,
    generations: &[GenerationStatus],
    usage: impl Fn(u32) -> Option<Usage>,
) {
    let seen: Vec<_> = generations
        .iter()
        .map(|one| {
            (
                one,
                one.generation.to_string(),
                one.role.to_string(),
                usage(one.pid),
            )
        })
        .collect();
    let infos = seen.iter().map(|(one, number, role, _)| {
        let labels = vec![
            ("generation", number.as_str()),
            ("role", role),
            ("version", &one.version),
            ("sha256", &one.sha256),
        ];
        (labels, "1".to_owned())
    });
    page.gauge("generation_info", "The living generations.", infos);
    for (metrics, kind) in [(&COUNTERS[..], "counter"), (&GAUGES[..], "gauge")] {
        for (name, help, value) in metrics {
            let samples = seen.iter().filter_map(|(one, number, _, usage)| {
                let labels = [("generation", number.as_str())];
                Some((labels, value(one, usage.as_ref())?))
            });
            page.family(kind, &format!("generation_{name}"), help, samples);
        }
    }
}

#[derive(Debug, Default)]
struct Page {
    text: String,
}

impl Page {
    fn gauge<'a, L: AsRef<[(&'a str, &'a str)]>>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, String)>,
    ) {
        self.family("gauge", name, help, samples);
    }

    fn counter<'a, L: AsRef<[(&'a str, &'a str)]>>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, String)>,
    ) {
        self.family("counter", name, help, samples);
    }

    fn family<'a, L: AsRef<[(&'a str, &'a str)]>>(
        &mut self,
        kind: &str,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, String)>,
    ) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP supervisor_{name} {help}");
        let _ = writeln!(self.text, "# TYPE supervisor_{name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<String> = labels
                .as_ref()
                .iter()
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", labels.join(","))
            };
            let _ = writeln!(self.text, "supervisor_{name}{labels} {value}");
        }
    }
}

/// A label's value: backslash, quote and line end are escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use control::{GenerationStatus, ListenerStatus, Role, Status, Verdict};

    use super::{Snapshot, escaped, print};
    use crate::tally::Tally;
    use crate::usage::Usage;

    fn snapshot() -> Snapshot {
        let mut tally = Tally::default();
        tally.swap(Verdict::RolledBack, Duration::from_millis(2_500));
        tally.drained(40, 2, 7);
        tally.stayed(&[("speaks TLS".to_owned(), 3)].into());
        let one = |generation, role, connections| GenerationStatus {
            generation,
            role,
            connections,
            pid: u32::try_from(generation).expect("small"),
            version: "1.3.0\"\n".to_owned(),
            bytes_total: Some(77),
            accepting: role == Role::Incumbent,
            ..GenerationStatus::default()
        };
        let generations = vec![
            one(7, Role::Incumbent, Some(12)),
            one(6, Role::Draining, None),
        ];
        let listeners = vec![ListenerStatus {
            name: "web".to_owned(),
            address: "[::]:80".to_owned(),
            sockets: 16,
        }];
        Snapshot {
            status: Status {
                name: "load-balancer".to_owned(),
                phase: "idle".to_owned(),
                generations,
                listeners,
                crashes_total: 3,
                ..Status::default()
            },
            tally,
        }
    }

    fn usage(pid: u32) -> Option<Usage> {
        (pid == 7).then_some(Usage {
            cpu: Duration::from_millis(1_500),
            rss_bytes: 4_096,
            descriptors: 33,
            threads: 5,
        })
    }

    #[test]
    fn every_generation_has_its_own_series_and_the_unknown_is_left_out() {
        let text = print(&snapshot(), usage);
        for line in [
            "supervisor_phase{phase=\"idle\"} 1",
            "supervisor_crashes_total 3",
            "supervisor_swaps_total{verdict=\"rolled-back\"} 1",
            "supervisor_last_swap_seconds 2.5",
            "supervisor_drained_connections_total{outcome=\"finished\"} 40",
            "supervisor_drained_connections_total{outcome=\"cut\"} 2",
            "supervisor_drained_connections_total{outcome=\"moved\"} 7",
            "supervisor_stayed_connections_total{reason=\"speaks TLS\"} 3",
            "supervisor_generation_info{generation=\"7\",role=\"incumbent\",version=\"1.3.0\\\"\\n\",sha256=\"\"} 1",
            "supervisor_generation_connections{generation=\"7\"} 12",
            "supervisor_generation_bytes_total{generation=\"6\"} 77",
            "supervisor_generation_accepting{generation=\"6\"} 0",
            "supervisor_generation_cpu_seconds_total{generation=\"7\"} 1.5",
            "supervisor_generation_resident_bytes{generation=\"7\"} 4096",
            "supervisor_generation_open_descriptors{generation=\"7\"} 33",
            "supervisor_listener_sockets{listener=\"web\",address=\"[::]:80\"} 16",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
        }
        for absent in [
            "generation_connections{generation=\"6\"}",
            "generation_cpu_seconds_total{generation=\"6\"}",
            "generation_accepted_total{",
        ] {
            assert!(!text.contains(absent), "{absent} in\n{text}");
        }
    }

    #[test]
    fn the_text_is_well_formed() {
        let text = print(&snapshot(), usage);
        let mut families = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                assert!(families.insert(family.to_owned()), "{family} twice");
                continue;
            }
            if line.starts_with("# HELP ") {
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a value");
            value.parse::<f64>().expect(line);
            let name = series.split('{').next().expect("a name");
            let kind = if name.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            };
            assert!(families.contains(&format!("{name} {kind}")), "{line}");
        }
    }

    #[test]
    fn a_label_cannot_end_its_line() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
