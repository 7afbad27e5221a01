//! What the proxy writes itself: `[error_pages]`, `[access_log]`.
//!
//! Room  reads error pages and looks at the log's directory; opens no log.

use std::collections::BTreeMap;
use std::path::Path;

use dataplane::settings::{Found, Section};
use edge::settings::{AccessLog, AccessLogTarget, ErrorPages};

use super::Base;

/// Largest error page, in bytes: it is held in memory and sent to strangers.
const PAGE_BYTES_MAX: u64 = 64 * 1024;

/// `[error_pages] 404 = "404.html"`.
pub(super) fn error_pages(root: &mut Section<'_>, base: &Base) -> ErrorPages {
    let Some(found) = root.optional("error_pages") else {
        return ErrorPages::default();
    };
    let mut html = BTreeMap::new();
    for (key, found) in found.entries() {
        let status = key
            .parse::<u16>()
            .ok()
            .filter(|status| (400..600).contains(status));
        let Some(status) = status else {
            found.mistake(
                format!("{key:?} is no status of an error (400 to 599)"),
                None,
            );
            continue;
        };
        let Some(name) = found.string() else {
            continue;
        };
        let path = base.path(&name);
        match page(&path) {
            Ok(text) => {
                html.insert(status, text);
            }
            Err(problem) => found.mistake(problem, None),
        }
    }
    ErrorPages { html }
}

fn page(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let unreadable = |error| format!("{shown} cannot be read: {error}");
    // The size first: whatever the path names is not read whole to learn that it is too much.
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > PAGE_BYTES_MAX {
        return Err(format!(
            "{shown} has {size} bytes; allowed are {PAGE_BYTES_MAX}"
        ));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// `[access_log]`.
pub(super) fn access_log(root: &mut Section<'_>, base: &Base) -> Option<AccessLog> {
    let mut section = root.table("access_log")?;
    let enabled = section
        .optional("enabled")
        .and_then(|found| found.boolean());
    let target = section.optional("target");
    let target = target.and_then(|found| log_target(&found, base));
    section.finish();
    (enabled != Some(false)).then_some(AccessLog {
        target: target.unwrap_or_default(),
    })
}

fn log_target(found: &Found<'_>, base: &Base) -> Option<AccessLogTarget> {
    let text = found.string()?;
    if text == "stdout" {
        return Some(AccessLogTarget::Stdout);
    }
    if text == "stderr" {
        found.mistake(
            "standard error has the other log",
            Some("write \"stdout\" or a file".to_owned()),
        );
        return None;
    }
    let path = base.path(&text);
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        found.mistake(
            format!("there is no directory {}", directory.display()),
            Some("make it, or write \"stdout\"".to_owned()),
        );
    }
    Some(AccessLogTarget::File(path))
}
