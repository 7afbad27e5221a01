//! The one place where this program writes: lines for people, or JSON lines for programs.
//!
//! Room  standard output and standard error.
//! In    lines, progress, events.
//! Out   on a terminal a progress line that is overwritten; elsewhere a plain one every 2 s; with --json only JSON.
//! Holds with --json standard output has one JSON object per line and nothing else.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use serde_json::Value;

/// Between two progress lines where they pile up (a log, a pipe).
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

/// Returns to the line's beginning and erases it.
const ERASE: &str = "\r\x1b[K";

/// The width of a terminal that does not say: what terminals have had since the punched card.
const COLUMNS: usize = 80;

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Terminal,
    Log,
    Program,
}

/// Writes what a command has to say.
#[derive(Debug)]
pub struct Output {
    reader: Reader,
    has_progress: bool,
    last_plain: Option<Instant>,
}

impl Output {
    /// Standard output as it is; `json`: for a program.
    pub fn new(json: bool) -> Self {
        let reader = match (json, stdout().is_terminal()) {
            (true, _) => Reader::Program,
            (false, true) => Reader::Terminal,
            (false, false) => Reader::Log,
        };
        Self {
            reader,
            has_progress: false,
            last_plain: None,
        }
    }

    /// A line, or several, for people.
    pub fn line(&mut self, text: &str) {
        if self.reader != Reader::Program {
            let erase = if std::mem::take(&mut self.has_progress) {
                ERASE
            } else {
                ""
            };
            write(&format!("{erase}{text}\n"));
        }
    }

    /// How it goes. Overwritten by the next one on a terminal; at most every 2 s elsewhere.
    pub fn progress(&mut self, text: &str) {
        match self.reader {
            Reader::Program => {}
            Reader::Terminal => {
                self.has_progress = true;
                write(&format!("{ERASE}{}", fit(text)));
            }
            Reader::Log => {
                if self
                    .last_plain
                    .is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL)
                {
                    self.last_plain = Some(Instant::now());
                    write(&format!("{text}\n"));
                }
            }
        }
    }

    /// An event for programs.
    pub fn event(&mut self, event: &Value) {
        if self.reader == Reader::Program {
            write(&format!("{event}\n"));
        }
    }
}

/// As much of `text` as fits one line of the terminal: a line that wraps cannot be overwritten.
fn fit(text: &str) -> String {
    // Some terminals say 0 columns when they do not know.
    let columns = tcgetwinsize(stdout()).map_or(0, |size| usize::from(size.ws_col));
    let width = if columns == 0 { COLUMNS } else { columns };
    text.chars().take(width.saturating_sub(1)).collect()
}

/// Nobody reads any more (a closed pipe): there is nobody to tell, and the exit code still has the verdict.
fn write(text: &str) {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .unwrap_or_default();
}

/// A mistake or a fault, on standard error.
pub fn complain(text: &str) {
    writeln!(stderr().lock(), "bench: {text}").unwrap_or_default();
}
