//! The access log: one JSON object a request, written by a thread of its own.
//!
//! ```text
//!   worker ──Record──▶ Lines (its own) ──many at once──▶ bounded queue ──▶ log thread ──▶ stdout or a file
//! ```
//!
//! Room  formatting and writing; what is known of a request is gathered by the engines.
//! Holds a line waits a tick at most, and a worker that ends hands over what it has. A slow disk never holds a request up: a full queue drops the record and counts it. Whatever a client
//!       sent is escaped by the JSON writer; it cannot begin a line of its own.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::policy::Client;
use crate::settings::AccessLogTarget;

/// Batches that may wait. Sized: a second of a busy core, 16 MiB.
const QUEUE_MAX: usize = 1024;

/// Bytes of lines that a worker hands over at once. Sized: some 30 lines; waking the writing thread for each one cost more
/// than the request (docs/performance.md).
const BATCH_BYTES: usize = 16 * 1024;

/// How long a record may stay in memory.
const FLUSH_AFTER: Duration = Duration::from_millis(500);

/// One request as the log shows it; `docs/configuration.md` explains each field.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// RFC 3339, when the head had arrived.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    pub client: IpAddr,
    pub peer: IpAddr,
    pub listener: String,
    pub protocol: Cow<'static, str>,
    pub tls: bool,
    pub method: String,
    pub host: String,
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// 0: none could be given.
    pub status: u16,
    pub end_reason: Cow<'static, str>,
    pub duration_ms: f64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub attempts: u32,
    pub request_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What is known of a request when its head has arrived.
#[derive(Debug)]
pub(crate) struct Opening<'o> {
    pub(crate) client: &'o Client,
    pub(crate) listener: String,
    pub(crate) protocol: &'static str,
    pub(crate) method: &'o str,
    pub(crate) host: String,
    pub(crate) path: String,
}

impl Record {
    /// A request that begins; `text` finds a field's value, made printable.
    pub(crate) fn open(opening: Opening<'_>, text: impl Fn(&str) -> Option<String>) -> Box<Self> {
        Box::new(Self {
            time: SystemTime::now(),
            client: opening.client.peer,
            peer: opening.client.peer,
            listener: opening.listener,
            protocol: opening.protocol.into(),
            tls: opening.client.is_tls,
            method: opening.method.to_owned(),
            host: opening.host,
            path: opening.path,
            route: None,
            upstream: None,
            backend: None,
            status: 0,
            end_reason: "".into(),
            duration_ms: 0.0,
            bytes_received: 0,
            bytes_sent: 0,
            attempts: 0,
            request_id: String::new(),
            user_agent: text("user-agent"),
            referer: text("referer"),
            traceparent: text("traceparent"),
        })
    }
}

/// A moment in a record.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        at: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_micros(*at))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}

/// The workers' end of the log.
#[derive(Clone, Debug)]
pub struct LogWriter {
    queue: SyncSender<Batch>,
    reopen: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
    target: AccessLogTarget,
}

