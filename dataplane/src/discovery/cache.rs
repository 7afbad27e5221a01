//! The last good set on disk, for a start while the operator is away.
//!
//! Room  one small file; blocking, so it runs off the control thread.
//! In    a set that the operator gave.
//! Out   the same set, or why there is none. What is read is checked like an answer of the operator.
//! Holds a reader finds a whole file: written beside it, forced to disk, then renamed (rename(2)). Incumbent and
//!       successor may write at the same time: each has its own name for what is unfinished.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::answer::{Discovered, DiscoveryError, parse_backends};
use super::ask::ANSWER_BYTES_MAX;

/// The form of the file; another one is not read.
const FILE_VERSION: u64 = 1;

/// Largest file that is read, in bytes: a set may be longer here than in the shortest form of an answer.
const FILE_BYTES_MAX: u64 = 4 * ANSWER_BYTES_MAX as u64;

/// Why the set on disk cannot be used; discovery goes on without it.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}; the set of backends would not survive a restart while the operator is away", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is larger than {FILE_BYTES_MAX} bytes; it is ignored, and replaced by the operator's next answer", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} is damaged and ignored, the operator's next answer replaces it: {source}", path.display())]
    Damaged {
        path: PathBuf,
        source: DiscoveryError,
    },
    #[error("{} is not in version {FILE_VERSION} of its form; it is ignored, and replaced by the operator's next answer", path.display())]
    Version { path: PathBuf },
    #[error("reading or writing the set on disk was interrupted")]
    Interrupted,
    #[error("reading or writing the set on disk takes longer than {0:?}; is the disk in order?")]
    Late(Duration),
}

/// The set in the file; `Ok(None)`: there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<Discovered>>, CacheError> {
    let failed = |source| CacheError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    let count = file
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if count as u64 > FILE_BYTES_MAX {
        return Err(CacheError::TooLarge {
            path: path.to_owned(),
        });
    }
    let damaged = |source| CacheError::Damaged {
        path: path.to_owned(),
        source,
    };
    let whole: Value = serde_json::from_slice(&bytes).map_err(|error| damaged(error.into()))?;
    if whole.get("version").and_then(Value::as_u64) != Some(FILE_VERSION) {
        return Err(CacheError::Version {
            path: path.to_owned(),
        });
    }
    parse_backends(&bytes).map(Some).map_err(damaged)
}

/// Replaces the file.
pub(super) fn write(path: &Path, set: &[Discovered]) -> Result<(), CacheError> {
    let unfinished = unfinished(path);
    let written = replace(path, &unfinished, &content(set));
    written.map_err(|source| {
        // It may not exist; what matters is the first error.
        let _ = fs::remove_file(&unfinished);
        CacheError::Write {
            path: path.to_owned(),
            source,
        }
    })
}

fn replace(path: &Path, unfinished: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    // The rename itself lives in the directory.
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Beside the file, because a rename stays within a file system; by process, see the module.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// The operator's own form, so that one parser reads both.
fn content(set: &[Discovered]) -> Vec<u8> {
    let backends: Vec<Value> = set.iter().map(entry).collect();
    let whole = json!({ "version": FILE_VERSION, "backends": backends });
    format!("{whole}\n").into_bytes()
}

fn entry(one: &Discovered) -> Value {
    let spec = &one.spec;
    let mut map = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(key.to_owned(), value);
        }
    };
    put("id", spec.id.as_ref().map(|id| json!(id)));
    put("address", Some(json!(spec.label)));
    put("weight", Some(json!(spec.weight)));
    put(
        "upstream",
        one.upstream.as_ref().map(|upstream| json!(upstream)),
    );
    put(
        "max_connections",
        spec.max_connections.map(|limit| json!(limit)),
    );
    put("drain", spec.drain.then_some(Value::Bool(true)));
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{CacheError, FILE_BYTES_MAX, parse_backends, read, write};

    #[test]
    fn a_set_comes_back_as_it_was_and_nothing_unfinished_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("backends.json");
        assert!(read(&path).expect("no file is no error").is_none());
        let first = parse_backends(br#"[{"address":"127.0.0.1:1"}]"#).expect("a set");
        let second = parse_backends(
            br#"[{"id":"a","address":"[::1]:80","weight":7,"upstream":"app","max_connections":5,"drain":true},
                 {"host":"app.internal","port":81}]"#,
        );
        for set in [first, second.expect("a set"), Vec::new()] {
            write(&path, &set).expect("written");
            assert_eq!(read(&path).expect("read"), Some(set));
        }
        let names: Vec<_> = fs::read_dir(directory.path())
            .expect("a directory")
            .collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn a_file_that_is_not_ours_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("backends.json");
        for (content, wanted) in [
            ("", "damaged"),
            ("{\"version\":1,\"backends\":[{\"addr", "damaged"),
            (
                "{\"version\":1,\"backends\":[{\"address\":\"x\"}]}",
                "damaged",
            ),
            ("{\"version\":1}", "damaged"),
            ("{\"version\":2,\"backends\":[]}", "version 1"),
            ("[]", "version 1"),
        ] {
            fs::write(&path, content).expect("written");
            let error = read(&path).expect_err(content).to_string();
            assert!(
                error.contains(wanted) && error.contains("backends.json"),
                "{content}: {error}"
            );
        }
        let file = fs::File::create(&path).expect("created");
        file.set_len(FILE_BYTES_MAX + 1).expect("grown");
        assert!(matches!(read(&path), Err(CacheError::TooLarge { .. })));
        assert!(matches!(
            read(directory.path()),
            Err(CacheError::Read { .. })
        ));
    }

    #[test]
    fn a_failed_write_leaves_the_file_that_was_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("taken");
        fs::create_dir(&path).expect("a directory in the way");
        assert!(matches!(write(&path, &[]), Err(CacheError::Write { .. })));
        let names: Vec<_> = fs::read_dir(directory.path())
            .expect("a directory")
            .collect();
        assert_eq!(names.len(), 1, "nothing unfinished: {names:?}");
        let nowhere = directory.path().join("absent/backends.json");
        assert!(matches!(
            write(&nowhere, &[]),
            Err(CacheError::Write { .. })
        ));
    }
}
