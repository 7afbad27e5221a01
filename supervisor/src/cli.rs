//! The command line: what a person or a unit file can say.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::health::url::{HealthUrl, parse_health_url};
use crate::settings::{ListenerSetting, parse_listen};
use crate::{adopt, child, commands, life, screen};

/// Holds the listeners of one service on one host and swaps the binary behind them.
#[derive(Debug, Parser)]
#[command(
    name = "supervisor",
    version = crate::VERSION,
    after_help = "Examples:
  supervisor run --name load-balancer --binary /usr/local/bin/zeitwork-load-balancer -- run --config /etc/zeitwork/load-balancer.toml
  supervisor upgrade --binary ./lb-1.3.0            swap, bake, commit; the exit code is the verdict
  supervisor upgrade --binary ./lb-1.3.0 --dry-run  what would change, what is short, what will drain
  supervisor upgrade --binary ./lb-1.3.0 --canary 10,50   10 %, then half, then all of the connections
  supervisor status --json                          what runs, what is committed, what drains
  supervisor upgrade --self --binary ./supervisor   replace the supervisor itself, in the same process
  supervisor rollback                               return to the previous version
  curl --unix-socket /run/zeitwork/load-balancer/control.sock http://supervisor/v1/status

Exit codes of upgrade and rollback:
  0 committed   1 usage or no supervisor   3 paused   4 failed and rolled back cleanly
  5 rollback incomplete   6 another upgrade is running   7 refused before it was started"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a service under this supervisor (what the systemd unit does).
    Run(Box<RunArgs>),
    /// Swap the worker's binary, or with --self the supervisor's: stage, check, start beside the running one, switch, bake, commit or roll back.
    Upgrade(UpgradeArgs),
    /// What runs, what is committed, what drains.
    Status(Where),
    /// Return to the previous version, or end the running upgrade.
    Rollback(Where),
    /// Go on with a paused upgrade, whatever was found.
    Resume(Where),
    /// End the running upgrade; the incumbent serves on.
    Abort(Where),
    /// Make the worker read its configuration again, all or nothing.
    Reload(Where),
    /// How every swap, crash and start ended.
    History(Where),
    /// Let every connection finish (bounded), then end worker and supervisor.
    Stop(Where),
    /// Says whether this binary could go on from the state on standard input.
    #[command(hide = true)]
    Adopt(Box<AdoptArgs>),
    /// Every step of a swap, for the crash matrix of the tests.
    #[cfg(debug_assertions)]
    #[command(hide = true)]
    Steps,
    /// Becomes a program that expects LISTEN_PID to be its own number.
    #[command(hide = true)]
    Activate {
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
}

/// What to run and where to keep it.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Name of the service; also the name of its directories.
    #[arg(long)]
    pub(crate) name: String,
    /// The worker's binary at the first start; later the committed version runs.
    #[arg(long)]
    pub(crate) binary: PathBuf,
    /// Where staged binaries and the record are kept.
    #[arg(long, env = "STATE_DIRECTORY", default_value = "/var/lib/zeitwork")]
    pub(crate) state_dir: PathBuf,
    /// Where the sockets are.
    #[arg(long, env = "RUNTIME_DIRECTORY", default_value = "/run/zeitwork")]
    pub(crate) runtime_dir: PathBuf,
    /// supervisor.toml: times, listeners, signature, metrics, webhook (docs/operating.md).
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// A listener that the supervisor binds itself, for programs that know only LISTEN_FDS.
    #[arg(long, value_name = "[NAME=]ADDRESS", value_parser = parse_listen)]
    pub(crate) listen: Vec<ListenerSetting>,
    /// Where a program that knows only LISTEN_FDS says how it is, as in http://127.0.0.1:8000/health: it is ready when
    /// it answers there itself, and looked at all the time; also `health_url` in the configuration.
    #[arg(long, value_name = "URL", value_parser = parse_health_url)]
    pub(crate) health_url: Option<HealthUrl>,
    /// Where metrics are served, as in 127.0.0.1:9090; also `listen` of `[metrics]` in the configuration.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<std::net::SocketAddr>,
    /// The worker's arguments.
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

