//! `lb`: the L4 load balancer. This file leads to the other rooms and turns outcomes into exit codes.
//!
//! In    the command line. Out  the exit code; answers on standard output, mistakes on standard error.

mod admin_api;
mod balancer;
mod cli;
mod config;
mod metrics;
mod reload;
mod running;
mod self_tests;

use std::io::Write as _;
use std::process::ExitCode;

use balancer::Balancer;
use cli::Asked;
use dataplane::life::{self, Service as _, WRONG_CONFIGURATION};
use dataplane::settings::Mistakes;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Asked::Version) => answer(&life::version("lb", &Balancer::identity()), 0),
        Ok(Asked::Run(settings)) => match life::run::<Balancer>(&settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error.to_string(), error.exit_code()),
        },
        Ok(Asked::Check { settings, json }) => match (config::check(&settings), json) {
            (Ok(report), false) => answer(&report, 0),
            (Err(mistakes), false) => refuse(&mistakes.to_string(), WRONG_CONFIGURATION),
            (Ok(_), true) => answer(&config::report(&Mistakes::default()), 0),
            (Err(mistakes), true) => answer(&config::report(&mistakes), WRONG_CONFIGURATION),
        },
        Err(text) if text.use_stderr() => refuse(text.to_string().trim_end(), WRONG_CONFIGURATION),
        Err(help) => answer(help.to_string().trim_end(), 0),
    }
}

fn answer(text: &str, code: u8) -> ExitCode {
    // A reader that has gone away (`lb --help | head -1`) is no failure.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    ExitCode::from(code)
}

fn refuse(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
    ExitCode::from(code)
}
