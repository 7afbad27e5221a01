//! The main job of the product as one command: swap the proxies' binaries under load, with nothing lost.
//!
//! Room  the order of the play; each act has its file.
//! In    built binaries: supervisor, load balancer, edge proxy, perhaps others of the two to swap with.
//! Out   lines or JSON, the ledger, and whether everything was as it must be.
//! Holds whatever happens, everything that was started is stopped again, by its process number.
//!
//! ```text
//! find binaries ─> for lb, then for edge:
//!                  set up (origins, files, supervisor) ─> play ─> tear down ─> conclude
//!                                                          │
//!        loads on ─> swap … swap ─> a bad binary ─> swap … swap ─> loads off ─> drained
//! ```

mod artifacts;
mod binaries;
mod entries;
mod findings;
mod loads;
mod narrator;
mod play;
mod processes;
mod scene;
mod status;
mod supervisor;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::output::Output;
use binaries::{Binaries, Cast};
use scene::Scene;

/// What a person can choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The load balancer; `None`: beside this program.
    pub lb: Option<PathBuf>,
    /// The edge proxy; `None`: beside this program.
    pub edge: Option<PathBuf>,
    /// The supervisor; `None`: beside this program.
    pub supervisor: Option<PathBuf>,
    /// What to swap with; `None`: a copy of the load balancer with a trailing comment.
    pub successor: Option<PathBuf>,
    /// The same for the edge proxy.
    pub edge_successor: Option<PathBuf>,
    /// One program only; `None`: one after the other.
    pub only: Option<Program>,
    /// Good swaps, one after the other. The bad binary comes after half of them.
    pub swaps: u32,
    /// How long the incumbent stays parked in each swap.
    pub bake: Duration,
    /// The loads run at least this long.
    pub duration: Duration,
    /// Clients over all loads.
    pub connections: usize,
    /// Kill the serving process once, so that the ledger has something to notice.
    pub inject_loss: bool,
}

/// What can be swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The L4 load balancer.
    Lb,
    /// The L7 edge proxy.
    Edge,
}

impl Program {
    /// In the order of the play.
    pub const ALL: [Self; 2] = [Self::Lb, Self::Edge];

    /// The binary's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lb => "lb",
            Self::Edge => "edge",
        }
    }

    /// For a person.
    fn title(self) -> &'static str {
        match self {
            Self::Lb => "load balancer",
            Self::Edge => "edge proxy",
        }
    }

    /// The name under its supervisor.
    fn service(self) -> &'static str {
        match self {
            Self::Lb => "load-balancer",
            Self::Edge => "edge-proxy",
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why there is nothing to conclude.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Something to run is missing.
    #[error(transparent)]
    Binaries(#[from] binaries::FindBinaryError),
    /// The scene could not be built.
    #[error("the demo cannot be set up: {what}")]
    SetUp {
        /// What was being made.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Too few clients for all loads.
    #[error("the demo needs at least {0} connections for its loads")]
    TooFewConnections(usize),
}

/// Plays the demo. `Ok(true)`: nothing was lost and every step went as it must.
///
/// # Errors
/// The demo could not begin; nothing was measured.
pub async fn run(settings: Settings, output: &mut Output) -> Result<bool, DemoError> {
    if settings.connections < loads::CONNECTIONS_MIN {
        return Err(DemoError::TooFewConnections(loads::CONNECTIONS_MIN));
    }
    let binaries = Binaries::find(&settings)?;
    let mut verdicts = Vec::new();
    for cast in &binaries.casts {
        let ending = play_one(cast, &binaries.supervisor, &settings, output).await?;
        verdicts.push((cast.program, ending == Ending::Good));
        if ending == Ending::Interrupted {
            break;
        }
    }
    if verdicts.len() > 1 {
        narrator::conclude_all(&verdicts, output);
    }
    Ok(verdicts.iter().all(|(_, is_good)| *is_good))
}

/// How the play of one program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Good,
    Bad,
    Interrupted,
}

async fn play_one(
    cast: &Cast,
    supervisor: &Path,
    settings: &Settings,
    output: &mut Output,
) -> Result<Ending, DemoError> {
    let mut scene = Scene::set_up(cast, supervisor)?;
    output.line(&scene.describe());
    let played = tokio::select! {
        played = play::play(&mut scene, settings, output) => played,
        () = interrupted() => Err(play::PlayError::Interrupted),
    };
    let log = match played {
        Ok(_) | Err(play::PlayError::Interrupted) => String::new(),
        Err(_) => scene.supervisor.log_tail(),
    };
    let left = scene.tear_down().await;
    Ok(match played {
        Ok(mut findings) => {
            findings.processes_left = left;
            narrator::conclude(&findings, output);
            if findings.faults().is_empty() {
                Ending::Good
            } else {
                Ending::Bad
            }
        }
        Err(error) => {
            narrator::give_up(&error, &log, &left, output);
            match error {
                play::PlayError::Interrupted => Ending::Interrupted,
                _ => Ending::Bad,
            }
        }
    })
}

/// Ends when a person or a service manager wants an end.
async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
