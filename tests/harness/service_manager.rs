//! A stand-in for systemd: the notify socket of one unit, and its descriptor store.
//!
//! Source: sd_notify(3). Real systemd is tested in the lab; here every message can be looked at.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

/// Longest datagram, in bytes.
const DATAGRAM_BYTES_MAX: usize = 4096;

/// Descriptors of one datagram.
const DATAGRAM_FDS_MAX: usize = 16;

/// How often the listening thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

/// Everything that arrived.
#[derive(Debug, Default)]
struct Heard {
    lines: Vec<String>,
    store: BTreeMap<String, OwnedFd>,
    stored_without_poll: usize,
}

/// Listens on a notify socket until dropped.
#[derive(Debug)]
pub struct ServiceManager {
    path: PathBuf,
    heard: Arc<Mutex<Heard>>,
    running: Arc<()>,
}

impl ServiceManager {
    /// Binds `notify.sock` in a directory.
    ///
    /// # Panics
    /// When it cannot be bound.
    pub fn listen(dir: &Path) -> Self {
        let path = dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("binds");
        socket.set_read_timeout(Some(LOOK)).expect("set");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let running = Arc::new(());
        let (ears, owner) = (Arc::clone(&heard), Arc::downgrade(&running));
        std::thread::spawn(move || {
            while owner.strong_count() > 0 {
                if let Some((text, fds)) = receive(&socket) {
                    ears.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .take(&text, fds);
                }
            }
        });
        Self {
            path,
            heard,
            running,
        }
    }

    /// Value of NOTIFY_SOCKET.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many lines were exactly this, or began so when it ends in `=`.
    pub fn count(&self, wanted: &str) -> usize {
        let is_wanted = |line: &&String| {
            if wanted.ends_with('=') {
                line.starts_with(wanted)
            } else {
                *line == wanted
            }
        };
        self.with(|heard| heard.lines.iter().filter(is_wanted).count())
    }

    /// The last line that began so.
    pub fn last(&self, start: &str) -> Option<String> {
        self.with(|heard| {
            heard
                .lines
                .iter()
                .rfind(|line| line.starts_with(start))
                .cloned()
        })
    }

    /// Names in the descriptor store.
    pub fn stored(&self) -> Vec<String> {
        self.with(|heard| heard.store.keys().cloned().collect())
    }

    /// Descriptors that were stored without FDPOLL=0: a manager would drop them on an error.
    pub fn stored_without_poll(&self) -> usize {
        self.with(|heard| heard.stored_without_poll)
    }

    /// Duplicates of the store, as the next start of the unit would inherit them.
    ///
    /// # Panics
    /// When descriptors run out.
    pub fn duplicates(&self) -> Vec<(String, OwnedFd)> {
        self.with(|heard| {
            let pairs = heard.store.iter();
            pairs
                .map(|(name, fd)| (name.clone(), fd.try_clone().expect("duplicates")))
                .collect()
        })
    }

    fn with<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        debug_assert!(Arc::strong_count(&self.running) > 0);
        look(&self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Heard {
    fn take(&mut self, text: &str, mut fds: Vec<OwnedFd>) {
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        let name = line("FDNAME=").unwrap_or("stored").to_owned();
        if line("FDSTOREREMOVE=1").is_some() {
            self.store.remove(&name);
        } else if line("FDSTORE=1").is_some() {
            self.stored_without_poll += usize::from(line("FDPOLL=0").is_none());
            if let Some(fd) = fds.pop() {
                self.store.insert(name, fd);
            }
        }
        self.lines.extend(text.lines().map(str::to_owned));
    }
}

fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DATAGRAM_FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(socket, &mut slices, &mut control, flags).ok()?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let text = String::from_utf8_lossy(bytes.get(..received.bytes)?).into_owned();
    Some((text, fds))
}
