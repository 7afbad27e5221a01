//! What survives the supervisor: the committed artifact and its history (on disk), and who is alive
//! (in the runtime directory).
//!
//! Holds  a file that another process damaged is an error with a next step, never a panic.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use control::{HistoryEntry, Role};
use handoff::ListenerName;
use serde::{Deserialize, Serialize};

use crate::layout::write_atomically;

/// A binary in the store, known by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Artifact {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    pub(crate) sha256: String,
    /// The service it says it is; empty: a program that knows only the systemd conventions.
    #[serde(default)]
    pub(crate) service: String,
}

impl Artifact {
    /// True when it speaks the native handoff.
    pub(crate) fn is_native(&self) -> bool {
        !self.service.is_empty()
    }

    /// One that is not known (yet).
    pub(crate) fn unknown() -> Self {
        Self {
            path: PathBuf::new(),
            version: String::new(),
            sha256: String::new(),
            service: String::new(),
        }
    }

    /// "1.3.0 (6f1c0e9a2b44)".
    pub(crate) fn label(&self) -> String {
        let digest = self.sha256.get(..12).unwrap_or(&self.sha256);
        format!("{} ({digest})", self.version)
    }
}

/// What runs after a crash, a restart or a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) committed: Artifact,
    #[serde(default)]
    pub(crate) previous: Option<Artifact>,
    /// The number of the last generation that was started.
    #[serde(default)]
    pub(crate) generation: u64,
    /// The generation that was committed, or restarted since.
    #[serde(default)]
    pub(crate) serving: u64,
}

/// A worker that may outlive its supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerRecord {
    pub(crate) generation: u64,
    pub(crate) pid: u32,
    /// Field 22 of /proc/PID/stat: with it, a number that was given to another process is noticed.
    pub(crate) started: u64,
    pub(crate) token: String,
    pub(crate) role: Role,
    pub(crate) artifact: Artifact,
    /// What a level 1 program got at descriptor 3 and on.
    #[serde(default)]
    pub(crate) inherited: Vec<ListenerName>,
}

/// A record that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged ({source}); move it away to begin anew with --binary")]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
}

/// Reads a JSON file; `None` when there is none.
pub(crate) fn load<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(RecordError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| RecordError::Damaged {
            path: path.to_owned(),
            source,
        })
}

/// Writes a JSON file atomically.
pub(crate) fn save<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_atomically(path, &serde_json::to_vec_pretty(value)?)
}

/// Appends one line to the history.
pub(crate) fn append_history(path: &Path, entry: &HistoryEntry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(&line)?;
    file.sync_data()
}

/// The history, oldest first; a line that a power loss cut short is left out.
pub(crate) fn read_history(path: &Path) -> Vec<HistoryEntry> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Artifact, Record, RecordError, load, save};

    #[test]
    fn a_record_comes_back_and_a_damaged_one_is_an_error() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("record.json");
        assert!(load::<Record>(&path).expect("none yet").is_none());
        let record = Record {
            committed: Artifact {
                path: "/x".into(),
                version: "1".to_owned(),
                sha256: "ab".to_owned(),
                service: "load-balancer".to_owned(),
            },
            previous: None,
            generation: 3,
            serving: 3,
        };
        save(&path, &record).expect("written");
        assert_eq!(load::<Record>(&path).expect("read"), Some(record));
        for damage in ["", "{", "[]", "{\"committed\":3}", "\u{0}\u{0}"] {
            std::fs::write(&path, damage).expect("written");
            assert!(matches!(
                load::<Record>(&path),
                Err(RecordError::Damaged { .. })
            ));
        }
    }
}
