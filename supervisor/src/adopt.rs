//! Whether another binary may become this supervisor: asked by the running one, answered by the next one.
//!
//! In    a path that a person gave, the real state and the real arguments. Out  a staged binary, or a refusal.
//! Holds a next supervisor has read this very state, these arguments and these settings, and speaks with every
//!       living worker, before anything of the running one is touched.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use handoff::version::SPOKEN;
use handoff::worker::Identity;
use handoff::{STATE_BYTES_MAX, Sealed};

use crate::carried::Carried;
use crate::cli::{AdoptArgs, Cli};
use crate::image::SERVICE;
use crate::probe::{self, ProbeError};
use crate::record::Artifact;
use crate::screen::{complain, say};
use crate::settings;
use crate::signature::SignatureSetting;
use crate::store::{self, Purpose, StageError};

/// How long the next supervisor may take to look at the state. Covers: asking each living worker's binary which
/// protocol it speaks.
const CHECK_DEADLINE: Duration = Duration::from_secs(15);

/// Exit code of a refusal (contract).
const EXIT_REFUSED: u8 = 7;

/// Why a binary may not become this supervisor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    #[error(
        "it is {0}, and no supervisor that can be upgraded in place (an older one is installed, and begins with a restart of the unit)"
    )]
    NoSupervisor(String),
    #[error(transparent)]
    Stage(StageError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("the state cannot be handed on: {0}")]
    State(#[from] handoff::SealedError),
    #[error("it does not go on from this state (exit code {code}):\n{output}")]
    Refused { code: String, output: String },
}

impl From<StageError> for AdoptError {
    fn from(error: StageError) -> Self {
        match error {
            StageError::OtherService { theirs, .. } => Self::NoSupervisor(theirs),
            other => Self::Stage(other),
        }
    }
}

/// `--version` for a supervisor that asks.
pub(crate) fn description() -> Option<String> {
    let mut args = std::env::args_os().skip(1);
    let asked = args.next().is_some_and(|arg| arg == "--version") && args.next().is_none();
    let identity = Identity {
        service: SERVICE.to_owned(),
        version: crate::VERSION.to_owned(),
        moves: false,
    };
    asked.then(|| handoff::worker::describe(&identity))?
}

/// Stages a binary and has it look at `state`, which is the real one without its secrets.
pub(crate) async fn stage(
    binary: PathBuf,
    store: PathBuf,
    signature: Option<SignatureSetting>,
    state: Vec<u8>,
) -> Result<Artifact, AdoptError> {
    let purpose = Purpose {
        store,
        args: Vec::new(),
        signature,
        service: Some(SERVICE.to_owned()),
    };
    let artifact = store::stage(binary, purpose).await?;
    let state = Sealed::seal(&state)?;
    let stdin = state.as_fd().try_clone_to_owned();
    let stdin = stdin.map_err(handoff::SealedError::from)?;
    let own = std::env::args_os().skip(1);
    let asked: [OsString; 3] = ["adopt".into(), "--check".into(), "--".into()];
    let args: Vec<OsString> = asked.into_iter().chain(own).collect();
    let stdin = Stdio::from(stdin);
    let run = probe::run(
        &artifact.path,
        &args,
        stdin,
        CHECK_DEADLINE,
        "adopt --check",
    )
    .await?;
    // The word, and not only the exit code: some program may answer anything with 0.
    if run.status.success() && run.output.lines().any(|line| line == READY_WORD) {
        return Ok(artifact);
    }
    Err(AdoptError::Refused {
        code: run
            .status
            .code()
            .map_or_else(|| run.status.to_string(), |code| code.to_string()),
        output: run.output,
    })
}

/// What a supervisor says that could go on.
const READY_WORD: &str = "this supervisor can go on from this state";

/// `supervisor adopt --check`.
pub(crate) fn check(args: &AdoptArgs) -> ExitCode {
    match look(args) {
        Ok(()) => {
            say(READY_WORD);
            ExitCode::SUCCESS
        }
        Err(reason) => {
            complain(&reason);
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

fn look(args: &AdoptArgs) -> Result<(), String> {
    let run = Cli::run_args(&args.supervisor_args)?;
    settings::load(run.config.as_deref()).map_err(|error| error.to_string())?;
    let state = read_stdin().map_err(|error| format!("the state cannot be read: {error}"))?;
    let carried = Carried::parse(&state, &run.name).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(speaks_with_all(&carried))
}

/// Each living worker returns to this supervisor: they must have a protocol in common.
async fn speaks_with_all(carried: &Carried) -> Result<(), String> {
    for generation in &carried.generations {
        let artifact = &generation.worker.artifact;
        if !artifact.is_native() || !artifact.path.is_file() {
            continue;
        }
        let described = probe::describe(&artifact.path).await;
        let theirs = described.ok().and_then(|described| described.handoff);
        if let Some(theirs) = theirs
            && SPOKEN.agree(theirs).is_none()
        {
            return Err(format!(
                "generation {} ({}) speaks handoff {theirs}, this supervisor speaks {SPOKEN}: no protocol in common",
                generation.worker.generation,
                artifact.label(),
            ));
        }
    }
    Ok(())
}

fn read_stdin() -> io::Result<Vec<u8>> {
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // A memory file was written by the asking process through the same description; a pipe cannot be rewound.
    let _ = file.rewind();
    let mut state = Vec::new();
    let limit = u64::try_from(STATE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut state)?;
    Ok(state)
}
