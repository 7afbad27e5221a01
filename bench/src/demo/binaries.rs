//! Which programs the demo runs.
//!
//! Room  looking at the file system.
//! In    flags, and the place of this program.
//! Out   paths of executables.
//! Holds a missing program is named together with the command that builds it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Program, Settings};

/// The programs, all executable.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    pub(super) supervisor: PathBuf,
    /// What is swapped, one after the other.
    pub(super) casts: Vec<Cast>,
}

/// A program to swap, and what to swap with.
#[derive(Clone, Debug)]
pub(super) struct Cast {
    pub(super) program: Program,
    pub(super) original: PathBuf,
    pub(super) successor: Option<PathBuf>,
}

/// Why a program cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum FindBinaryError {
    /// Not beside this program.
    #[error(
        "{path} is missing: build it with `cargo build -p {name}` (add --release if this program is), or name it with --{name} PATH"
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// Its name.
        name: &'static str,
    },
    /// Named by a flag, and not a program.
    #[error("{0} is not an executable file")]
    NotExecutable(PathBuf),
    /// This program does not know where it is.
    #[error(
        "the place of this program is unknown: name the programs with --lb, --edge and --supervisor"
    )]
    Unknown(#[source] std::io::Error),
}

impl Binaries {
    pub(super) fn find(settings: &Settings) -> Result<Self, FindBinaryError> {
        let supervisor = choose(settings.supervisor.as_deref(), "supervisor")?;
        let casts = Program::ALL
            .into_iter()
            .filter(|program| settings.only.is_none_or(|only| only == *program));
        let casts = casts.map(|program| {
            let (original, successor) = match program {
                Program::Lb => (&settings.lb, &settings.successor),
                Program::Edge => (&settings.edge, &settings.edge_successor),
            };
            Ok(Cast {
                program,
                original: choose(original.as_deref(), program.name())?,
                successor: successor.as_deref().map(named).transpose()?,
            })
        });
        Ok(Self {
            supervisor,
            casts: casts.collect::<Result<_, FindBinaryError>>()?,
        })
    }
}

fn choose(flag: Option<&Path>, name: &'static str) -> Result<PathBuf, FindBinaryError> {
    match flag {
        Some(path) => named(path),
        None => beside(
            &std::env::current_exe().map_err(FindBinaryError::Unknown)?,
            name,
        ),
    }
}

fn named(path: &Path) -> Result<PathBuf, FindBinaryError> {
    let absolute = std::path::absolute(path).map_err(FindBinaryError::Unknown)?;
    if is_executable(&absolute) {
        Ok(absolute)
    } else {
        Err(FindBinaryError::NotExecutable(absolute))
    }
}

/// The program `name` in the directory of `program`.
fn beside(program: &Path, name: &'static str) -> Result<PathBuf, FindBinaryError> {
    let path = program.with_file_name(name);
    if is_executable(&path) {
        Ok(path)
    } else {
        Err(FindBinaryError::Missing { path, name })
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_command_that_builds_it() {
        let message = beside(Path::new("/nowhere/bench"), "lb")
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("/nowhere/lb is missing: build it with `cargo build -p lb`"),
            "{message}"
        );
        assert!(message.ends_with("--lb PATH"), "{message}");
    }

    #[test]
    fn a_file_without_execute_permission_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = named(file.path()).unwrap_err();
        assert!(
            matches!(refused, FindBinaryError::NotExecutable(_)),
            "{refused}"
        );
    }
}
