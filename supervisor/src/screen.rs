//! Everything this binary prints.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// Lines of progress on the terminal now.
static DRAWN: AtomicUsize = AtomicUsize::new(0);

/// When a log last had a line of progress.
static LOGGED: Mutex<Option<Instant>> = Mutex::new(None);

/// Between two lines of progress where they pile up (a log, a pipe).
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Progress that the next one replaces on a terminal; without one, nothing.
pub(crate) fn progress(line: &str) {
    if std::io::stdout().is_terminal() {
        draw(&[line.to_owned()]);
    }
}

/// Several lines of progress on a terminal; elsewhere `line`, now and then.
pub(crate) fn redraw(lines: &[String], line: impl FnOnce() -> String) {
    if std::io::stdout().is_terminal() {
        return draw(lines);
    }
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    // The first after a while, too: what takes no longer needs no progress.
    let last = *logged.get_or_insert(now);
    if now.saturating_duration_since(last) >= LOG_INTERVAL {
        *logged = Some(now);
        say(&line());
    }
}

/// Ends the progress: the next line begins where it began.
pub(crate) fn end_progress() {
    if std::io::stdout().is_terminal() {
        draw(&[]);
    }
}

fn draw(lines: &[String]) {
    let before = DRAWN.swap(lines.len(), Ordering::Relaxed);
    let mut out = std::io::stdout().lock();
    let lines: Vec<String> = lines.iter().map(|line| fit(line)).collect();
    let _ = write!(out, "{}", over(before, &lines));
    let _ = out.flush();
}

/// As much as fits one line of the terminal: one that wraps cannot be written over.
fn fit(line: &str) -> String {
    // Some terminals say 0 columns when they do not know.
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    let columns = if columns == 0 { 80 } else { columns };
    line.chars().take(columns.saturating_sub(1)).collect()
}

/// Goes up to where so many lines began, erases to the end of the screen, writes others (ECMA-48: CUU, ED). The cursor
/// stays at the end of the last one, so that a terminal of few lines does not scroll.
fn over(before: usize, lines: &[String]) -> String {
    let up = match before {
        0 | 1 => String::new(),
        more => format!("\x1b[{}A", more - 1),
    };
    format!("{up}\r\x1b[J{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::over;

    #[test]
    fn lines_are_written_over_those_before() {
        let lines = |count: usize| -> Vec<String> { (0..count).map(|n| n.to_string()).collect() };
        let table = [
            (0, 0, "\r\x1b[J"),
            (0, 2, "\r\x1b[J0\n1"),
            (1, 1, "\r\x1b[J0"),
            (4, 2, "\x1b[3A\r\x1b[J0\n1"),
            (2, 0, "\x1b[1A\r\x1b[J"),
        ];
        for (before, now, expected) in table {
            assert_eq!(over(before, &lines(now)), expected, "{before} {now}");
        }
    }
}
