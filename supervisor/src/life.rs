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
use crate::doors::{self, Doors};
use crate::holder::Holder;
use crate::inheritance::Inheritance;
use crate::layout::{Layout, LayoutError};
use crate::planning;
use crate::record::{self, Record, RecordError};
use crate::settings::{Settings, SettingsError};
use crate::store::{self, Purpose, StageError};
use crate::{image, screen, settings};

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
    let inheritance = Inheritance::take(&args.name);
    image::learn_digest();
    raise_descriptor_limit();
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Threads of blocking tasks: signals are the main thread's, which holds them back across an exec.
        .on_thread_start(image::hold_signals)
        .build()
        .map_err(|source| io_error("the event loop cannot start", source))
        .and_then(|runtime| runtime.block_on(live(args, activated, inheritance)));
    match outcome {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::Configuration) => ExitCode::from(EXIT_CONFIGURATION),
        Err(error) => {
            screen::complain(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

async fn live(
    args: RunArgs,
    activated: activation::Activated,
    mut inheritance: Inheritance,
) -> Result<Ended, LifeError> {
    check_name(&args.name)?;
    let mut settings = settings::load(args.config.as_deref())?;
    settings.listeners.extend(args.listen.iter().cloned());
    settings.health_url = args.health_url.clone().or(settings.health_url);
    let layout = Layout::create(&args.name, first(&args.state_dir), first(&args.runtime_dir))?;
    let lock = doors::lock(&layout, &args.name, &mut inheritance.given)?;
    // Held to the last line.
    let _lock = lock.try_clone();
    let notifier = Notifier::from_environment();
    let mut holder = Holder::new(notifier.clone());
    for refused in &activated.refused {
        tracing::warn!("{refused}: ignored");
    }
    holder.take_over(activated.listeners);
    planning::sweep(&layout.store());
    holder.go_on_with(std::mem::take(&mut inheritance.listeners));
    let record = match &inheritance.carried {
        Some(carried) => carried.record.clone(),
        None => committed_record(&args, &layout, &settings).await?,
    };

    if settings.health_url.is_some() && record.committed.is_native() {
        tracing::warn!(
            "the health URL is not asked: this service tells its health by the native handoff"
        );
    }

    let (happenings, inbox) = mpsc::unbounded_channel();
    let given = std::mem::take(&mut inheritance.given);
    let doors = Doors::open(&layout, lock, given, happenings.clone())
        .map_err(|source| io_error(&layout.control_socket().display().to_string(), source))?;
    let metrics = settings.metrics.map(|metrics| metrics.listen);
    if let Some(address) = args.metrics.or(metrics) {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener =
            listener.map_err(|source| io_error(&format!("metrics on {address}"), source))?;
        tokio::spawn(crate::metrics::serve(listener, happenings.clone()));
    }
    forward_signals(&happenings)?;
    image::hear_signals();

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
    core.doors = Some(doors);
    match inheritance.carried {
        Some(carried) => core.go_on_from(*carried, inheritance.ears),
        None => core.find_living_workers(),
    }
    core.bind_missing_listeners()
        .map_err(|source| io_error("a listener cannot be bound", source))?;
    let ended = core.run(inbox).await;
    let _ = std::fs::remove_file(layout.control_socket());
    let _ = std::fs::remove_file(layout.rendezvous());
    Ok(ended)
}

/// What runs: the committed version if there is one, else `--binary`, staged and checked like any other.
async fn committed_record(
    args: &RunArgs,
    layout: &Layout,
    settings: &Settings,
) -> Result<Record, LifeError> {
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
        signature: settings.signature.clone(),
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
