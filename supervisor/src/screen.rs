//! Everything this binary prints.

use std::io::{IsTerminal as _, Write as _};

use tracing_subscriber::EnvFilter;

/// Logs to standard error; the journal adds its own time.
pub(crate) fn start_logging() {
    let filter = EnvFilter::try_from_env("LOG_LEVEL").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().init();
    } else {
        builder.init();
    }
}

/// A line of a command's result.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A line about what went wrong.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "supervisor: {line}");
}

/// Progress that the next line replaces on a terminal; without one, nothing.
pub(crate) fn progress(line: &str) {
    let mut out = std::io::stdout().lock();
    if std::io::stdout().is_terminal() {
        let _ = write!(out, "\r\x1b[K{line}");
        let _ = out.flush();
    }
}

/// Ends a progress line.
pub(crate) fn end_progress() {
    if std::io::stdout().is_terminal() {
        let _ = write!(std::io::stdout().lock(), "\r\x1b[K");
    }
}
