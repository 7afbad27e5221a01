//! Certificates that change on disk are loaded while connections go on.
//!
//! ```text
//!   stat, every two seconds ──changed──▶ load ──fits──▶ in force
//!                                          └─no──▶ the old one stays; asked again when a file changes
//! ```
//!
//! Room  a task of the control thread.
//! Holds files are compared by what they are (inode, size, time), following links: a rename is seen, and so is a
//!       link that points elsewhere.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::CertificateStore;
use crate::settings::CertificateFiles;

/// How often files are looked at. Sized: a person who replaces a certificate looks for it after some seconds.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// What tells one state of a file from another.
type Mark = Option<(u64, u64, u64, i64, i64)>;

/// Ends with its value.
#[derive(Debug)]
pub struct Watcher {
    task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Marks of the pairs that are loaded or were refused.
type Seen = Mutex<HashMap<CertificateFiles, (Mark, Mark)>>;

impl Watcher {
    /// Watches the files of these stores; needs a tokio runtime.
    #[must_use]
    pub fn start(stores: Vec<Arc<CertificateStore>>, interval: Duration) -> Self {
        let seen = Seen::default();
        // What is on disk now is what was loaded a moment ago.
        for files in stores.iter().flat_map(|store| store.files()) {
            let marks = marks(&files);
            lock(&seen).insert(files, marks);
        }
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                look(&stores, &seen);
            }
        });
        Self { task }
    }
}

fn lock(seen: &Seen) -> std::sync::MutexGuard<'_, HashMap<CertificateFiles, (Mark, Mark)>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look(stores: &[Arc<CertificateStore>], seen: &Seen) {
    for store in stores {
        for files in store.files() {
            let marks = marks(&files);
            let before = lock(seen).insert(files.clone(), marks);
            if before == Some(marks) {
                continue;
            }
            match store.reload(&files) {
                Ok(()) => {
                    tracing::info!(certificate = %files.certificate.display(), "a certificate was loaded again");
                }
                Err(error) => {
                    tracing::warn!(%error, "a certificate on disk cannot be used; the one before stays in force");
                }
            }
        }
    }
}

fn marks(files: &CertificateFiles) -> (Mark, Mark) {
    (mark(&files.certificate), mark(&files.key))
}

fn mark(path: &Path) -> Mark {
    let file = std::fs::metadata(path).ok()?;
    Some((
        file.dev(),
        file.ino(),
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
    ))
}
