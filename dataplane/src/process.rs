//! What a worker is as a process: its log, its descriptor limit, the signals it obeys.
//!
//! Room  set-up at the start of `main`; nothing here knows what the process serves.
//! Holds the log goes to standard error only; standard output belongs to answers.

use std::io::{self, IsTerminal as _};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, reload};

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The words for it in configurations.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("off", Self::Off),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        let word = Self::WORDS.iter().find(|(_, level)| *level == self);
        word.map_or("info", |(word, _)| word)
    }

    fn filter(self) -> EnvFilter {
        let level = match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        };
        EnvFilter::default().add_directive(level.into())
    }
}

/// The running log; its level can be changed.
pub struct Log(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl Log {
    /// Logs to standard error from now on: with colours on a terminal, without timestamps where the
    /// journal adds its own (`JOURNAL_STREAM`, systemd.exec(5)).
    ///
    /// # Errors
    /// The process logs already.
    pub fn start(level: LogLevel) -> Result<Self, TryInitError> {
        let builder = tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_env_filter(level.filter());
        // Two types of subscriber, so two arms.
        if std::env::var_os("JOURNAL_STREAM").is_some() {
            let builder = builder.without_time().with_filter_reloading();
            let handle = builder.reload_handle();
            builder.finish().try_init()?;
            Ok(Self::over(handle))
        } else {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.finish().try_init()?;
            Ok(Self::over(handle))
        }
    }

    /// Puts another level in force.
    pub fn set_level(&self, level: LogLevel) {
        (self.0)(level.filter());
    }

    fn over<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> Self {
        // Fails only when the subscriber is gone, and then nobody logs.
        Self(Box::new(move |filter| drop(handle.reload(filter))))
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// Raises the soft limit of open descriptors to the hard limit; returns what is in force (`None`: no
/// limit). A proxy needs two for each connection; setrlimit(2), RLIMIT_NOFILE.
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// Descriptors for which the kernel's table is made at the start. Sized: half a megabyte of kernel memory.
const TABLE_MAX: u64 = 64 * 1024;

/// Makes the kernel's table of descriptors as long as the limit allows, while there is one thread. It grows by doubling, and
/// each time a process with threads waits for all processors to leave the old one (expand_files in the kernel's fs/file.c): ten
/// milliseconds and more, in which neither an accept nor a connection from another process goes on.
pub fn reserve_descriptors() {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(TABLE_MAX);
    let last = i32::try_from(limit.min(TABLE_MAX)).unwrap_or(i32::MAX) - 1;
    // Refused: it grows when it must.
    let _ = rustix::io::fcntl_dupfd_cloexec(io::stderr(), last);
}

/// Open descriptors and the limit in force (`None`: no limit); `None` where /proc cannot be read (proc(5)).
pub fn descriptors() -> Option<(u64, Option<u64>)> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the directory's own.
    let used = u64::try_from(open).unwrap_or(u64::MAX).saturating_sub(1);
    Some((used, getrlimit(Resource::Nofile).current))
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain and exit; a second one: exit now.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals this process obeys.
#[derive(Debug)]
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hang_up: Stream,
}

impl Signals {
    /// Takes the signals over from their default actions; needs a tokio runtime.
    ///
    /// # Errors
    /// The host has no descriptors left.
    pub fn take_over() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LogLevel, raise_descriptor_limit};

    #[test]
    fn the_descriptor_limit_is_as_high_as_it_may_be() {
        let in_force = raise_descriptor_limit();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(in_force, limit.maximum);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn every_level_has_its_word() {
        for (word, level) in LogLevel::WORDS {
            assert_eq!(level.as_str(), word);
        }
    }
}
