//! Everything around the play: directory, origins, configuration, supervisor.
//!
//! Room  building it and taking it down.
//! In    the program to swap, and its supervisor.
//! Out   entries to aim at, artifacts to swap in, a running supervisor.
//! Holds what is built here is taken down here, by number and path; nothing outside the directory is written.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::binaries::Cast;
use super::entries::{self, Entries, Prepared};
use super::processes::{self, Leftover};
use super::supervisor::{Service, Supervisor};
use super::{DemoError, Program, artifacts};
use crate::origin::Origin;

/// The stage is set.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) program: Program,
    pub(super) entries: Entries,
    pub(super) original: PathBuf,
    pub(super) successor: PathBuf,
    pub(super) never_ready: PathBuf,
    pub(super) supervisor: Supervisor,
    origins: Vec<Origin>,
    directory: TempDir,
}

impl Scene {
    pub(super) fn set_up(cast: &Cast, supervisor: &Path) -> Result<Self, DemoError> {
        let fault = |what: &'static str| move |source| DemoError::SetUp { what, source };
        let program = cast.program;
        let directory = tempfile::Builder::new()
            .prefix("zeitwork-demo-")
            .tempdir()
            .map_err(fault("a directory"))?;
        let path = directory.path();
        let successor = match &cast.successor {
            Some(path) => path.clone(),
            None => artifacts::copy_with_trailer(&cast.original, path)
                .map_err(fault("another artifact"))?,
        };
        let never_ready = artifacts::write_never_ready(&cast.original, path)
            .map_err(fault("the bad artifact"))?;
        let Prepared {
            entries,
            origins,
            configuration,
            supervision,
        } = entries::prepare(program, path).map_err(fault("origins, ports and certificates"))?;
        let configuration_file = path.join(format!("{program}.toml"));
        fs::write(&configuration_file, configuration).map_err(fault("the configuration"))?;
        fs::write(path.join("supervisor.toml"), supervision).map_err(fault("supervisor.toml"))?;
        let service = Service {
            name: program.service(),
            binary: &cast.original,
            configuration: &configuration_file,
        };
        let supervisor =
            Supervisor::start(supervisor, &service, path).map_err(fault("the supervisor"))?;
        Ok(Self {
            program,
            entries,
            original: cast.original.clone(),
            successor,
            never_ready,
            supervisor,
            origins,
            directory,
        })
    }

    /// What runs where, for a person.
    pub(super) fn describe(&self) -> String {
        format!(
            "{:<15}{}\n{:<15}{}\n{:<15}{}\n{:<15}{}",
            self.program.title(),
            self.original.display(),
            "supervisor",
            self.supervisor.binary().display(),
            "successor",
            self.successor.display(),
            "listeners",
            self.entries.describe(),
        )
    }

    /// The artifact of the `number`th good swap, from 1: the two take turns.
    pub(super) fn artifact(&self, number: u32) -> &Path {
        if number % 2 == 1 {
            &self.successor
        } else {
            &self.original
        }
    }

    /// Stops everything and names what had to be killed.
    pub(super) async fn tear_down(mut self) -> Vec<Leftover> {
        self.supervisor.stop().await;
        let left = processes::end_all(self.directory.path()).await;
        for origin in self.origins {
            origin.stop().await;
        }
        left
    }
}
