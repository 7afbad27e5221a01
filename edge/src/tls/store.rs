//! The certificates of one listener: which one answers whom, and how each of them is doing.
//!
//! ```text
//!   handshake ──▶ table (ArcSwap) ◀── refresh ◀── files
//! ```
//!
//! Room  the table and its entries. When to look at the files is `watch`'s matter.
//! In    `ListenerTls`; a `ClientHello`.
//! Out   a certificate for a handshake; statuses for the admin API.
//! Holds a handshake takes no lock and reads no file. A table that is in force is never changed, only
//!       replaced: what was chosen for a handshake stays valid until its end.

mod entry;
mod table;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::Serialize;

use super::names;
use crate::settings::{CertificateFiles, ListenerTls};
use entry::Entry;
pub(crate) use entry::{Look, Outcome};
use table::Table;

/// The certificates of one listener; a resolver for rustls.
pub struct CertificateStore {
    strict_sni: bool,
    table: ArcSwap<Table>,
    /// In the order of the configuration. Locked by those who look at files, never by a handshake.
    entries: Mutex<Vec<Entry>>,
}

/// One certificate as the admin API shows it. Times are RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateStatus {
    pub names: Vec<String>,
    pub certificate: String,
    pub key: String,
    /// `ECDSA 256`, `RSA 2048`, `Ed25519`.
    pub key_kind: String,
    pub not_before: String,
    pub not_after: String,
    /// Of the first certificate of the chain, in hexadecimal.
    pub sha256: String,
    pub serial: String,
    /// Negative once it has expired.
    pub expires_in_seconds: i64,
    /// When the one in force was read.
    pub last_reload: String,
    /// Replacements put in force since the start.
    pub reloads_total: u64,
    /// Replacements refused since the start.
    pub failures_total: u64,
    /// Why the newest files on disk are not used; `None`: they are in force.
    pub last_error: Option<String>,
    #[serde(skip)]
    expires_at_unix: u64,
}

impl CertificateStatus {
    /// `not_after` as Unix time, in seconds.
    #[must_use]
    pub fn expires_at_unix(&self) -> u64 {
        self.expires_at_unix
    }
}

impl CertificateStore {
    /// Reads every certificate of the listener.
    ///
    /// # Errors
    /// Every pair that cannot be used, a line each, in words; see [`super::check_pair`].
    pub fn load(tls: &ListenerTls) -> Result<Arc<Self>, String> {
        let now = SystemTime::now();
        let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
        for files in &tls.certificates {
            match Entry::read(files, now) {
                Ok(entry) => entries.push(entry),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if tls.certificates.is_empty() {
            mistakes.push("a TLS listener needs at least one certificate".to_owned());
        }
        if !mistakes.is_empty() {
            return Err(mistakes.join("\n"));
        }
        for entry in &entries {
            entry.warn();
        }
        Ok(Arc::new(Self {
            strict_sni: tls.strict_sni,
            table: ArcSwap::from_pointee(Table::new(entries.iter().map(Entry::pair))),
            entries: Mutex::new(entries),
        }))
    }

    /// Whether a connection whose client asked for `sni` may carry requests for `host` (without port): it asked for
    /// that very name, or every certificate that may have been shown to it covers the host. Otherwise the answer
    /// is 421 (RFC 9110, sections 7.4 and 15.5.20). A client that named nobody may ask for anything: what it
    /// checked, if anything, was the address that it dialled.
    #[must_use]
    pub fn covers(&self, sni: Option<&str>, host: &str) -> bool {
        sni.is_none_or(|sni| {
            names::is_same(sni, host) || self.table.load().covers(sni, self.strict_sni, host)
        })
    }

    /// Reads these files again, changed or not, and judges at once; what cannot be used changes nothing but the
    /// status.
    ///
    /// # Errors
    /// Why they are not used.
    pub fn reload(&self, files: &CertificateFiles) -> Result<(), String> {
        let now = SystemTime::now();
        let mut entries = self.entries();
        let mut mine = entries.iter_mut().filter(|entry| entry.files() == files);
        let Some(entry) = mine.next() else {
            return Ok(());
        };
        let outcome = entry.refresh(Look::Everything, now);
        let refused = entry.last_error().map(str::to_owned);
        self.put_in_force(&entries, &[outcome]);
        refused.map_or(Ok(()), Err)
    }

    /// In the order of the configuration.
    #[must_use]
    pub fn statuses(&self) -> Vec<CertificateStatus> {
        self.entries().iter().map(Entry::status).collect()
    }

    /// The files of the listener, in the order of the configuration.
    #[must_use]
    pub fn files(&self) -> Vec<CertificateFiles> {
        let entries = self.entries();
        entries.iter().map(|entry| entry.files().clone()).collect()
    }

    /// Looks at the files and puts in force what is new and good. Reads files: not for the data path.
    pub(crate) fn refresh(&self, look: Look, now: SystemTime) -> Vec<Outcome> {
        let mut entries = self.entries();
        let outcomes: Vec<Outcome> = entries
            .iter_mut()
            .map(|entry| entry.refresh(look, now))
            .collect();
        self.put_in_force(&entries, &outcomes);
        outcomes
    }

    /// `None`: this client is refused.
    pub(super) fn choose(
        &self,
        sni: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.table.load().choose(sni, self.strict_sni, schemes)
    }

    fn put_in_force(&self, entries: &[Entry], outcomes: &[Outcome]) {
        if outcomes.contains(&Outcome::Replaced) {
            let table = Table::new(entries.iter().map(Entry::pair));
            self.table.store(Arc::new(table));
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

impl std::fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateStore")
            .field("strict_sni", &self.strict_sni)
            .field("table", &self.table.load())
            .finish_non_exhaustive()
    }
}
