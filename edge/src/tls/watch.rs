//! The watcher: looks at the files of every certificate in a fixed rhythm and puts good new ones in force.
//!
//! ```text
//!   interval ──▶ look (a blocking thread) ──▶ stores: a good pair is in force, a bad one is refused
//! ```
//!
//! Room  a task of the control thread. What is good is `store`'s matter; what is counted is read from its statuses.
//! In    the stores of all listeners.
//! Holds files are polled, not watched by inotify, which misses changes on network file systems and behind the
//!       swapped links of mounted secrets. A slow file system delays the next look, never a handshake.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::store::{CertificateStatus, CertificateStore, Look};

/// How often the files are looked at. Sized: a `stat` of each file; a renewal is in force within two looks.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(2);

type Stores = Arc<[Arc<CertificateStore>]>;

/// The running task; it ends with this value.
#[derive(Debug)]
pub struct Watcher {
    stores: Stores,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts on the caller's tokio runtime and looks every `interval` (see [`WATCH_INTERVAL`]).
    #[must_use]
    pub fn start(stores: Vec<Arc<CertificateStore>>, interval: Duration) -> Self {
        let stores: Stores = stores.into();
        let task = tokio::spawn(keep_looking(Arc::clone(&stores), interval));
        Self { stores, task }
    }

    /// Looks at all files now, changed or not, and judges at once; returns what became of them.
    pub async fn reload_now(&self) -> Vec<CertificateStatus> {
        look(Arc::clone(&self.stores), Look::Everything).await;
        self.statuses()
    }

    /// Every certificate of every listener, in the order of the configuration.
    #[must_use]
    pub fn statuses(&self) -> Vec<CertificateStatus> {
        let each = self.stores.iter();
        each.flat_map(|store| store.statuses()).collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_looking(stores: Stores, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look(Arc::clone(&stores), Look::Changed).await;
    }
}

/// On a thread for blocking work: the control thread has health checks to time.
async fn look(stores: Stores, look: Look) {
    let looked = tokio::task::spawn_blocking(move || {
        for store in stores.iter() {
            store.refresh(look, SystemTime::now());
        }
    });
    // Cancelled: the runtime is shutting down.
    if let Err(error) = looked.await
        && error.is_panic()
    {
        tracing::error!(%error, "looking at the certificates failed; the next look tries again");
    }
}
