//! Staging: a binary becomes an artifact, or is refused before anything of it runs in production.
//!
//! In    a path that a person gave. Out  a copy in the versioned store, with its digest and what it says
//!       of itself.
//! Holds the bytes that were hashed and checked are the bytes that will run; a refusal names its reason
//!       and leaves nothing behind.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::probe::{self, Description, ProbeError};
use crate::record::Artifact;
use crate::signature::{self, SignatureError, SignatureSetting};

/// Why a binary was refused before it was started (exit code 7).
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error(
        "{0} does not exist for the supervisor; build it or correct --binary (a unit with PrivateTmp or ProtectHome does not see /tmp, /root and /home: use /opt, say)"
    )]
    Missing(PathBuf),
    #[error(
        "{0} may not be read by the supervisor's user; move it to where it may, /opt for example"
    )]
    Unreadable(PathBuf),
    #[error("{0} is not a file")]
    NotAFile(PathBuf),
    #[error("{0} is not executable; chmod +x it")]
    NotExecutable(PathBuf),
    #[error("{path} is built for {theirs}, this host runs {ours}")]
    WrongArchitecture {
        path: PathBuf,
        theirs: String,
        ours: String,
    },
    #[error("{path} cannot be staged: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(
        "it speaks handoff {theirs}, this supervisor speaks {}: no protocol in common",
        handoff::version::SPOKEN
    )]
    Protocol {
        theirs: handoff::version::ProtocolRange,
    },
    #[error("it is {theirs}, this supervisor runs {ours}; give the binary of the right service")]
    OtherService { theirs: String, ours: String },
    #[error("it refuses the configuration (exit code {code}):\n{output}")]
    Configuration { code: String, output: String },
    /// The plan's reasons and next steps.
    #[error("{0}")]
    Plan(String),
}

/// What a binary is staged for.
#[derive(Clone, Debug)]
pub(crate) struct Purpose {
    pub(crate) store: PathBuf,
    /// The worker's arguments; a native worker's configuration is checked with them.
    pub(crate) args: Vec<String>,
    /// The service that runs now: `None` at the first start, empty for a level 1 program.
    pub(crate) service: Option<String>,
    /// The signature that a binary must have, if any.
    pub(crate) signature: Option<SignatureSetting>,
}

/// Copies, hashes, asks and checks.
///
/// # Errors
/// See [`StageError`].
pub(crate) async fn stage(binary: PathBuf, purpose: Purpose) -> Result<Artifact, StageError> {
    Ok(stage_and_describe(binary, purpose).await?.0)
}

/// As [`stage`], with what the binary says of itself.
///
/// # Errors
/// See [`StageError`].
pub(crate) async fn stage_and_describe(
    binary: PathBuf,
    purpose: Purpose,
) -> Result<(Artifact, Description), StageError> {
    let incoming = {
        let (source, purpose) = (binary.clone(), purpose.clone());
        let copying = tokio::task::spawn_blocking(move || copy(&source, &purpose));
        copying.await.map_err(|error| StageError::Io {
            path: binary.clone(),
            source: io::Error::other(error),
        })??
    };
    let outcome = examine(&incoming, &purpose).await;
    let staged = match outcome {
        Ok(description) => {
            keep(&incoming, &description, &purpose.store).map(|artifact| (artifact, description))
        }
        Err(error) => Err(error),
    };
    if staged.is_err() {
        let _ = fs::remove_dir_all(&incoming.dir);
    }
    staged
}

/// A copy that has not been looked at.
struct Incoming {
    dir: PathBuf,
    file: PathBuf,
    sha256: String,
}

fn copy(binary: &Path, purpose: &Purpose) -> Result<Incoming, StageError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => StageError::Unreadable(binary.to_owned()),
        _ => StageError::Io {
            path: binary.to_owned(),
            source,
        },
    };
    let metadata = match fs::metadata(binary) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StageError::Missing(binary.to_owned()));
        }
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() {
        return Err(StageError::NotAFile(binary.to_owned()));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(StageError::NotExecutable(binary.to_owned()));
    }
    check_architecture(binary)?;
    let name = format!("incoming-{:016x}", fastrand::u64(..));
    let dir = purpose.store.join(name);
    fs::create_dir(&dir).map_err(failed)?;
    let file = dir.join(binary.file_name().unwrap_or_else(|| "binary".as_ref()));
    let trusted = copy_and_hash(binary, &file)
        .map_err(failed)
        .and_then(|sha256| check_signature(binary, &file, purpose).map(|()| sha256));
    match trusted {
        Ok(sha256) => Ok(Incoming { dir, file, sha256 }),
        Err(error) => {
            let _ = fs::remove_dir_all(&dir);
            Err(error)
        }
    }
}

