//! `bench`: measures built programs from outside.
//!
//! Room  parses, runs one command, gives its exit code.
//! In    the command line.
//! Out   0: clean; 1: something was lost or did not go as it must; 2: the command line is wrong, nothing was measured.

mod cli;
mod measure;

use std::process::ExitCode;

use bench::compare::{self, Cores, Scenario};
use bench::demo;
use bench::origin::{Kind, Origin};
use bench::output::{Output, complain};
use bench::scale::{self, Part};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use cli::{Cli, Command, CompareArgs, DemoArgs, KindArg, OriginArgs, ProgramArg, ScaleArgs};

/// The load generator shares the machine with what it measures: two threads are enough for every load here.
const THREADS: usize = 2;

const LOSSES: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            error.print().unwrap_or_default();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    raise_descriptor_limit();
    let place = match &command {
        Command::Compare(args) | Command::Gate(args) => Some(cores(args)),
        Command::Scale(_) => Some(Cores::One),
        _ => None,
    };
    if let Some(place) = place {
        if let Some(code) = compare::enter_own_network() {
            return code;
        }
        // Before there is a second thread: each inherits its place.
        if let Err(error) = place.take_place() {
            complain(&format!("this process cannot be pinned: {error}"));
            return ExitCode::from(LOSSES);
        }
    }
    match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(run(command)),
        Err(error) => {
            complain(&format!("the runtime cannot start: {error}"));
            ExitCode::from(LOSSES)
        }
    }
}

async fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Demo(args) => run_demo(args).await,
        Command::Ledger(args) => measure::run(args).await.map_err(|error| error.to_string()),
        Command::Compare(args) => run_compare(args, false).await,
        Command::Gate(args) => run_compare(args, true).await,
        Command::Scale(args) => run_scale(args).await,
        Command::Origin(args) => run_origin(args).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(LOSSES),
        Err(message) => {
            complain(&message);
            ExitCode::from(USAGE)
        }
    }
}

/// Every connection is a descriptor here, and so is its origin's end: takes all that the hard limit allows.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without it there are fewer connections; the ledger would say so (class `failed`, EMFILE).
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .unwrap_or_default();
}

async fn run_origin(args: OriginArgs) -> Result<bool, String> {
    let kind = match args.kind {
        KindArg::Echo => Kind::Echo,
        KindArg::Http => Kind::Http,
    };
    let mut output = Output::new(false);
    let refused = |error| format!("cannot listen on {}: {error}", args.listen);
    let origin = Origin::start(kind, args.listen).map_err(refused)?;
    output.line(&format!("listening on {}", origin.address()));
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let (accepted, open, requests) = (origin.accepted(), origin.open(), origin.requests());
    output.line(&format!(
        "stopping: {accepted} connections accepted, {open} open, {requests} requests"
    ));
    origin.stop().await;
    Ok(true)
}

fn cores(args: &CompareArgs) -> Cores {
    if args.two_cores {
        Cores::Two
    } else {
        Cores::One
    }
}

async fn run_compare(args: CompareArgs, judges: bool) -> Result<bool, String> {
    let settings = compare::Settings {
        cores: cores(&args),
        lb: args.lb,
        edge: args.edge,
        scenarios: match args.scenarios.is_empty() {
            true => Scenario::ALL.to_vec(),
            false => args.scenarios,
        },
        peers_are_wanted: !args.peers.is_empty(),
        peers: match args.peers.is_empty() {
            true => compare::Peer::USUAL.to_vec(),
            false => args.peers,
        },
        rounds: args.rounds,
        window: args.window,
        with_extras: !args.cost_only,
        access_log: args.access_log,
        report: args.report,
    };
    let mut output = Output::new(args.json);
    let outcome = if judges {
        compare::gate(&settings, &mut output).await
    } else {
        compare::run(&settings, &mut output).await
    };
    match outcome {
        Ok(is_good) => Ok(is_good),
        Err(error) => {
            complain(&error.to_string());
            Ok(false)
        }
    }
}

async fn run_scale(args: ScaleArgs) -> Result<bool, String> {
    let settings = scale::Settings {
        lb: args.lb,
        edge: args.edge,
        parts: match args.only.is_empty() {
            true => Part::ALL.to_vec(),
            false => args.only,
        },
        idle: args.idle,
        upstreams: args.upstreams,
        routes: args.routes,
        rounds: args.rounds,
        window: args.window,
    };
    let outcome = scale::run(&settings, &mut Output::new(args.json)).await;
    outcome.or_else(|error| {
        complain(&error.to_string());
        Ok(false)
    })
}

async fn run_demo(args: DemoArgs) -> Result<bool, String> {
    let settings = demo::Settings {
        lb: args.lb,
        edge: args.edge,
        supervisor: args.supervisor,
        successor: args.successor,
        edge_successor: args.edge_successor,
        only: args.only.map(|only| match only {
            ProgramArg::Lb => demo::Program::Lb,
            ProgramArg::Edge => demo::Program::Edge,
        }),
        swaps: args.swaps,
        bake: args.bake,
        duration: args.duration,
        connections: args.connections,
        inject_loss: args.inject_loss,
    };
    demo::run(settings, &mut Output::new(args.json))
        .await
        .map_err(|error| error.to_string())
}
