//! Where a supervisor keeps things, and who may see them.
//!
//! ```text
//!   STATE_DIR/NAME/record.json        what is committed        (survives a reboot)
//!                  history.jsonl      how every swap ended
//!                  store/VERSION-HASH/…  staged binaries
//!                  supervisors/VERSION-HASH/…  staged binaries of self-upgrades
//!   RUNTIME_DIR/NAME/control.sock     people and drivers       (gone after a reboot)
//!                    handoff.sock     workers that lost their supervisor
//!                    workers.json     who is alive
//!                    self-upgrade.json  a self-upgrade is between two supervisors
//!                    lock             held by the one supervisor of this name
//! ```
//!
//! Holds  every directory is 0700; a file is replaced whole or not at all.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket, in bytes (unix(7): 108 with its end).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The directories of one service.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    state: PathBuf,
    runtime: PathBuf,
}

/// A directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("{path}: {source}; choose another place with {flag}")]
    Unusable {
        path: PathBuf,
        flag: &'static str,
        source: io::Error,
    },
    #[error(
        "{0}: too long for a socket ({SOCKET_PATH_BYTES_MAX} bytes); choose a shorter --runtime-dir"
    )]
    TooLong(PathBuf),
    #[error(
        "a supervisor named {0:?} already runs on this host; see `supervisor status --name {0}`"
    )]
    Taken(String),
}

impl Layout {
    /// Creates what is missing.
    pub(crate) fn create(
        name: &str,
        state_dir: &Path,
        runtime_dir: &Path,
    ) -> Result<Self, LayoutError> {
        let layout = Self {
            state: private_dir(state_dir.join(name), "--state-dir")?,
            runtime: private_dir(runtime_dir.join(name), "--runtime-dir")?,
        };
        private_dir(layout.store(), "--state-dir")?;
        private_dir(layout.supervisors(), "--state-dir")?;
        for socket in [layout.control_socket(), layout.rendezvous()] {
            if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
                return Err(LayoutError::TooLong(socket));
            }
        }
        Ok(layout)
    }

    /// Makes this process the only supervisor of `name`; the lock dies with its owner.
    pub(crate) fn lock(&self, name: &str) -> Result<File, LayoutError> {
        let path = self.runtime.join("lock");
        let unusable = |source| LayoutError::Unusable {
            path: path.clone(),
            flag: "--runtime-dir",
            source,
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(unusable)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LayoutError::Taken(name.to_owned())),
            Err(error) => Err(unusable(error.into())),
        }
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.state.join("record.json")
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.state.join("history.jsonl")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.state.join("store")
    }

    pub(crate) fn supervisors(&self) -> PathBuf {
        self.state.join("supervisors")
    }

    pub(crate) fn self_upgrade(&self) -> PathBuf {
        self.runtime.join("self-upgrade.json")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    pub(crate) fn rendezvous(&self) -> PathBuf {
        self.runtime.join("handoff.sock")
    }

    pub(crate) fn workers(&self) -> PathBuf {
        self.runtime.join("workers.json")
    }

    pub(crate) fn notify_socket(&self, generation: u64) -> PathBuf {
        self.runtime.join(format!("notify-{generation}.sock"))
    }
}

fn private_dir(path: PathBuf, flag: &'static str) -> Result<PathBuf, LayoutError> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o700)))
        .and_then(|()| path.canonicalize());
    made.map_err(|source| LayoutError::Unusable { path, flag, source })
}

/// Replaces a file: a reader sees the whole of the one or the other, also after a power loss.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(parent)?.sync_all()
}
