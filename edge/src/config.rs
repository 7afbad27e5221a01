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
mod listener;
mod read;
mod route;
mod show;
mod upstream;

use std::path::{Path, PathBuf};

use dataplane::settings::{Environment, Mistakes, Notes, Place, Source, Spot};
use edge::settings::Settings as Config;

use crate::cli::Settings;
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
        let over = EdgeOverrides::read(&notes, settings.admin.as_deref(), &environment);
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

/// `edge check`: what the configuration is, in one line, and what a person should know all the same.
///
/// # Errors
/// Every mistake.
pub(crate) fn check(settings: &Settings) -> Result<String, Mistakes> {
    let config = load(settings, &environment)?;
    let name = settings
        .config
        .as_ref()
        .map_or_else(|| "flags".to_owned(), |path| path.display().to_string());
    let backends: usize = config.upstreams.iter().map(|u| u.backends.len()).sum();
    let tls = config.listeners.iter().filter_map(|l| l.tls.as_ref());
    let files: Vec<_> = tls.flat_map(|tls| &tls.certificates).collect();
    let certificates = files.len();
    let facts = files
        .iter()
        .filter_map(|files| edge::tls::check_pair(files).ok());
    let warnings: String = facts
        .flat_map(|facts| facts.warnings)
        .map(|warning| format!("\nwarning: {warning}"))
        .collect();
    Ok(format!(
        "{name}: the configuration is right ({} listeners, {certificates} certificates, {} routes, {} upstreams, {backends} backends){warnings}",
        config.listeners.len(),
        config.routes.len(),
        config.upstreams.len()
    ))
}

/// `edge check --json`: one object.
pub(crate) fn report(mistakes: &Mistakes) -> String {
    serde_json::json!({ "ok": mistakes.is_empty(), "mistakes": mistakes }).to_string()
}
