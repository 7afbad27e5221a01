//! The configuration of `lb`: from a file or flags, overridden by the environment, checked as a whole.
//!
//! ```text
//!   lb.toml ──▶ read ─┐
//!   flags ────▶ flags ┼─▶ Config   (or every mistake at once)
//!   environment ──────┘
//! ```
//!
//! Room  pure but for `load`, which opens the file.
//! Holds a `Config` that exists is consistent: names are unique, every listener's upstream exists, addresses
//!       do not collide. Defaults are the named constants here and in `dataplane`.

mod flags;
mod listener;
mod read;
mod show;

use std::net::SocketAddr;
use std::time::Duration;

use dataplane::config::Overrides;
use dataplane::discovery::DiscoverySettings;
use dataplane::listeners;
use dataplane::process::LogLevel;
use dataplane::settings::{Environment, Mistakes, Notes, Place, Source, Spot};
use dataplane::upstreams::UpstreamConfig;
use handoff::ListenerName;
use ipnet::IpNet;
use lb::shard::{LISTEN_BACKLOG, Timeouts};

use crate::balancer::wanted;
use crate::cli::Settings;
pub(crate) use show::{main_algorithm, show};

/// Everything `lb` is told.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `None`: no admin server.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) log_level: LogLevel,
    /// Shard threads; 0: one for each core.
    pub(crate) workers: usize,
    pub(crate) timeouts: Timeouts,
    /// How long connections may go on after SIGTERM.
    pub(crate) drain_timeout: Duration,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) upstreams: Vec<UpstreamConfig>,
    pub(crate) discovery: Option<DiscoverySettings>,
}

/// One `[[listener]]`.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) name: ListenerName,
    pub(crate) address: SocketAddr,
    pub(crate) upstream: String,
    /// Members of its SO_REUSEPORT group.
    pub(crate) sockets: usize,
    /// Connections begin with a PROXY header.
    pub(crate) proxy_protocol: bool,
    /// Whose PROXY headers are believed.
    pub(crate) trusted: Vec<IpNet>,
    pub(crate) max_connections: Option<usize>,
}

/// Name of the listener and the upstream that flags make.
const FLAGS_NAME: &str = "main";

/// What an environment variable holds.
pub(crate) type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

/// Reads the file that `settings` names, or the flags themselves.
///
/// # Errors
/// Every mistake, in the order of the file; also a file that cannot be read.
pub(crate) fn load(settings: &Settings, lookup: Lookup<'_>) -> Result<Config, Mistakes> {
    let Some(path) = &settings.config else {
        return parse(settings, None, lookup);
    };
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(settings, Some((&file, &text)), lookup),
        Err(error) => {
            let notes = Notes::default();
            let spot = Spot {
                place: Place::CommandLine,
                key: "--config".to_owned(),
            };
            notes.mistake(&spot, format!("{file} cannot be read: {error}"), None);
            Err(notes.into_mistakes())
        }
    }
}

/// `source` is the file's name and text; without it the flags are the configuration.
pub(crate) fn parse(
    settings: &Settings,
    source: Option<(&str, &str)>,
    lookup: Lookup<'_>,
) -> Result<Config, Mistakes> {
    let notes = Notes::default();
    let config = {
        let overrides = Overrides::read(
            &notes,
            settings.admin.as_deref(),
            &Environment::new(&notes, lookup),
        );
        match source {
            Some((file, text)) => Source::parse(file, text, &notes)
                .and_then(|source| read::file(source.root(&notes), &notes, &overrides)),
            None => flags::read(settings, &notes, &overrides),
        }
    };
    match config {
        Some(config) if notes.count() == 0 => Ok(config),
        _ => Err(notes.into_mistakes()),
    }
}

/// The environment of this process.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `lb check`: what the configuration is, in one line.
///
/// # Errors
/// Every mistake.
pub(crate) fn check(settings: &Settings) -> Result<String, Mistakes> {
    let config = load(settings, &environment)?;
    let name = settings
        .config
        .as_ref()
        .map_or_else(|| "flags".to_owned(), |path| path.display().to_string());
    let backends: usize = config
        .upstreams
        .iter()
        .map(|upstream| upstream.backends.len())
        .sum();
    let told = format!(
        "{name}: the configuration is right ({} listeners, {} upstreams, {backends} backends)",
        config.listeners.len(),
        config.upstreams.len()
    );
    let wants = listeners::describe(&wanted(&config), LISTEN_BACKLOG.into());
    Ok(wants.map_or_else(|| told.clone(), |wants| format!("{told}\n{wants}")))
}

/// `lb check --json`: one object.
pub(crate) fn report(mistakes: &Mistakes) -> String {
    serde_json::json!({ "ok": mistakes.is_empty(), "mistakes": mistakes }).to_string()
}
