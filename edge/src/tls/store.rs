//! The certificates of one listener, found by name.
//!
//! Room  lookup without a lock; loading is `files`, watching is `watch`.
//! Holds a handshake sees a set of certificates as a whole; a file that cannot be used leaves what was loaded
//!       before in force.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::Serialize;

use super::files::{CertificateFacts, load};
use crate::settings::{CertificateFiles, ListenerTls};

/// See the module.
#[derive(Debug)]
pub struct CertificateStore {
    strict: bool,
    set: ArcSwap<Set>,
    entries: Mutex<Vec<Entry>>,
}

/// What handshakes look at.
#[derive(Debug, Default)]
struct Set {
    /// In the order of the configuration.
    certificates: Vec<Arc<CertifiedKey>>,
    names: Vec<Vec<String>>,
    /// Which of them are good for a name; wildcards under what follows `*`.
    exact: HashMap<String, Vec<usize>>,
    wildcard: HashMap<String, Vec<usize>>,
}

/// One pair of files and what became of them.
#[derive(Debug)]
struct Entry {
    files: CertificateFiles,
    loaded: (Arc<CertifiedKey>, CertificateFacts),
    reloaded_at: SystemTime,
    reloads: u64,
    failures: u64,
    last_error: Option<String>,
}

/// One certificate as the admin API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateStatus {
    pub names: Vec<String>,
    pub certificate: String,
    pub key: String,
    /// RFC 3339.
    pub not_before: String,
    pub not_after: String,
    /// Of the first certificate of the chain, in hexadecimal.
    pub sha256: String,
    pub serial: String,
    pub expires_in_seconds: i64,
    pub last_reload: String,
    pub reloads_total: u64,
    pub failures_total: u64,
    /// Why the newest files on disk are not used.
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
    /// Loads every pair.
    ///
    /// # Errors
    /// The first pair that cannot be used, and why.
    pub fn load(tls: &ListenerTls) -> Result<Arc<Self>, String> {
        let mut entries = Vec::new();
        for files in &tls.certificates {
            entries.push(Entry {
                files: files.clone(),
                loaded: load(files)?,
                reloaded_at: SystemTime::now(),
                reloads: 0,
                failures: 0,
                last_error: None,
            });
        }
        let set = Set::of(&entries);
        Ok(Arc::new(Self {
            strict: tls.strict_sni,
            set: ArcSwap::from_pointee(set),
            entries: Mutex::new(entries),
        }))
    }

    /// The files to be watched.
    #[must_use]
    pub fn files(&self) -> Vec<CertificateFiles> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|entry| entry.files.clone()).collect()
    }

    /// Reads these files again; what cannot be used changes nothing but the status.
    ///
    /// # Errors
    /// Why they are not used.
    pub fn reload(&self, files: &CertificateFiles) -> Result<(), String> {
        let loaded = load(files);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.iter_mut().find(|entry| entry.files == *files) else {
            return Ok(());
        };
        match loaded {
            Ok(loaded) => {
                entry.loaded = loaded;
                entry.reloaded_at = SystemTime::now();
                entry.reloads += 1;
                entry.last_error = None;
                self.set.store(Arc::new(Set::of(&entries)));
                Ok(())
            }
            Err(error) => {
                entry.failures += 1;
                entry.last_error = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Every certificate, for people and metrics.
    #[must_use]
    pub fn statuses(&self) -> Vec<CertificateStatus> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(Entry::status).collect()
    }

    /// True when the certificate shown for this SNI is good for `host` too (RFC 9110 section 7.4).
    #[must_use]
    pub fn covers(&self, server_name: Option<&str>, host: &str) -> bool {
        let Some(server_name) = server_name else {
            // The client did not say whom it wants: its own check of the name is the only one.
            return true;
        };
        if server_name.eq_ignore_ascii_case(host) {
            return true;
        }
        let set = self.set.load();
        let shown = set.find(server_name);
        let shown = if shown.is_empty() { &[0][..] } else { shown };
        shown.iter().any(|index| {
            let names = set.names.get(*index);
            names.is_some_and(|names| names.iter().any(|name| matches(name, host)))
        })
    }
}

impl Entry {
    fn status(&self) -> CertificateStatus {
        let (certified, facts) = &self.loaded;
        let leaf = certified
            .cert
            .first()
            .map(AsRef::as_ref)
            .unwrap_or_default();
        let hash = digest(&SHA256, leaf);
        let now = SystemTime::now();
        let expires = match facts.not_after.duration_since(now) {
            Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            Err(past) => -i64::try_from(past.duration().as_secs()).unwrap_or(i64::MAX),
        };
        let rfc3339 = |at| humantime::format_rfc3339_seconds(at).to_string();
        CertificateStatus {
            names: facts.names.clone(),
            certificate: self.files.certificate.display().to_string(),
            key: self.files.key.display().to_string(),
            not_before: rfc3339(facts.not_before),
            not_after: rfc3339(facts.not_after),
            sha256: hash
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            serial: facts.serial.clone(),
            expires_in_seconds: expires,
            last_reload: rfc3339(self.reloaded_at),
            reloads_total: self.reloads,
            failures_total: self.failures,
            last_error: self.last_error.clone(),
            expires_at_unix: facts
                .not_after
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        }
    }
}

impl Set {
    fn of(entries: &[Entry]) -> Self {
        let mut set = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            let (certified, facts) = &entry.loaded;
            set.certificates.push(Arc::clone(certified));
            set.names.push(facts.names.clone());
            for name in &facts.names {
                match name.strip_prefix("*.") {
                    Some(parent) => set.wildcard.entry(parent.to_owned()).or_default(),
                    None => set.exact.entry(name.clone()).or_default(),
                }
                .push(index);
            }
        }
        set
    }

    /// Certificates for a name: its own first, then those with a wildcard for its first label (RFC 9525
    /// section 6.3).
    fn find(&self, name: &str) -> &[usize] {
        let name = name.to_ascii_lowercase();
        if let Some(found) = self.exact.get(&name) {
            return found;
        }
        let parent = name.split_once('.').map(|(_, parent)| parent);
        parent
            .and_then(|parent| self.wildcard.get(parent))
            .map(Vec::as_slice)
            .unwrap_or_default()
    }
}

fn matches(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => name.eq_ignore_ascii_case(host),
    }
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let set = self.set.load();
        let mut found = hello
            .server_name()
            .map(|name| set.find(name))
            .unwrap_or_default();
        if found.is_empty() {
            if self.strict {
                return None;
            }
            found = &[0];
        }
        // Of several for one name (ECDSA and RSA), one that the client can verify.
        let offered = hello.signature_schemes();
        let usable = found.iter().find(|index| {
            let certificate = set.certificates.get(**index);
            certificate.is_some_and(|certified| certified.key.choose_scheme(offered).is_some())
        });
        let index = usable.or_else(|| found.first())?;
        set.certificates.get(*index).cloned()
    }
}
