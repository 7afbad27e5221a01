//! The binary of this supervisor: which one runs, and how another one takes its place in the same process.
//!
//! Holds  a failed exec changes nothing: signals, standard input and every descriptor are as before.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};
use sha2::{Digest as _, Sha256};

use crate::carried::Clock;
use crate::child::PRIVATE_VARIABLES;
use crate::record::Artifact;

/// The service that `--version` names to a supervisor that asks.
pub(crate) const SERVICE: &str = "supervisor";

/// Tells a supervisor that standard input holds what its predecessor in this process left.
pub(crate) const ADOPT_VARIABLE: &str = "ZEITWORK_ADOPT";

static DIGEST: OnceLock<String> = OnceLock::new();

/// Begins to find out the digest of the running binary, on a thread that ends with that.
pub(crate) fn learn_digest() {
    let learning = std::thread::Builder::new().name("digest".to_owned());
    let _ = learning.spawn(|| {
        hold_signals();
        digest()
    });
}

/// The digest, if it is known by now.
pub(crate) fn known_digest() -> &'static str {
    DIGEST.get().map_or("", String::as_str)
}

/// The digest of the running binary; takes as long as reading it.
pub(crate) fn digest() -> &'static str {
    DIGEST.get_or_init(|| hash(Path::new("/proc/self/exe")).unwrap_or_default())
}

/// The running binary.
pub(crate) fn running() -> Artifact {
    Artifact {
        path: std::env::current_exe().unwrap_or_default(),
        version: crate::VERSION.to_owned(),
        sha256: digest().to_owned(),
        service: SERVICE.to_owned(),
    }
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        digest.update(bytes);
    }
    let digest = digest.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Now, on the clock that goes on across an exec.
pub(crate) fn clock() -> Clock {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    Clock {
        instant: Instant::now(),
        ns: part(now.tv_sec)
            .saturating_mul(1_000_000_000)
            .saturating_add(part(now.tv_nsec)),
    }
}

/// Becomes `binary`, with this process's own arguments and environment; returns only when that failed.
///
/// To be called with [`hold_signals`] in force: a stop that arrives in between waits for the next one's handlers.
pub(crate) fn become_next(binary: PathBuf, parcel: &OwnedFd) -> io::Error {
    let text = |bytes: Vec<u8>| CString::new(bytes).unwrap_or_default();
    let path = text(binary.into_os_string().into_vec());
    let own = std::env::args_os().skip(1);
    let mut arguments = vec![path.clone()];
    arguments.extend(own.map(|argument| text(argument.into_vec())));
    let environment: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| !is_spent(name.to_str().unwrap_or_default()))
        .chain([(ADOPT_VARIABLE.into(), "stdin".into())])
        .map(|(name, value)| {
            let mut line = name.into_vec();
            line.push(b'=');
            line.extend(value.into_vec());
            text(line)
        })
        .collect();
    let attempt = || -> io::Result<()> {
        let before = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(parcel)?;
        let failed = nix::unistd::execve(&path, &arguments, &environment);
        let _ = rustix::stdio::dup2_stdin(&before);
        Err(failed.map_or_else(io::Error::from, |never| match never {}))
    };
    attempt().map_or_else(|error| error, |()| io::ErrorKind::Other.into())
}

/// Signals that this supervisor handles wait from now on, as far as this thread is concerned.
pub(crate) fn hold_signals() {
    let _ = handled_signals().thread_block();
}

/// Lets them in again; also those that a predecessor in this process held back for us.
pub(crate) fn hear_signals() {
    let _ = handled_signals().thread_unblock();
}

fn handled_signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
        .into_iter()
        .collect()
}

/// Variables about descriptors that are ours by now; NOTIFY_SOCKET and WATCHDOG_* stay true, as the process does.
fn is_spent(name: &str) -> bool {
    let stays = name.starts_with("WATCHDOG_") || name == "NOTIFY_SOCKET";
    PRIVATE_VARIABLES.contains(&name) && !stays
}
