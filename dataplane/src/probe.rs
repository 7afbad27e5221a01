//! Active health checks and name resolution: one task for each upstream, on the control thread.
//!
//! Room  asks backends and reports to the [`Upstream`]; what a result means is decided in `health.rs`.
//! Holds every check is bounded in time and bytes; checks are spread (jitter), so that a thousand backends
//!       are not asked in the same millisecond.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::backend::Backend;
use crate::health::{CheckKind, HealthCheck, ProbeOutcome};
use crate::upstream::Upstream;

/// How often host names are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

/// How soon a name that did not resolve is tried again.
const RESOLVE_RETRY: Duration = Duration::from_secs(2);

/// How long a resolution may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// How often the prober looks whether something is due.
const LOOK: Duration = Duration::from_millis(100);

/// Most checks of one upstream at once.
const CHECKS_MAX: usize = 64;

/// Longest head of a check's answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The checks of one upstream; they end when this is dropped.
#[derive(Debug)]
pub struct Prober {
    task: JoinHandle<()>,
    first_round: watch::Receiver<bool>,
}

impl Prober {
    /// Starts checking and resolving; must be called in a tokio runtime.
    pub fn start(upstream: Arc<Upstream>) -> Self {
        let (done, first_round) = watch::channel(false);
        Self {
            task: tokio::spawn(run(upstream, done)),
            first_round,
        }
    }

    /// Returns when every backend was resolved and checked once.
    pub async fn first_round(&self) {
        let mut first_round = self.first_round.clone();
        let _ = first_round.wait_for(|done| *done).await;
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When a backend is due.
struct Schedule {
    backend: Arc<Backend>,
    resolve_at: Option<Instant>,
    check_at: Instant,
    busy: bool,
    checked: bool,
}

impl Schedule {
    /// Due at once.
    fn of(backend: &Arc<Backend>, now: Instant) -> Self {
        Self {
            resolve_at: backend.needs_resolving().then_some(now),
            backend: Arc::clone(backend),
            check_at: now,
            busy: false,
            checked: false,
        }
    }
}

async fn run(upstream: Arc<Upstream>, done: watch::Sender<bool>) {
    let mut schedules: Vec<Schedule> = Vec::new();
    let mut running: JoinSet<Arc<Backend>> = JoinSet::new();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {
                follow(&upstream, &mut schedules);
                start_due(&upstream, &mut schedules, &mut running);
            }
            Some(finished) = running.join_next() => {
                if let Ok(backend) = finished {
                    note_finished(&upstream, &mut schedules, &backend);
                }
            }
        }
        let has_check = upstream.settings().health_check.is_some();
        let complete = schedules
            .iter()
            .all(|one| one.checked || (!has_check && one.resolve_at.is_none()));
        if complete {
            done.send_replace(true);
        }
    }
}

/// Takes over the current list of backends.
fn follow(upstream: &Upstream, schedules: &mut Vec<Schedule>) {
    let backends = upstream.backends();
    let is_same = |(one, backend): (&Schedule, &Arc<Backend>)| Arc::ptr_eq(&one.backend, backend);
    if schedules.len() == backends.len() && schedules.iter().zip(&backends).all(is_same) {
        return;
    }
    let mut before = std::mem::take(schedules);
    let now = Instant::now();
    schedules.extend(backends.into_iter().map(|backend| {
        let known = before
            .iter()
            .position(|one| Arc::ptr_eq(&one.backend, &backend));
        known.map_or_else(
            || Schedule::of(&backend, now),
            |known| before.swap_remove(known),
        )
    }));
}

fn start_due(
    upstream: &Arc<Upstream>,
    schedules: &mut [Schedule],
    running: &mut JoinSet<Arc<Backend>>,
) {
    let now = Instant::now();
    let check = upstream.settings().health_check.clone();
    for one in schedules.iter_mut().filter(|one| !one.busy) {
        if let Some(check) = &check {
            // A reload may have made the interval shorter than what is left of the last one.
            one.check_at = one.check_at.min(now + check.interval.mul_f64(1.1));
        }
        let resolve = one.resolve_at.is_some_and(|at| now >= at);
        let probe = check.clone().filter(|_| now >= one.check_at);
        if (!resolve && probe.is_none()) || running.len() >= CHECKS_MAX {
            continue;
        }
        one.busy = true;
        running.spawn(examine(
            Arc::clone(upstream),
            Arc::clone(&one.backend),
            resolve,
            probe,
        ));
    }
}

