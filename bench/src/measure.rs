//! `bench ledger`: one load, progress, the account, the verdict.
//!
//! Room  from settings to a running load and back to lines.
//! In    the command line's settings.
//! Out   lines or JSON, and whether the ledger is clean.
//! Holds Ctrl-C ends the load early and still gives the whole account.

use std::time::{Duration, Instant};

use bench::ledger::Ledger;
use bench::load::{Expect, IdleClose, Load, Running, Shape, StartLoadError};
use bench::output::Output;
use bench::report;
use bench::target::{Target, TargetError};
use bench::trust::Trust;
use serde_json::json;
use tokio::signal::ctrl_c;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::cli::{ExpectArg, LedgerArgs, ShapeArg};

/// Between two progress lines.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Why nothing was measured: the command line is wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeasureError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Load(#[from] StartLoadError),
    #[error("the authority cannot be trusted: {0}")]
    Trust(#[source] std::io::Error),
}

/// Runs the load and says whether the ledger is clean.
pub(crate) async fn run(args: LedgerArgs) -> Result<bool, MeasureError> {
    let mut output = Output::new(args.json);
    let (duration, load) = (args.duration, plan_load(&args)?);
    output.line(&format!(
        "{} clients on {} for {:?}",
        load.connections, load.target, duration
    ));
    let epoch = load.epoch;
    let running = load.start()?;
    watch(&running, epoch, duration, &mut output).await;
    let ledger = running.finish().await;
    conclude(&ledger, &mut output);
    Ok(ledger.is_clean())
}

fn plan_load(args: &LedgerArgs) -> Result<Load, MeasureError> {
    let shape = match args.shape {
        ShapeArg::Short => Shape::Short,
        ShapeArg::KeepAlive => Shape::KeepAlive,
        ShapeArg::LongLived => Shape::LongLived,
        ShapeArg::Http2 => Shape::Http2,
        ShapeArg::WebSocket => Shape::WebSocket,
        ShapeArg::Mix => Shape::Mix,
    };
    let mut load = Load::new(Target::parse(&args.target)?, shape, args.connections);
    load.trust = match (&args.ca, args.insecure) {
        (Some(file), _) => Some(Trust::authority(file).map_err(MeasureError::Trust)?),
        (None, true) => Some(Trust::anybody().map_err(MeasureError::Trust)?),
        (None, false) => None,
    };
    load.rate = args.rate;
    load.payload_bytes = 1..=args.payload;
    load.exchanges_per_connection = args.per_connection;
    load.streams_per_connection = args.streams;
    load.limits.stall = args.stall;
    load.slice = args.slice;
    if let Some(interval) = args.interval {
        load.trickle = interval;
        load.pause = interval;
    }
    if args.allow_idle_close {
        load.idle_close = IdleClose::Allowed;
    }
    match args.expect {
        None => {}
        Some(ExpectArg::Echo) => load.expect = Expect::Echo,
        Some(ExpectArg::Discard) => load.expect = Expect::Discard,
        Some(ExpectArg::Pattern) => load.expect = Expect::Pattern,
        Some(ExpectArg::Complete) => load.expect = Expect::Complete,
    }
    Ok(load)
}

/// Shows progress until the time is over or somebody presses Ctrl-C.
async fn watch(running: &Running, epoch: Instant, duration: Duration, output: &mut Output) {
    let mut ticks = interval(PROGRESS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    let end = sleep(duration);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            _ = ctrl_c() => return,
            _ = ticks.tick() => {
                let (ledger, established) = (running.snapshot(), running.established());
                let at = epoch.elapsed();
                output.progress(&format!("{:>6.1} s  {}", at.as_secs_f64(), report::progress(&ledger, established)));
                output.event(&json!({
                    "event": "progress", "at": at.as_secs_f64(), "established": established,
                    "connections": ledger.connections, "exchanges": ledger.exchanges, "latency": ledger.latency,
                }));
            }
        }
    }
}

fn conclude(ledger: &Ledger, output: &mut Output) {
    output.line(&format!(
        "\n{}\n{}",
        report::table(ledger),
        report::verdict(ledger)
    ));
    output.event(&json!({
        "event": "ledger", "clean": ledger.is_clean(), "losses": ledger.losses(), "ledger": ledger,
    }));
}