impl LogWriter {
    /// Opens the target and starts the writing thread, which ends with the last writer.
    ///
    /// # Errors
    /// The file cannot be opened, or the host has no threads left.
    pub fn start(target: AccessLogTarget) -> io::Result<Self> {
        let sink = Sink::open(&target)?;
        let (queue, batches) = sync_channel(QUEUE_MAX);
        let reopen = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&reopen);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(sink, &batches, &asked))?;
        Ok(Self {
            queue,
            reopen,
            dropped: Arc::default(),
            target,
        })
    }

    /// Where it writes.
    #[must_use]
    pub fn target(&self) -> &AccessLogTarget {
        &self.target
    }

    /// Opens the file again before the next record: it was rotated.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Records that found the queue full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn send(&self, batch: Batch) {
        let count = batch.count;
        if self.queue.try_send(batch).is_err() {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.dropped, &other.dropped)
    }

    /// Waits until everything handed over has been written, at most for `within`: a process that ends takes nothing along.
    pub fn settle(&self, within: Duration) {
        let (done, written) = sync_channel(1);
        let mut last = Batch {
            lines: Vec::new(),
            count: 0,
            written: Some(done),
        };
        let deadline = Instant::now() + within;
        // The queue may be full.
        while let Err(TrySendError::Full(again)) = self.queue.try_send(last) {
            if Instant::now() > deadline {
                return;
            }
            last = again;
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Lines on their way to the writing thread.
#[derive(Debug)]
struct Batch {
    lines: Vec<u8>,
    count: u64,
    /// Told once the batch has been written.
    written: Option<SyncSender<()>>,
}

/// One worker's lines that are not on their way yet.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    count: u64,
    writer: Option<LogWriter>,
}

impl Lines {
    pub(crate) fn write(&mut self, writer: &LogWriter, record: &Record) {
        if !self.writer.as_ref().is_some_and(|known| known.is(writer)) {
            self.hand_over();
            self.writer = Some(writer.clone());
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(BATCH_BYTES + 1024);
        }
        let from = self.bytes.len();
        if serde_json::to_writer(&mut self.bytes, record).is_err() {
            self.bytes.truncate(from);
            return;
        }
        self.bytes.push(b'\n');
        self.count += 1;
        if self.bytes.len() >= BATCH_BYTES {
            self.hand_over();
        }
    }

    /// To be called at each tick.
    pub(crate) fn hand_over(&mut self) {
        if self.count == 0 {
            return;
        }
        let batch = Batch {
            lines: std::mem::take(&mut self.bytes),
            count: std::mem::take(&mut self.count),
            written: None,
        };
        if let Some(writer) = &self.writer {
            writer.send(batch);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.hand_over();
    }
}

#[derive(Debug)]
enum Sink {
    Stdout,
    File(PathBuf, BufWriter<File>),
}

impl Sink {
    fn open(target: &AccessLogTarget) -> io::Result<Self> {
        match target {
            AccessLogTarget::Stdout => Ok(Self::Stdout),
            AccessLogTarget::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path)?;
                Ok(Self::File(path.clone(), BufWriter::new(file)))
            }
        }
    }

    fn reopen(&mut self) {
        let Self::File(path, _) = self else {
            return;
        };
        match Self::open(&AccessLogTarget::File(path.clone())) {
            Ok(sink) => *self = sink,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the access log cannot be opened again; writing goes on into the old file");
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(line),
            Self::File(_, file) => file.write_all(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().flush(),
            Self::File(_, file) => file.flush(),
        }
    }
}

fn write_all(mut sink: Sink, batches: &Receiver<Batch>, reopen: &AtomicBool) {
    let mut is_failing = false;
    loop {
        let outcome = match batches.recv_timeout(FLUSH_AFTER) {
            Ok(batch) => {
                if reopen.swap(false, Ordering::Relaxed) {
                    let _ = sink.flush();
                    sink.reopen();
                }
                let mut outcome = sink.write(&batch.lines);
                if let Some(done) = batch.written {
                    outcome = outcome.and_then(|()| sink.flush());
                    let _ = done.try_send(());
                }
                outcome
            }
            Err(RecvTimeoutError::Timeout) => sink.flush(),
            Err(RecvTimeoutError::Disconnected) => {
                let _ = sink.flush();
                return;
            }
        };
        // Said once: a full disk must not fill the other log too.
        if let (Err(error), false) = (&outcome, is_failing) {
            tracing::error!(%error, "the access log cannot be written");
        }
        is_failing = outcome.is_err();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::{Lines, LogWriter, Record};
    use crate::settings::AccessLogTarget;

    fn record(path: &str) -> Record {
        Record {
            time: SystemTime::UNIX_EPOCH,
            client: "10.0.0.1".parse().expect("an address"),
            peer: "10.0.0.1".parse().expect("an address"),
            listener: "web".to_owned(),
            protocol: "HTTP/1.1".into(),
            tls: false,
            method: "GET".to_owned(),
            host: "x".to_owned(),
            path: path.to_owned(),
            route: None,
            upstream: None,
            backend: None,
            status: 200,
            end_reason: "none:done".into(),
            duration_ms: 0.5,
            bytes_received: 0,
            bytes_sent: 3,
            attempts: 1,
            request_id: "1".to_owned(),
            user_agent: None,
            referer: None,
            traceparent: None,
        }
    }

    #[test]
    fn a_record_is_one_line_whatever_the_client_sent_and_a_rotated_file_is_opened_again() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("access.log");
        let log = LogWriter::start(AccessLogTarget::File(path.clone())).expect("opens");
        let mut worker = Lines::default();
        worker.write(&log, &record("/a\n{\"status\":200}\u{202e}"));
        worker.hand_over();
        let lines = |path: &std::path::Path, count: usize| {
            let give_up = Instant::now() + Duration::from_secs(10);
            loop {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                if text.lines().count() >= count || Instant::now() > give_up {
                    return text;
                }
                std::thread::yield_now();
            }
        };
        let text = lines(&path, 1);
        assert_eq!(text.lines().count(), 1, "{text}");
        let parsed: serde_json::Value = serde_json::from_str(text.trim()).expect("is JSON");
        assert_eq!(parsed["end_reason"], "none:done");
        std::fs::rename(&path, dir.path().join("access.log.1")).expect("rotated");
        log.reopen();
        worker.write(&log, &record("/b"));
        worker.hand_over();
        assert!(lines(&path, 1).contains("\"/b\""));
        // Whoever ends leaves nothing behind.
        for number in 0..200 {
            worker.write(&log, &record(&format!("/{number}")));
        }
        drop(worker);
        log.settle(Duration::from_secs(10));
        let text = std::fs::read_to_string(&path).expect("is there");
        assert_eq!(text.lines().count(), 201);
        assert!(text.ends_with('\n') && text.contains("\"/199\""));
        assert_eq!(log.dropped(), 0);
    }
}
