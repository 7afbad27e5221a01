//! What a process tells the service manager that started it: sd_notify(3).
//!
//! Room  the sending side, for workers that run directly under systemd and for the supervisor; and the
//!       parser of what a level 1 worker says to its supervisor.
//! Holds without NOTIFY_SOCKET every call does nothing; a failed send is never fatal.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use sd_notify::NotifyState;

/// Sends to `$NOTIFY_SOCKET`.
#[derive(Clone, Debug)]
pub struct Notifier {
    present: bool,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Looks at `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_environment() -> Self {
        Self {
            present: std::env::var_os("NOTIFY_SOCKET").is_some(),
            watchdog: sd_notify::watchdog_enabled(),
        }
    }

    /// A notifier that never says anything.
    pub fn silent() -> Self {
        Self {
            present: false,
            watchdog: None,
        }
    }

    /// True when a service manager listens.
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// How often the service manager wants a sign of life; half of it is a good period.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.present)
    }

    /// `READY=1` with a status line.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// `STATUS=`.
    pub fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(status)]);
    }

    /// `RELOADING=1`; to be followed by [`Notifier::ready`].
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(_) => self.send(&[NotifyState::Reloading]),
        }
    }

    /// `STOPPING=1`.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// `WATCHDOG=1`.
    pub fn watchdog(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// `EXTEND_TIMEOUT_USEC=`: this start or stop takes longer, for a reason.
    pub fn extend_timeout(&self, by: Duration) {
        let by = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
        self.send(&[NotifyState::ExtendTimeoutUsec(by)]);
    }

    /// `FDSTORE=1` for one socket; `FDPOLL=0`, or the manager drops a listener that shows an error.
    pub fn store(&self, name: &str, socket: BorrowedFd<'_>) {
        if self.present {
            let state = [
                NotifyState::FdStore,
                NotifyState::FdName(name),
                NotifyState::Custom("FDPOLL=0"),
            ];
            let _ = sd_notify::notify_with_fds(&state, &[socket]);
        }
    }

    /// `FDSTOREREMOVE=1`.
    pub fn unstore(&self, name: &str) {
        self.send(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }

    fn send(&self, state: &[NotifyState<'_>]) {
        if self.present {
            let _ = sd_notify::notify(state);
        }
    }
}

/// Longest datagram of a level 1 worker that is looked at, in bytes (systemd's own limit is a page).
pub const NOTIFICATION_BYTES_MAX: usize = 4096;

/// What a level 1 worker said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notification {
    pub ready: bool,
    pub stopping: bool,
    pub watchdog: bool,
    pub status: Option<String>,
}

/// Parses one datagram; unknown assignments are ignored, as sd_notify(3) asks.
pub fn parse_notification(datagram: &[u8]) -> Notification {
    let mut said = Notification::default();
    for line in String::from_utf8_lossy(datagram).lines() {
        match line.split_once('=') {
            Some(("READY", "1")) => said.ready = true,
            Some(("STOPPING", "1")) => said.stopping = true,
            Some(("WATCHDOG", "1")) => said.watchdog = true,
            Some(("STATUS", text)) => said.status = Some(text.to_owned()),
            _ => {}
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::{Notification, parse_notification};

    #[test]
    fn a_level_1_worker_is_understood_and_its_noise_is_not() {
        let said = parse_notification(b"READY=1\nSTATUS=serving 3\nX_FOO=1\n\xff\xfe=1\nREADY");
        assert_eq!(
            said,
            Notification {
                ready: true,
                status: Some("serving 3".to_owned()),
                ..Notification::default()
            }
        );
        assert_eq!(parse_notification(b""), Notification::default());
    }
}
