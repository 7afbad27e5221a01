//! What the shards share about one listener: its settings, its upstream, and how many connections it has.
//!
//! Room  an immutable value and one atomic count; no socket.
//! In    [`ListenerSettings`] from the configuration.
//! Out   [`Admission`]s, one per accepted connection.
//! Holds the count is that of the admissions alive, over all shards and all reloads of the listener.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ListenerSettings;

/// One listener at one revision of its settings. A reload makes another; connections keep theirs.
#[derive(Debug)]
pub(crate) struct Service {
    settings: ListenerSettings,
    open: Arc<AtomicUsize>,
}

impl Service {
    /// A listener, or the next revision of `earlier`, whose connections go on counting.
    pub(crate) fn new(settings: ListenerSettings, earlier: Option<&Self>) -> Arc<Self> {
        let open = earlier.map_or_else(Arc::default, |earlier| Arc::clone(&earlier.open));
        Arc::new(Self { settings, open })
    }

    pub(crate) fn settings(&self) -> &ListenerSettings {
        &self.settings
    }

    /// Whether PROXY headers from this address are believed.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.settings
            .trusted
            .iter()
            .any(|network| network.contains(&peer))
    }

    /// Counts one connection that another process admitted: it is there, whatever the limit says.
    pub(crate) fn admit_arrived(self: &Arc<Self>) -> Admission {
        self.open.fetch_add(1, Ordering::Relaxed);
        Admission {
            service: Arc::clone(self),
        }
    }

    /// Counts one connection; `None` when the listener has as many as it may.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admission> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let admission = Admission {
            service: Arc::clone(self),
        };
        match self.settings.max_connections {
            Some(limit) if before >= limit => None, // dropping the admission takes it out of the count
            _ => Some(admission),
        }
    }
}

/// The right of one connection to be there.
#[derive(Debug)]
pub(crate) struct Admission {
    service: Arc<Service>,
}

impl Admission {
    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.service
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.service.open.fetch_sub(1, Ordering::Relaxed);
    }
}
