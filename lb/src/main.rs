//! `lb`: the L4 load balancer. This file leads to the other rooms and turns outcomes into exit codes.
//!
//! In    the command line. Out  the exit code; answers on standard output, mistakes on standard error.

mod admin_api;
mod balancer;
mod cli;
mod config;
mod entry;
mod metrics;
mod orders;
mod reload;
mod run;
mod running;
mod upstreams;

use std::io::Write as _;
use std::process::ExitCode;

use handoff::worker::{Identity, describe};
use serde_json::json;

/// EX_USAGE and more: the configuration or the command line is wrong; starting again will not help.
const WRONG_CONFIGURATION: u8 = 64;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(cli::Asked::Version) => answer(&version()),
        Ok(cli::Asked::Run(settings)) => match run::run(&settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error.to_string(), error.exit_code()),
        },
        Ok(cli::Asked::Check { settings, json }) => match (config::check(&settings), json) {
            (Ok(report), false) => answer(&report),
            (Err(mistakes), false) => refuse(&mistakes.to_string(), WRONG_CONFIGURATION),
            (outcome, true) => {
                let mistakes = outcome.err().unwrap_or_default();
                answer(&json!({ "ok": mistakes.is_empty(), "mistakes": mistakes }).to_string());
                ExitCode::from(if mistakes.is_empty() {
                    0
                } else {
                    WRONG_CONFIGURATION
                })
            }
        },
        Err(text) if text.use_stderr() => refuse(text.to_string().trim_end(), WRONG_CONFIGURATION),
        Err(help) => answer(help.to_string().trim_end()),
    }
}

/// Who this binary is, to people (`lb 1.3.0`) or to the supervisor that asks.
fn version() -> String {
    describe(&identity()).unwrap_or_else(|| format!("lb {}", cli::VERSION))
}

/// Who this worker is in a handoff.
fn identity() -> Identity {
    Identity {
        service: "load-balancer".to_owned(),
        version: cli::VERSION.to_owned(),
    }
}

fn answer(text: &str) -> ExitCode {
    // A reader that has gone away (`lb --help | head -1`) is no failure.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    ExitCode::SUCCESS
}

fn refuse(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
    ExitCode::from(code)
}
