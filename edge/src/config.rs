//! The configuration of `edge`: from a file or flags, overridden by the environment, checked as a whole.
//!
//! ```text
//!   edge.toml ──▶ read ─┐
//!   flags ──────▶ flags ┼─▶ Settings   (or every mistake at once)
//!   environment ────────┘
//! ```
//!
//! Room  pure but for `load`, which opens the file, and for the files that it names (certificates, error pages).
//! Holds settings that exist are consistent: names are unique, every route's upstreams exist, certificates can
//!       be used.

mod environment;
mod flags;
mod headers;
mod limits;
mod listener;
mod load_balancer;
mod pages;
mod read;
mod route;
mod show;
#[cfg(test)]
mod tests;
mod unsupported;
mod upstream;

use std::path::{Path, PathBuf};

use dataplane::listeners;
use dataplane::settings::{Environment, Mistakes, Notes, Place, Source, Spot};
use edge::settings::Settings as Config;
use edge::workers::BACKLOG;

use crate::cli::Settings;
use crate::proxy::wanted;
use environment::EdgeOverrides;
pub(crate) use show::show;

/// Name of the listener, the route and the upstream that flags make.
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
        let environment = Environment::new(&notes, lookup);
        let over = EdgeOverrides::read(&notes, settings, &environment);
        match source {
            Some((file, text)) => {
                let base = Base::of(Path::new(file));
                Source::parse(file, text, &notes)
                    .and_then(|source| read::file(source.root(&notes), &notes, &over, &base))
            }
            None => flags::read(settings, &notes, &over),
        }
    };
    match config {
        Some(config) if notes.count() == 0 => Ok(config),
        _ => Err(notes.into_mistakes()),
    }
}

/// Where relative paths begin: beside the file that writes them.
#[derive(Clone, Debug)]
pub(crate) struct Base(PathBuf);

impl Base {
    fn of(file: &Path) -> Self {
        Self(file.parent().map(Path::to_path_buf).unwrap_or_default())
    }

    pub(crate) fn path(&self, written: &str) -> PathBuf {
        self.0.join(written)
    }
}

/// The environment of this process.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What `edge check` says of a configuration that is right.
#[derive(Debug)]
pub(crate) struct Checked {
    name: String,
    counts: String,
    /// What a person should look at; none of it keeps the proxy from starting.
    warnings: Vec<String>,
    /// For a supervisor that asks.
    wants: Option<String>,
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, counts, .. } = self;
        write!(f, "{name}: the configuration is right ({counts})")?;
        let mut warnings = self.warnings.iter();
        warnings.try_for_each(|warning| write!(f, "\n{name}: warning: {warning}"))?;
        self.wants
            .iter()
            .try_for_each(|wants| write!(f, "\n{wants}"))
    }
}

impl Checked {
    /// `--json`: one object.
    pub(crate) fn json(&self) -> String {
        serde_json::json!({ "ok": true, "mistakes": [], "warnings": self.warnings }).to_string()
    }
}

/// `edge check`: what the configuration is, in one line, and what to look at.
///
/// # Errors
/// Every mistake.
pub(crate) fn check(settings: &Settings) -> Result<Checked, Mistakes> {
    let config = load(settings, &environment)?;
    let name = settings
        .config
        .as_ref()
        .map_or_else(|| "flags".to_owned(), |path| path.display().to_string());
    let backends: usize = config.upstreams.iter().map(|u| u.backends.len()).sum();
    let tls = config.listeners.iter().filter_map(|l| l.tls.as_ref());
    let certificates: usize = tls.map(|tls| tls.certificates.len()).sum();
    let counts = format!(
        "{} listeners, {certificates} certificates, {} routes, {} upstreams, {backends} backends",
        config.listeners.len(),
        config.routes.len(),
        config.upstreams.len()
    );
    Ok(Checked {
        name,
        counts,
        warnings: warnings(&config),
        wants: listeners::describe(&wanted(&config), BACKLOG.into()),
    })
}

fn warnings(config: &Config) -> Vec<String> {
    let insecure = config.upstreams.iter().filter(|upstream| {
        let tls = upstream.tls.as_ref();
        tls.is_some_and(|tls| tls.insecure)
    });
    let insecure = insecure.map(|upstream| {
        let name = &upstream.name;
        format!("upstream.{name}.tls.insecure: certificates of backends are not verified")
    });
    let tls = config.listeners.iter().filter_map(|l| l.tls.as_ref());
    let certificates = tls.flat_map(|tls| &tls.certificates).flat_map(|files| {
        let facts = edge::tls::check_pair(files);
        let warnings = facts.map(|facts| facts.warnings).unwrap_or_default();
        let file = files.certificate.display().to_string();
        warnings
            .into_iter()
            .map(move |warning| format!("{file}: {warning}"))
    });
    insecure.chain(certificates).collect()
}

/// `edge check --json` of a configuration that is wrong: one object.
pub(crate) fn report(mistakes: &Mistakes) -> String {
    serde_json::json!({ "ok": false, "mistakes": mistakes }).to_string()
}
