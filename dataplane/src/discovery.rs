//! Discovery: asks the operator which backends there are, and remembers its answer on disk.
//!
//! ```text
//!   ask ──> set, other than the last ──> write to disk, deliver ──> wait the interval ──┐
//!    ▲  ──> unchanged (304, same set) ──────────────────────────────────────────────────┤
//!    │  ──> failed ──> nothing delivered yet? deliver the set on disk ──> back off ─────┤
//!    └──────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Room  one task of the control thread's runtime: carries out what `course` decides. `ask` is the network,
//!       `cache` the disk, `answer` and `url` are pure.
//! In    the operator's URL; its answers, which are not trusted to be right.
//! Out   whole sets through the callback, each one other than the one before.
//! Holds a set is delivered whole or not at all, and a failing operator takes nothing away: what was delivered
//!       last stays in force. No backends at all are delivered only if the operator says so with status 200 and
//!       an explicit empty array.

mod answer;
mod ask;
mod cache;
mod course;
mod url;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use answer::{Discovered, DiscoveryError, parse_backends};
use ask::{Answer, AskError, REQUEST_DEADLINE, ask};
use cache::CacheError;
use course::{Course, Step};
pub use url::OperatorUrl;

/// How long reading or writing the set on disk may take.
///
/// If passed: discovery goes on without it (the write may still end well later). Sized: an fsync of a few
/// megabytes on a disk that others keep busy takes a second or two.
const DISK_DEADLINE: Duration = Duration::from_secs(10);

/// Whom to ask, how often, and where to remember the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoverySettings {
    pub url: OperatorUrl,
    /// Between two requests that succeed; varied by a tenth, so that a fleet does not ask in step.
    pub interval: Duration,
    /// The file that keeps the last good set; `None`: nothing is kept.
    pub cache: Option<PathBuf>,
}

/// How discovery is getting on, for the admin API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryState {
    /// When the operator last gave a good answer, also one that said "unchanged".
    pub last_success: Option<SystemTime>,
    /// Why the last request failed; `None`: it did not.
    pub last_error: Option<String>,
    /// Why the set on disk could not be read or written; `None`: it could.
    pub cache_error: Option<String>,
    /// The set in force was read from disk: the operator has not answered since this process began.
    pub from_disk: bool,
    /// Backends in the set in force; `None`: no set was delivered yet.
    pub backends: Option<usize>,
}

/// The running task; it stops when this is dropped.
#[derive(Debug)]
pub struct Discovery {
    task: JoinHandle<()>,
    first_round: watch::Receiver<bool>,
    state: Arc<Mutex<DiscoveryState>>,
}

impl Discovery {
    /// Starts asking; must be called in a tokio runtime.
    ///
    /// `deliver` is called on that runtime with every new set, and must not block.
    pub fn start(
        settings: DiscoverySettings,
        deliver: impl Fn(Vec<Discovered>) + Send + 'static,
    ) -> Self {
        let (done, first_round) = watch::channel(false);
        let state = Arc::default();
        let round = Round {
            course: Course::new(settings.interval),
            url: settings.url,
            cache: settings.cache,
            deliver,
            state: Arc::clone(&state),
        };
        Self {
            task: tokio::spawn(round.run(done)),
            first_round,
            state,
        }
    }

    /// Returns when a first set was delivered, or the first request failed and no set on disk could stand in.
    ///
    /// That takes as long as one request may take (5 s) and reading a file; a caller may bound it further.
    pub async fn first_round(&self) {
        let mut first_round = self.first_round.clone();
        // An error means that the task has ended: there is nothing to wait for either.
        let _ = first_round.wait_for(|done| *done).await;
    }

    /// How it is getting on.
    pub fn state(&self) -> DiscoveryState {
        locked(&self.state).clone()
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked(state: &Mutex<DiscoveryState>) -> std::sync::MutexGuard<'_, DiscoveryState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the task works with.
struct Round<F> {
    course: Course,
    url: OperatorUrl,
    cache: Option<PathBuf>,
    deliver: F,
    state: Arc<Mutex<DiscoveryState>>,
}

impl<F: Fn(Vec<Discovered>) + Send + 'static> Round<F> {
    async fn run(mut self, done: watch::Sender<bool>) {
        loop {
            let answer = ask(&self.url, self.course.etag(), REQUEST_DEADLINE).await;
            self.note(&answer);
            let fresh = match self.course.hear(answer.ok()) {
                Step::Deliver(set) => Some(set),
                Step::UseDisk => {
                    self.deliver_from_disk().await;
                    None
                }
                Step::Keep => None,
            };
            if let Some(set) = &fresh {
                self.deliver_fresh(set);
            }
            done.send_replace(true);
            // In force before it is on disk: a slow disk delays nobody.
            if let Some(set) = fresh {
                self.remember(set).await;
            }
            tokio::time::sleep(self.course.pause(fastrand::f64())).await;
        }
    }

    fn note(&self, answer: &Result<Answer, AskError>) {
        let mut state = locked(&self.state);
        match answer {
            Ok(_) => {
                if state.last_error.take().is_some() {
                    tracing::info!(operator = %self.url, "the operator answers again");
                }
                state.last_success = Some(SystemTime::now());
                state.from_disk = false;
            }
            Err(error) => {
                let text = error.to_string();
                if state.last_error.as_ref() != Some(&text) {
                    tracing::warn!(operator = %self.url, error = text, "no backends from the operator; the last ones stay");
                }
                state.last_error = Some(text);
            }
        }
    }

    fn deliver_fresh(&self, set: &[Discovered]) {
        tracing::info!(operator = %self.url, backends = set.len(), "backends discovered");
        locked(&self.state).backends = Some(set.len());
        (self.deliver)(set.to_vec());
    }

    async fn remember(&mut self, set: Vec<Discovered>) {
        let Some(path) = self.cache.clone() else {
            return;
        };
        let written = off_thread(move || cache::write(&path, &set)).await;
        self.note_cache(written.err());
    }

    async fn deliver_from_disk(&mut self) {
        let Some(path) = self.cache.clone() else {
            return;
        };
        match off_thread(move || cache::read(&path)).await {
            Ok(Some(set)) => {
                tracing::warn!(operator = %self.url, backends = set.len(), "the operator is away: the set on disk is used");
                {
                    let mut state = locked(&self.state);
                    state.backends = Some(set.len());
                    state.from_disk = true;
                }
                self.course.resumed(&set);
                (self.deliver)(set);
            }
            Ok(None) => {}
            Err(error) => self.note_cache(Some(error)),
        }
    }

    fn note_cache(&self, error: Option<CacheError>) {
        if let Some(error) = &error {
            tracing::warn!(%error, "the set on disk is not usable");
        }
        locked(&self.state).cache_error = error.map(|error| error.to_string());
    }
}

/// Files are read and written where waiting for a disk stops nothing else.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    let working = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(DISK_DEADLINE, working).await {
        Ok(finished) => finished.unwrap_or(Err(CacheError::Interrupted)),
        Err(_) => Err(CacheError::Late(DISK_DEADLINE)),
    }
}

#[cfg(test)]
mod tests;
