//! The supervisor: holds the listeners of one service on one host and swaps the binary behind them.
//!
//! Read next: `life.rs` (how a supervisor starts and ends, on one screen), `swap.rs` (the order of an
//! upgrade, as a table), `core.rs` (the loop that carries it out).

mod adopt;
mod backoff;
mod canary;
mod carried;
mod census;
mod child;
mod cli;
mod commands;
mod control_socket;
mod core;
mod doors;
mod facts;
mod family;
#[cfg(debug_assertions)]
mod faults;
mod generation;
mod health;
mod holder;
mod image;
mod inheritance;
mod layout;
mod level1;
mod life;
mod metrics;
mod orphans;
mod parcel;
mod plan;
mod plan_screen;
mod planning;
mod probe;
mod queue;
mod record;
mod rendezvous;
mod requests;
mod retire;
mod screen;
mod self_test;
mod settings;
mod signature;
mod store;
mod swap;
mod tally;
mod ticket_keys;
mod usage;
mod verdict;
mod webhook;

use std::process::ExitCode;

use clap::Parser as _;

/// The version this binary reports; BUILD_VERSION at build time overrides the workspace's.
pub(crate) const VERSION: &str = match option_env!("BUILD_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    if let Some(description) = adopt::description() {
        screen::say(&description);
        return ExitCode::SUCCESS;
    }
    match cli::Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => {
            let _ = error.print();
            // Help and version are no errors; a wrong flag is usage (contract: 1).
            ExitCode::from(u8::from(error.use_stderr()))
        }
    }
}
