//! The L7 edge proxy: a request in, an upstream out. Not furnished yet.
//!
//! Holds  it says so: `run` and `check` end with an error instead of pretending to serve.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The version this binary reports; BUILD_VERSION at build time overrides the workspace's.
const VERSION: &str = match option_env!("BUILD_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// The L7 edge proxy. This release does not serve yet; see CHANGELOG.md.
#[derive(Debug, Parser)]
#[command(name = "edge", version = VERSION)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Ends with an error: this release has no edge proxy.
    Run,
    /// Ends with an error: this release has no edge proxy.
    Check,
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(Cli {
            verb: Verb::Run | Verb::Check,
        }) => {
            let _ = writeln!(
                std::io::stderr().lock(),
                "edge: this release has no edge proxy yet; `lb` balances TCP, see README.md"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = error.print();
            ExitCode::from(u8::from(error.use_stderr()))
        }
    }
}
