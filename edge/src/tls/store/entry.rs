//! One certificate through time: the pair in force, and what became of newer files.
//!
//! Room  one pair of files; reads them when told to look.
//! Out   an outcome for each look.
//! Holds a pair in force stays until a good one replaces it. Files that change while they are read, or that do
//!       not fit yet (a new certificate whose key is still to be written), are looked at once more before they
//!       count as refused. A refusal is logged once for each change of the files.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::CertificateStatus;
use crate::settings::CertificateFiles;
use crate::tls::files::{Pair, read_pair};

/// How to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Only at files that changed; a first failure waits for a second look.
    Changed,
    /// At all files, and judge at once: a person asked.
    Everything,
}

/// What one look at one certificate found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing new.
    Unchanged,
    /// A good replacement is in force.
    Replaced,
    /// The files do not fit (yet); the next look decides.
    Pending,
    /// A bad replacement; the pair before stays in force.
    Refused,
}

/// What tells one state of a file from another; symbolic links are followed. `None`: it cannot be reached.
type Stamp = Option<[i64; 6]>;
type Stamps = (Stamp, Stamp);

#[derive(Debug)]
pub(super) struct Entry {
    files: CertificateFiles,
    pair: Pair,
    /// The files' state that was judged last.
    judged: Stamps,
    /// A state that failed once and is looked at again.
    pending: Option<Stamps>,
    /// The refused files are judged again from here on: they become valid then.
    again_at: Option<SystemTime>,
    last_reload: SystemTime,
    last_error: Option<String>,
    reloads: u64,
    failures: u64,
}

impl Entry {
    pub(super) fn read(files: &CertificateFiles, now: SystemTime) -> Result<Self, String> {
        // Before reading: a change while reading is then seen by the next look.
        let judged = stamps(files);
        Ok(Self {
            pair: read_pair(files, now)?,
            files: files.clone(),
            judged,
            pending: None,
            again_at: None,
            last_reload: now,
            last_error: None,
            reloads: 0,
            failures: 0,
        })
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    pub(super) fn files(&self) -> &CertificateFiles {
        &self.files
    }

    /// Why the newest files are refused.
    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Logs what a person should look at.
    pub(super) fn warn(&self) {
        for warning in &self.pair.facts.warnings {
            tracing::warn!(certificate = %self.files.certificate.display(), "{warning}");
        }
    }

    pub(super) fn status(&self) -> CertificateStatus {
        let facts = &self.pair.facts;
        let rfc3339 = |at| humantime::format_rfc3339_seconds(at).to_string();
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        CertificateStatus {
            names: facts.names.clone(),
            certificate: self.files.certificate.display().to_string(),
            key: self.files.key.display().to_string(),
            key_kind: facts.key_kind.clone(),
            not_before: rfc3339(facts.not_before),
            not_after: rfc3339(facts.not_after),
            sha256: facts.fingerprint.clone(),
            serial: facts.serial.clone(),
            expires_in_seconds: match facts.not_after.duration_since(SystemTime::now()) {
                Ok(left) => seconds(left),
                Err(past) => -seconds(past.duration()),
            },
            last_reload: rfc3339(self.last_reload),
            reloads_total: self.reloads,
            failures_total: self.failures,
            last_error: self.last_error.clone(),
            expires_at_unix: facts
                .not_after
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        }
    }

    pub(super) fn refresh(&mut self, look: Look, now: SystemTime) -> Outcome {
        let before = stamps(&self.files);
        let due = self.again_at.is_some_and(|at| now >= at);
        if look == Look::Changed && before == self.judged && !due {
            self.pending = None;
            return Outcome::Unchanged;
        }
        let read = read_pair(&self.files, now).and_then(|pair| self.fit(pair, now));
        if look == Look::Changed {
            let torn = stamps(&self.files) != before;
            if torn || (read.is_err() && self.pending != Some(before)) {
                self.pending = Some(before);
                return Outcome::Pending;
            }
        }
        self.pending = None;
        self.judged = before;
        match read {
            Ok(pair) => self.accept(pair, now),
            Err(reason) => self.refuse(reason),
        }
    }

    /// A valid certificate is not replaced by one that no client accepts.
    fn fit(&mut self, pair: Pair, now: SystemTime) -> Result<Pair, String> {
        self.again_at = None;
        let is_served = !self.pair.facts.is_expired(now) && !self.pair.facts.is_early(now);
        let is_same = pair.certified.cert == self.pair.certified.cert;
        let serious = pair.facts.is_expired(now) || pair.facts.is_early(now);
        if is_same || !is_served || !serious {
            return Ok(pair);
        }
        if pair.facts.is_early(now) {
            self.again_at = Some(pair.facts.not_before);
        }
        let why = pair.facts.warnings.join("; ");
        Err(format!("{}: {why}", self.files.certificate.display()))
    }

    fn accept(&mut self, pair: Pair, now: SystemTime) -> Outcome {
        self.last_error = None;
        if pair.certified.cert == self.pair.certified.cert {
            return Outcome::Unchanged;
        }
        self.pair = pair;
        self.last_reload = now;
        self.reloads += 1;
        tracing::info!(
            certificate = %self.files.certificate.display(),
            names = ?self.pair.facts.names,
            not_after = %humantime::format_rfc3339_seconds(self.pair.facts.not_after),
            "new certificate in force"
        );
        self.warn();
        Outcome::Replaced
    }

    fn refuse(&mut self, reason: String) -> Outcome {
        self.failures += 1;
        tracing::warn!(
            certificate = %self.files.certificate.display(),
            %reason,
            "the new certificate is refused; the one before stays in force"
        );
        self.last_error = Some(reason);
        Outcome::Refused
    }
}

fn stamps(files: &CertificateFiles) -> Stamps {
    (stamp(&files.certificate), stamp(&files.key))
}

fn stamp(file: &Path) -> Stamp {
    let of = |found: &Metadata| {
        [
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
            found.size().cast_signed(),
            found.ino().cast_signed(),
        ]
    };
    std::fs::metadata(file).ok().as_ref().map(of)
}
