//! The command line: strings in, nothing checked but its form.
//!
//! Room  pure: what the strings mean is decided in `config`.
//! Out   [`Asked`]: what the person wants.
//! Holds a command line that makes no sense ends with 64, as a wrong configuration does.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// This build's version: `BUILD_VERSION` at build time, else the workspace's.
pub(crate) const VERSION: &str = match option_env!("BUILD_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

const EXAMPLES: &str = "\
Examples:
  edge run --listen :8000 --to 127.0.0.1:3000
  edge run --listen :443 --cert server.crt --key server.key --to 10.0.0.7:80 --to 10.0.0.8:80
  edge run --config /etc/zeitwork/edge-proxy.toml
  edge check --config /etc/zeitwork/edge-proxy.toml
  edge explain https://app.example.com/api/x -H 'X-Canary: 1' --config /etc/zeitwork/edge-proxy.toml

Signals: SIGHUP reads the configuration again (all or nothing), SIGTERM drains and exits; a second SIGTERM
exits at once. Exit codes: 0 done, 64 the configuration is wrong (every mistake is listed), 1 anything else.
All settings: docs/configuration.md.";

#[derive(Debug, Parser)]
#[command(
    name = "edge",
    about = "L7 edge proxy: TLS, HTTP/1.1 and HTTP/2, routing, limits",
    after_help = EXAMPLES,
    version = VERSION
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve requests until told to stop
    #[command(after_help = EXAMPLES)]
    Run(Settings),
    /// Read the configuration and list every mistake, without running
    #[command(after_help = EXAMPLES)]
    Check {
        #[command(flatten)]
        settings: Settings,
        /// One JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Say which route a request would take, and why, without running
    #[command(after_help = EXAMPLES)]
    Explain(Explain),
}

/// Where the configuration comes from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The configuration file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["listen", "to"], required_unless_present = "listen")]
    pub(crate) config: Option<PathBuf>,
    /// Address to listen on, instead of a configuration file; `:8000` is every address
    #[arg(long, value_name = "[IP]:PORT")]
    pub(crate) listen: Option<String>,
    /// A backend, `host:port` or a URL; several times for several
    #[arg(long, value_name = "BACKEND", requires = "listen")]
    pub(crate) to: Vec<String>,
    /// Certificate chain (PEM) of the listener; with --key
    #[arg(long, value_name = "FILE", requires_all = ["listen", "key"])]
    pub(crate) cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Address of the admin HTTP server: health, metrics, API
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) admin: Option<String>,
}

/// A request that is only thought of.
#[derive(Args, Clone, Debug)]
pub(crate) struct Explain {
    /// `https://host/path?query`
    pub(crate) url: String,
    /// A header of the request; several times for several
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Its method
    #[arg(short = 'X', long, default_value = "GET")]
    pub(crate) method: String,
    /// The client's address
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) from: std::net::IpAddr,
    /// One JSON object instead of lines
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// What the person wants.
#[derive(Debug)]
pub(crate) enum Asked {
    Run(Settings),
    Check {
        settings: Settings,
        json: bool,
    },
    Explain(Explain),
    /// `--version`, possibly asked by a supervisor that wants more than the usual line.
    Version,
}

/// Reads the command line. The error is a text to print, `--help` included.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Before clap, which would print its own line and exit.
    if arguments
        .get(1)
        .is_some_and(|first| first == "--version" || first == "-V")
    {
        return Ok(Asked::Version);
    }
    Ok(match Cli::try_parse_from(arguments)?.command {
        Command::Run(settings) => Asked::Run(settings),
        Command::Check { settings, json } => Asked::Check { settings, json },
        Command::Explain(explain) => Asked::Explain(explain),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{Asked, parse};

    fn parsed(line: &str) -> Result<Asked, clap::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn a_file_or_an_address_is_needed_and_never_both() {
        for line in [
            "edge run --config edge.toml",
            "edge run --listen :8000 --to 127.0.0.1:3000",
            "edge check --config edge.toml --json",
            "edge explain https://x/ -H a:b --config edge.toml",
            "edge --version",
        ] {
            assert!(parsed(line).is_ok(), "{line}");
        }
        for line in [
            "edge",
            "edge run",
            "edge run --to a:1",
            "edge run --config a --listen b",
            "edge run --listen :1 --cert x",
            "edge fly",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_shows_examples() {
        let help = parsed("edge --help").expect_err("is printed").to_string();
        assert!(help.contains("edge run --listen :8000"), "{help}");
    }
}
