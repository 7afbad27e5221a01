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
  lb run --listen 0.0.0.0:7000 --backend 10.0.0.7:80 --backend 10.0.0.8:80
  lb run --listen 127.0.0.1:6000 --backend db:5432 --admin 127.0.0.1:8082
  lb run --config /etc/zeitwork/load-balancer.toml
  lb check --config /etc/zeitwork/load-balancer.toml

Signals: SIGHUP reads the configuration again (all or nothing), SIGTERM drains and exits; a second SIGTERM
exits at once. Exit codes: 0 done, 64 the configuration is wrong (every mistake is listed), 1 anything else.
All settings: docs/configuration.md.";

#[derive(Debug, Parser)]
#[command(
    name = "lb",
    about = "L4 load balancer: a TCP connection in, a backend out",
    after_help = EXAMPLES,
    version = VERSION
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Balance connections until told to stop
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
}

/// Where the configuration comes from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The configuration file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["listen", "backends", "algorithm"], required_unless_present = "listen")]
    pub(crate) config: Option<PathBuf>,
    /// Address to listen on, instead of a configuration file; port 0 lets the kernel choose
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<String>,
    /// A backend; several times for several (checked every 10 s by connecting)
    #[arg(long = "backend", value_name = "HOST:PORT", requires = "listen")]
    pub(crate) backends: Vec<String>,
    /// How backends are chosen: round-robin, least-connections, ip-hash, random-two-choices, maglev
    #[arg(long, value_name = "NAME", requires = "listen")]
    pub(crate) algorithm: Option<String>,
    /// Address of the admin HTTP server: health, metrics, API
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) admin: Option<String>,
}

/// What the person wants.
#[derive(Debug)]
pub(crate) enum Asked {
    Run(Settings),
    Check {
        settings: Settings,
        json: bool,
    },
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
        assert!(matches!(
            parsed("lb run --config lb.toml"),
            Ok(Asked::Run(_))
        ));
        assert!(
            matches!(parsed("lb run --listen :1 --backend a:1 --backend b:1"), Ok(Asked::Run(s)) if s.backends.len() == 2)
        );
        assert!(matches!(
            parsed("lb check --config lb.toml --json"),
            Ok(Asked::Check { json: true, .. })
        ));
        assert!(matches!(parsed("lb --version"), Ok(Asked::Version)));
        for line in [
            "lb",
            "lb run",
            "lb run --backend a:1",
            "lb run --config a --listen b",
            "lb fly",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_shows_examples() {
        let help = parsed("lb --help")
            .expect_err("help is printed instead")
            .to_string();
        assert!(
            help.contains("lb run --config /etc/zeitwork/load-balancer.toml"),
            "{help}"
        );
    }
}