fn check_signature(binary: &Path, copy: &Path, purpose: &Purpose) -> Result<(), StageError> {
    if let Some(setting) = &purpose.signature {
        let comment = signature::check(&setting.public_key, binary, copy)?;
        tracing::info!(comment, "the signature is good");
    }
    Ok(())
}

fn copy_and_hash(from: &Path, to: &Path) -> io::Result<String> {
    let mut source = File::open(from)?;
    let mut target = File::create_new(to)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = source.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        digest.update(bytes);
        target.write_all(bytes)?;
    }
    target.set_permissions(fs::Permissions::from_mode(0o755))?;
    target.sync_all()?;
    Ok(digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

async fn examine(incoming: &Incoming, purpose: &Purpose) -> Result<Description, StageError> {
    let mut description = probe::describe(&incoming.file).await?;
    if let Some(theirs) = description.handoff
        && handoff::version::SPOKEN.agree(theirs).is_none()
    {
        return Err(StageError::Protocol { theirs });
    }
    if let Some(ours) = &purpose.service
        && *ours != description.service
    {
        return Err(StageError::OtherService {
            theirs: service_word(&description.service),
            ours: service_word(ours),
        });
    }
    if !description.service.is_empty() {
        description.wants = probe::check_configuration(&incoming.file, &purpose.args).await?;
    }
    Ok(description)
}

fn service_word(service: &str) -> String {
    if service.is_empty() {
        "a program without the native handoff".to_owned()
    } else {
        format!("a binary of the service {service}")
    }
}

fn keep(
    incoming: &Incoming,
    description: &Description,
    store: &Path,
) -> Result<Artifact, StageError> {
    let digest = incoming.sha256.get(..12).unwrap_or_default();
    let word: String = description
        .version
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || ".-+".contains(c) {
                c
            } else {
                '_'
            }
        })
        .take(64)
        .collect();
    let dir = store.join(format!("{word}-{digest}"));
    let file_name = incoming.file.file_name().unwrap_or_default();
    let place = || -> io::Result<()> {
        if dir.join(file_name).is_file() {
            // The same bytes were staged before; what is there may be running.
            return fs::remove_dir_all(&incoming.dir);
        }
        let _ = fs::remove_dir_all(&dir);
        fs::rename(&incoming.dir, &dir)?;
        File::open(store)?.sync_all()
    };
    place().map_err(|source| StageError::Io {
        path: dir.clone(),
        source,
    })?;
    Ok(Artifact {
        path: dir.join(file_name),
        version: description.version.clone(),
        sha256: incoming.sha256.clone(),
        service: description.service.clone(),
    })
}

/// Removes one artifact, unless it runs or can be rolled back to.
pub(crate) fn discard(store: &Path, artifact: &Artifact, kept: &[Artifact]) {
    let is_kept = kept.iter().any(|other| other.path == artifact.path);
    let dir = artifact
        .path
        .parent()
        .filter(|dir| dir.parent() == Some(store));
    if let Some(dir) = dir.filter(|_| !is_kept) {
        let _ = fs::remove_dir_all(dir);
    }
}

/// Removes what neither runs nor can be rolled back to.
pub(crate) fn prune(store: &Path, keep: &[&Artifact]) {
    let Ok(entries) = fs::read_dir(store) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if !keep.iter().any(|artifact| artifact.path.starts_with(&path)) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Compares the ELF header's machine (elf(5), `e_machine`, bytes 18 and 19) with our own.
fn check_architecture(binary: &Path) -> Result<(), StageError> {
    let (Some(theirs), Some(ours)) = (machine(binary), machine(Path::new("/proc/self/exe"))) else {
        return Ok(());
    };
    if theirs == ours {
        return Ok(());
    }
    Err(StageError::WrongArchitecture {
        path: binary.to_owned(),
        theirs: machine_word(theirs),
        ours: machine_word(ours),
    })
}

/// `None`: not an ELF file (a script is fine).
fn machine(path: &Path) -> Option<u16> {
    let mut header = [0; 20];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    let machine = header.get(18..20)?.try_into().ok()?;
    header
        .starts_with(b"\x7fELF")
        .then(|| u16::from_le_bytes(machine))
}

fn machine_word(machine: u16) -> String {
    match machine {
        0x3e => "x86_64".to_owned(),
        0xb7 => "aarch64".to_owned(),
        0xf3 => "riscv64".to_owned(),
        other => format!("ELF machine {other:#x}"),
    }
}
