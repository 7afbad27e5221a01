//! What the demo swaps in: another artifact of the same program, and one that never becomes ready.
//!
//! Room  writing files.
//! In    the program's path.
//! Out   two more executables in the demo's own directory.
//! Holds the good one differs in its digest only; the bad one passes every check that does not start it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Bytes after the end of an ELF image change its digest and nothing else.
const TRAILER: &[u8] = b"\n# zeitwork demo: the same program as another artifact\n";

/// A copy of `program` that is another artifact.
pub(super) fn copy_with_trailer(program: &Path, directory: &Path) -> io::Result<PathBuf> {
    let path = directory.join(format!("{}-successor", name(program)));
    fs::copy(program, &path)?;
    fs::OpenOptions::new()
        .append(true)
        .open(&path)?
        .write_all(TRAILER)?;
    Ok(path)
}

/// A program that answers questions as `program` does, and when it is to serve does nothing at all.
pub(super) fn write_never_ready(program: &Path, directory: &Path) -> io::Result<PathBuf> {
    let path = directory.join(format!("{}-never-ready", name(program)));
    fs::write(&path, never_ready_script(program))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn name(program: &Path) -> String {
    program.file_name().map_or_else(
        || "program".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// `exec` keeps the environment, so that a supervisor's question about identity is answered truthfully, too.
fn never_ready_script(program: &Path) -> String {
    let quoted = program.display().to_string().replace('\'', r"'\''");
    format!(
        "#!/bin/sh\n\
         # Answers like the program itself, and never becomes ready.\n\
         case \"$1\" in\n    --version | check) exec '{quoted}' \"$@\" ;;\nesac\n\
         while :; do sleep 1; done\n"
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_copy_is_another_artifact_that_still_runs() {
        let directory = tempfile::tempdir().unwrap();
        let original = fs::canonicalize("/bin/true").unwrap();
        let copy = copy_with_trailer(&original, directory.path()).unwrap();
        assert_ne!(fs::read(&copy).unwrap(), fs::read(&original).unwrap());
        assert!(Command::new(&copy).status().unwrap().success());
    }

    #[test]
    fn the_bad_one_answers_through_the_real_program_with_its_environment() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("it's a program");
        fs::write(&program, "#!/bin/sh\necho \"$PROBE says $*\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let bad = write_never_ready(&program, directory.path()).unwrap();
        for arguments in [&["--version"][..], &["check", "--config", "x"]] {
            let answer = Command::new(&bad)
                .args(arguments)
                .env("PROBE", "it")
                .output()
                .unwrap();
            let expected = format!("it says {}\n", arguments.join(" "));
            assert_eq!(String::from_utf8_lossy(&answer.stdout), expected);
        }
    }
}
