//! Successors: good ones (the same program under another digest) and the zoo of bad ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::binaries;

/// A copy of `lb` with another digest.
pub fn another_lb(dir: &Path, mark: &str) -> PathBuf {
    another("lb", dir, mark)
}

/// A copy of `edge` with another digest.
pub fn another_edge(dir: &Path, mark: &str) -> PathBuf {
    another("edge", dir, mark)
}

/// A copy of `supervisor` with another digest.
pub fn another_supervisor(dir: &Path, mark: &str) -> PathBuf {
    another("supervisor", dir, mark)
}

/// A script that answers `--version` and `adopt` through the real `supervisor` and does `run` its own way.
///
/// In `run`, `$SUPERVISOR` is the real binary and `"$@"` its arguments.
pub fn impostor_supervisor(dir: &Path, name: &str, run: &str) -> PathBuf {
    let supervisor = binaries::find("supervisor");
    let body = format!(
        "SUPERVISOR={}\ncase \"$1\" in --version|adopt) exec \"$SUPERVISOR\" \"$@\";; esac\n{run}",
        supervisor.display()
    );
    script(dir, name, &body)
}

/// Bytes after the end of an ELF file change its digest and nothing else.
fn another(program: &str, dir: &Path, mark: &str) -> PathBuf {
    let mut bytes = fs::read(binaries::find(program)).expect("the program is built");
    bytes.extend_from_slice(mark.as_bytes());
    executable(dir, &format!("{program}-{mark}"), &bytes)
}

/// A script that answers `--version` and `check` through the real `lb` and does `run` its own way.
///
/// In `run`, `$LB` is the real binary and `"$@"` its arguments.
pub fn impostor(dir: &Path, name: &str, run: &str) -> PathBuf {
    impostor_of("lb", dir, name, run)
}

/// The same for another program; `$REAL` is the real binary.
pub fn impostor_of(program: &str, dir: &Path, name: &str, run: &str) -> PathBuf {
    let real = binaries::find(program);
    let script = format!(
        "#!/bin/sh\nREAL={}\nLB=$REAL\ncase \"$1\" in --version|check) exec \"$REAL\" \"$@\";; esac\n{run}\n",
        real.display()
    );
    executable(dir, name, script.as_bytes())
}

/// A script that is itself from the first line on.
pub fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
    executable(dir, name, format!("#!/bin/sh\n{body}\n").as_bytes())
}

/// An ELF header for a machine that this host is not.
pub fn foreign_elf(dir: &Path) -> PathBuf {
    let mut bytes = fs::read(binaries::find("lb")).expect("lb is built");
    bytes.truncate(4096);
    let machine: u16 = if cfg!(target_arch = "x86_64") {
        0xb7
    } else {
        0x3e
    };
    if let Some(field) = bytes.get_mut(18..20) {
        field.copy_from_slice(&machine.to_le_bytes());
    }
    executable(dir, "lb-foreign", &bytes)
}

/// Writes an executable file.
pub fn executable(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

/// A worker with one vice, or none: see `programs/rogue_worker.rs`.
pub fn rogue(dir: &Path, vice: &str) -> PathBuf {
    let bytes = fs::read(binaries::find("rogue-worker")).expect("it is built");
    executable(dir, &format!("rogue-{vice}"), &bytes)
}