fn note_finished(upstream: &Upstream, schedules: &mut [Schedule], backend: &Arc<Backend>) {
    let now = Instant::now();
    let check = upstream.settings().health_check.clone();
    for one in schedules
        .iter_mut()
        .filter(|one| Arc::ptr_eq(&one.backend, backend))
    {
        one.busy = false;
        one.checked = true;
        if one.resolve_at.is_some_and(|at| now >= at) {
            let after = if backend.address().is_some() {
                RESOLVE_INTERVAL
            } else {
                RESOLVE_RETRY
            };
            one.resolve_at = Some(now + after);
        }
        if let Some(check) = check.as_ref().filter(|_| now >= one.check_at) {
            one.check_at = now + jittered(check.interval);
        }
    }
}

/// ± 10 %.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}

async fn examine(
    upstream: Arc<Upstream>,
    backend: Arc<Backend>,
    resolve: bool,
    probe: Option<HealthCheck>,
) -> Arc<Backend> {
    if resolve {
        resolve_name(&upstream, &backend).await;
    }
    if let Some(check) = probe {
        let outcome = match backend.address() {
            Some(address) => ask(&check, address, backend.label()).await,
            None => ProbeOutcome::Failed(format!("{} does not resolve", backend.label())),
        };
        // One that was replaced meanwhile under the same id must not be judged by its predecessor's answer.
        if upstream
            .backends()
            .iter()
            .any(|known| Arc::ptr_eq(known, &backend))
        {
            upstream.probe_result(backend.id(), &outcome, Instant::now());
        }
    }
    backend
}

/// A name that stops resolving keeps its last address: the name service must not cause an outage.
async fn resolve_name(upstream: &Upstream, backend: &Backend) {
    let looked_up =
        tokio::time::timeout(RESOLVE_DEADLINE, tokio::net::lookup_host(backend.label())).await;
    let found = match looked_up {
        Ok(Ok(mut addresses)) => addresses.next(),
        Ok(Err(_)) | Err(_) => None,
    };
    match found {
        Some(address) if backend.address() != Some(address) => {
            tracing::info!(upstream = upstream.name(), backend = backend.label(), %address, "resolved");
            backend.set_address(Some(address));
            upstream.publish(Instant::now());
        }
        Some(_) => {}
        None => tracing::warn!(
            upstream = upstream.name(),
            backend = backend.label(),
            "does not resolve"
        ),
    }
}

/// One check.
async fn ask(check: &HealthCheck, address: SocketAddr, label: &str) -> ProbeOutcome {
    let port = check.port.unwrap_or_else(|| address.port());
    let address = SocketAddr::new(address.ip(), port);
    let asking = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("connect to {address}: {error}"))?;
        match &check.kind {
            CheckKind::Tcp => Ok(()),
            CheckKind::Http { path, host, expect } => {
                let status = get(stream, path, host.as_deref().unwrap_or(label)).await?;
                if expect.contains(&status) {
                    Ok(())
                } else {
                    Err(format!("GET {path} answered {status}"))
                }
            }
        }
    };
    match tokio::time::timeout(check.timeout, asking).await {
        Ok(Ok(())) => ProbeOutcome::Passed,
        Ok(Err(why)) => ProbeOutcome::Failed(why),
        Err(_) => ProbeOutcome::Failed(format!("no answer within {:?}", check.timeout)),
    }
}

/// The status of `GET path`; the body is not read, the connection is closed.
async fn get(stream: TcpStream, path: &str, host: &str) -> Result<u16, String> {
    let broken = |error: hyper::Error| format!("GET {path}: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = Request::get(path)
        .header("host", host)
        .header("user-agent", "zeitwork-health-check")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("GET {path}: {error}"))?;
    // A task of its own: in one task, the end of the connection could overtake the answer on it.
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await;
    connection.abort();
    response
        .map(|response| response.status().as_u16())
        .map_err(broken)
}

#[cfg(test)]
mod tests;
