//! The life of a supervisor, on one screen.
//!
//! adopt what the service manager kept, lock, take back or start the worker, serve, end.

use std::process::ExitCode;

use handoff::activation;
use handoff::notify::Notifier;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::RunArgs;
use crate::core::{Core, Ended, Happening, Signal};
use crate::holder::Holder;
use crate::layout::{Layout, LayoutError};
use crate::planning;
use crate::record::{self, Record, RecordError};
use crate::settings::SettingsError;
use crate::store::{self, Purpose, StageError};
use crate::{control_socket, rendezvous, screen, settings};

/// The worker's configuration, or ours, is wrong (contract).
const EXIT_CONFIGURATION: u8 = 64;

/// Why a supervisor does not start.
#[derive(Debug, thiserror::Error)]
enum LifeError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("--name {0:?}: use letters, digits, '-' and '_'")]
    Name(String),
    #[error("the first binary is refused: {0}")]
    Stage(#[from] StageError),
    #[error("{what}: {source}")]
    Io {
        what: String,
        source: std::io::Error,
    },
}

impl LifeError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Stage(StageError::Configuration { .. }) => EXIT_CONFIGURATION,
            _ => 1,
        }
    }
}

/// `supervisor run`.
pub(crate) fn run(args: RunArgs) -> ExitCode {
    screen::start_logging();
    // Before any thread: the variables are taken out of the environment.
    let activated = activation::from_environment();
    raise_descriptor_limit();
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| io_error("the event loop cannot start", source))
        .and_then(|runtime| runtime.block_on(live(args, activated)));
    match outcome {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::Configuration) => ExitCode::from(EXIT_CONFIGURATION),
        Err(error) => {
            screen::complain(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

async fn live(args: RunArgs, activated: activation::Activated) -> Result<Ended, LifeError> {
    check_name(&args.name)?;
    let mut settings = settings::load(args.config.as_deref())?;
    settings.listeners.extend(args.listen.iter().cloned());
    let layout = Layout::create(&args.name, first(&args.state_dir), first(&args.runtime_dir))?;
    let _lock = layout.lock(&args.name)?;
    let notifier = Notifier::from_environment();
    let mut holder = Holder::new(notifier.clone());
    for refused in &activated.refused {
        tracing::warn!("{refused}: ignored");
    }
    holder.take_over(activated.listeners);
    planning::sweep(&layout.store());
    let record = committed_record(&args, &layout).await?;

    let (happenings, inbox) = mpsc::unbounded_channel();
    let control = layout.control_socket();
    let listener = control_socket::bind(&control)
        .map_err(|source| io_error(&control.display().to_string(), source))?;
    tokio::spawn(control_socket::serve(listener, happenings.clone()));
    rendezvous::open(&layout.rendezvous(), happenings.clone())
        .map_err(|source| io_error("the rendezvous cannot be opened", source))?;
    forward_signals(&happenings)?;

    let mut core = Core::new(
        args.name.clone(),
        args.args,
        layout.clone(),
        settings,
        notifier,
        holder,
        record,
        happenings,
    );
    core.find_living_workers();
    core.bind_missing_listeners()
        .map_err(|source| io_error("a listener cannot be bound", source))?;
    let ended = core.run(inbox).await;
    let _ = std::fs::remove_file(layout.control_socket());
    let _ = std::fs::remove_file(layout.rendezvous());
    Ok(ended)
}

/// What runs: the committed version if there is one, else `--binary`, staged and checked like any other.
async fn committed_record(args: &RunArgs, layout: &Layout) -> Result<Record, LifeError> {
    if let Some(record) = record::load::<Record>(&layout.record())? {
        if record.committed.path.is_file() {
            tracing::info!(
                committed = %record.committed.label(),
                "the committed version runs; `supervisor upgrade --binary {}` swaps it",
                args.binary.display()
            );
            return Ok(record);
        }
        tracing::error!(
            path = %record.committed.path.display(),
            "the committed binary is gone from the store; beginning anew with --binary"
        );
    }
    let purpose = Purpose {
        store: layout.store(),
        args: args.args.clone(),
        service: None,
    };
    let binary = std::path::absolute(&args.binary).unwrap_or_else(|_| args.binary.clone());
    let record = Record {
        committed: store::stage(binary, purpose).await?,
        previous: None,
        generation: 0,
        serving: 0,
    };
    record::save(&layout.record(), &record)
        .map_err(|source| io_error(&layout.record().display().to_string(), source))?;
    Ok(record)
}

fn forward_signals(happenings: &mpsc::UnboundedSender<Happening>) -> Result<(), LifeError> {
    for (kind, meaning) in [
        (SignalKind::terminate(), Signal::Stop),
        (SignalKind::interrupt(), Signal::Stop),
        (SignalKind::hangup(), Signal::Reload),
    ] {
        let mut arrivals =
            signal(kind).map_err(|source| io_error("signals cannot be handled", source))?;
        let happenings = happenings.clone();
        tokio::spawn(async move {
            while arrivals.recv().await.is_some() {
                if happenings.send(Happening::Signal(meaning)).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), LifeError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return Err(LifeError::Name(name.to_owned()));
    }
    Ok(())
}

/// systemd puts several directories into one variable, separated by colons; the first is ours.
pub(crate) fn first(dirs: &std::path::Path) -> &std::path::Path {
    let text = dirs.to_str().unwrap_or_default();
    match text.split_once(':') {
        Some((first, _)) => std::path::Path::new(first),
        None => dirs,
    }
}

/// Workers inherit the limit; during a swap this process holds every listener once more.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

fn io_error(what: &str, source: std::io::Error) -> LifeError {
    LifeError::Io {
        what: what.to_owned(),
        source,
    }
}
