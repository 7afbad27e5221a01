//! A table of the configuration: which keys it knows, which it must have.
//!
//! Room  pure.
//! Holds `finish` reports every key that nobody asked for; a required key that is missing because it is
//!       misspelt is reported once, as the misspelling.

use toml_edit::TableLike;

use super::found::{Found, Raw};
use super::mistake::{Notes, Spot};
use super::source::Source;
use super::suggest::{did_you_mean, nearest};

/// One table while it is read.
pub struct Section<'s> {
    source: &'s Source,
    notes: &'s Notes,
    table: &'s dyn TableLike,
    spot: Spot,
    known: Vec<&'static str>,
    missing: Vec<(&'static str, String)>,
}

impl<'s> Section<'s> {
    pub(super) fn new(
        source: &'s Source,
        notes: &'s Notes,
        table: &'s dyn TableLike,
        spot: Spot,
    ) -> Self {
        Self {
            source,
            notes,
            table,
            spot,
            known: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Where the table is written.
    pub fn spot(&self) -> &Spot {
        &self.spot
    }

    /// True when the key is written, rightly or wrongly.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes a mistake of the table as a whole.
    pub fn mistake(&self, problem: impl Into<String>, suggestion: Option<String>) {
        self.notes.mistake(&self.spot, problem, suggestion);
    }

    /// The key's value, if it is there.
    pub fn optional(&mut self, key: &'static str) -> Option<Found<'s>> {
        self.known.push(key);
        self.look_up(key)
    }

    /// The key's value; when it is not there that is noted, with `reason` ("every listener names its upstream").
    pub fn required(&mut self, key: &'static str, reason: &str) -> Option<Found<'s>> {
        let found = self.optional(key);
        if found.is_none() && !self.is_reported(key) {
            self.missing.push((key, reason.to_owned()));
        }
        found
    }

    /// A sub-table; `None` also when the key holds something else, which is noted.
    pub fn table(&mut self, key: &'static str) -> Option<Self> {
        self.optional(key)?.section()
    }

    /// `[[key]]`, or an array of inline tables.
    pub fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let Some(found) = self.optional(key) else {
            return Vec::new();
        };
        found.sections()
    }

    /// Every sub-table by name: `[key.a]`, `[key.b]`; `None` for a name that holds something else, which
    /// is noted.
    pub fn named_tables(&mut self, key: &'static str) -> Vec<(String, Option<Self>)> {
        let Some(parent) = self.table(key) else {
            return Vec::new();
        };
        parent.children()
    }

    /// Notes what is missing and what is unknown.
    pub fn finish(self) {
        let unknown: Vec<&str> = self
            .table
            .iter()
            .map(|(key, _)| key)
            .filter(|key| !self.known.contains(key) && !self.is_reported(key))
            .collect();
        for key in &unknown {
            let spot = self.spot_of(key);
            let suggestion = did_you_mean(key, self.known.iter().copied());
            self.notes.mistake(&spot, "unknown key", suggestion);
        }
        for (key, reason) in &self.missing {
            let is_misspelt = unknown
                .iter()
                .any(|written| nearest(written, self.known.iter().copied()) == Some(*key));
            if !is_misspelt {
                let spot = Spot {
                    place: self.spot.place.clone(),
                    key: join(&self.spot.key, key),
                };
                let problem = format!("missing; {reason}");
                self.notes.mistake(&spot, problem, None);
            }
        }
    }

    /// Every value by its key.
    pub(super) fn entries(&self) -> Vec<(String, Found<'s>)> {
        let keys = self.table.iter().map(|(key, _)| key);
        keys.filter_map(|key| Some((key.to_owned(), self.look_up(key)?)))
            .collect()
    }

    fn children(self) -> Vec<(String, Option<Self>)> {
        let names: Vec<&str> = self.table.iter().map(|(name, _)| name).collect();
        names
            .into_iter()
            .filter_map(|name| Some((name, self.look_up(name)?)))
            .map(|(name, found)| {
                let hint = format!("write [{}.NAME] above it", self.spot.key);
                (name.to_owned(), found.section_or(Some(hint)))
            })
            .collect()
    }

    fn look_up(&self, key: &str) -> Option<Found<'s>> {
        let (written, item) = self.table.get_key_value(key)?;
        if self.source.is_reported(written.span().as_ref())
            || self.source.is_reported(item.span().as_ref())
        {
            return None;
        }
        let raw = Raw::of_item(item)?;
        Some(Found::new(
            Some(self.source),
            self.notes,
            raw,
            self.spot_of(key),
        ))
    }

    /// True when the key, or its value, was mended: its mistake is known.
    fn is_reported(&self, key: &str) -> bool {
        self.table
            .get_key_value(key)
            .is_some_and(|(written, item)| {
                self.source.is_reported(written.span().as_ref())
                    || self.source.is_reported(item.span().as_ref())
            })
    }

    /// The key itself for values, the header for tables.
    fn spot_of(&self, key: &str) -> Spot {
        let place = self.table.get_key_value(key).map(|(written, item)| {
            let header = if item.is_value() { None } else { item.span() };
            let span = header
                .filter(|span| !span.is_empty())
                .or_else(|| written.span());
            self.source.place(span.map_or(0, |span| span.start))
        });
        Spot {
            place: place.unwrap_or_else(|| self.spot.place.clone()),
            key: join(&self.spot.key, key),
        }
    }
}

impl std::fmt::Debug for Section<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Section")
            .field("spot", &self.spot)
            .finish_non_exhaustive()
    }
}

/// `upstream` and `app` make `upstream.app`; a key that is not plain is quoted as in TOML.
pub(super) fn join(path: &str, key: &str) -> String {
    let is_plain = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let key = if is_plain {
        key.to_owned()
    } else {
        format!("{key:?}")
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}