/// Which supervisor, and how to print.
#[derive(Clone, Debug, Args)]
pub(crate) struct Where {
    /// Name of the service; may be left out where one supervisor runs.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where the sockets are.
    #[arg(long, env = "RUNTIME_DIRECTORY", default_value = "/run/zeitwork")]
    pub(crate) runtime_dir: PathBuf,
    /// One JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpgradeArgs {
    /// The new binary.
    #[arg(long)]
    pub(crate) binary: PathBuf,
    /// Replace the supervisor itself, in the same process; the workers are not touched.
    #[arg(long = "self", conflicts_with_all = ["bake", "ready_timeout", "canary", "step", "migrate"])]
    pub(crate) supervisor_itself: bool,
    /// How long the incumbent stays parked before the commit, as in 30s (default: the supervisor's, 10s).
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) bake: Option<Duration>,
    /// Give the new version this much of every listener first, in percent, step by step, as in 10,50.
    #[arg(long, value_delimiter = ',', value_name = "PERCENT,…")]
    pub(crate) canary: Option<Vec<u8>>,
    /// How long each step of the canary lasts (default: the supervisor's, 10s).
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) step: Option<Duration>,
    /// When live connections move to the new version: commit, canary (with each step of it) or never (default: the supervisor's,
    /// commit).
    #[arg(long, value_name = "WHEN")]
    pub(crate) migrate: Option<control::Migrate>,
    /// How long the new version may take to become ready (default: the supervisor's, 30s).
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) ready_timeout: Option<Duration>,
    /// Only tell what would be done (0: it would be allowed, 7: refused); nothing is started.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) place: Where,
}

/// What the running supervisor asks its successor before it becomes it.
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// Only say so; nothing is changed.
    #[arg(long, required = true)]
    pub(crate) check: bool,
    /// The running supervisor's arguments.
    #[arg(last = true, required = true)]
    pub(crate) supervisor_args: Vec<std::ffi::OsString>,
}

impl Cli {
    /// What to run, if these are the arguments of `supervisor run`.
    pub(crate) fn run_args(args: &[std::ffi::OsString]) -> Result<RunArgs, String> {
        let whole = [std::ffi::OsString::from("supervisor")];
        match Self::try_parse_from(whole.iter().chain(args)) {
            Ok(Self {
                verb: Verb::Run(args),
            }) => Ok(*args),
            Ok(_) => Err("these are not the arguments of `supervisor run`".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(crate) fn run(self) -> ExitCode {
        match self.verb {
            Verb::Run(args) => life::run(*args),
            Verb::Activate { program } => {
                let error = child::become_program(&program);
                screen::complain(&format!("{}: {error}", program.join(" ")));
                ExitCode::from(EXIT_NOT_EXECUTABLE)
            }
            Verb::Adopt(args) => adopt::check(&args),
            Verb::Upgrade(args) if args.supervisor_itself => commands::self_upgrade(&args),
            Verb::Upgrade(args) => commands::upgrade(args),
            #[cfg(debug_assertions)]
            Verb::Steps => {
                for phase in crate::swap::Phase::ALL {
                    screen::say(&phase.step());
                }
                ExitCode::SUCCESS
            }
            Verb::Rollback(place) => commands::rollback(&place),
            Verb::Resume(place) => commands::resume(&place),
            Verb::Status(place) => commands::status(&place),
            Verb::History(place) => commands::history(&place),
            Verb::Abort(place) => commands::ask(&place, "abort"),
            Verb::Reload(place) => commands::ask(&place, "reload"),
            Verb::Stop(place) => commands::stop(&place),
        }
    }
}

/// What a shell answers for a program that is there and cannot be executed.
const EXIT_NOT_EXECUTABLE: u8 = 126;
