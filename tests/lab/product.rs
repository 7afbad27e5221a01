//! The product as a person installs it: `make install` into a folder that is laid over a host's root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::host::{self, Host};

fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the workspace").to_owned()
}

/// Installs what is built.
///
/// # Panics
/// When something is not built.
pub(crate) fn install(name: &str) -> TempDir {
    let product = host::scratch(name);
    // Of a folder that becomes a host's root, everybody sees the inside.
    fs::set_permissions(product.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let binaries = harness::binaries::find("lb");
    let binaries = binaries.parent().expect("a folder");
    let output = Command::new("make")
        .arg("--silent")
        .arg("install")
        .arg(format!("BINARIES={}", binaries.display()))
        .arg(format!("DESTDIR={}", product.path().display()))
        .current_dir(workspace())
        .output()
        .expect("make(1) is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "make install: {said}");
    product
}

/// A copy of an installed program with another digest, where its service can read it.
///
/// # Panics
/// When the host's disk is full.
pub(crate) fn another(host: &Host, program: &str, mark: &str) -> String {
    let mut bytes = fs::read(host.file(&format!("/usr/local/bin/{program}"))).expect("installed");
    bytes.extend_from_slice(mark.as_bytes());
    deploy(host, &format!("{program}-{mark}"), &bytes)
}

/// An executable file that is no program.
///
/// # Panics
/// When the host's disk is full.
pub(crate) fn broken(host: &Host) -> String {
    deploy(host, "broken", &[0x7f, 1, 2, 3])
}

fn deploy(host: &Host, name: &str, bytes: &[u8]) -> String {
    let path = format!("/opt/zeitwork/{name}");
    let outside = host.file(&path);
    fs::create_dir_all(outside.parent().expect("a folder")).expect("a folder");
    fs::write(&outside, bytes).expect("written");
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}
