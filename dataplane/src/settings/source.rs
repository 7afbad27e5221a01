//! Where settings are written: a TOML text, environment variables, flags.
//!
//! Room  pure: the text and the lookup are handed in.
//! Holds every value that leaves knows its place.

use std::ops::Range;

use toml_edit::Document;

use super::found::{Found, Raw};
use super::mistake::{Notes, Place, Spot};
use super::recovery::recover;
use super::section::Section;

/// A parsed TOML text.
#[derive(Debug)]
pub struct Source {
    file: String,
    document: Document<String>,
    lines: LineStarts,
    /// Bytes whose mistake is already noted: values found there are silent.
    reported: Vec<Range<usize>>,
}

impl Source {
    /// Parses `text`; `file` is the name shown in mistakes.
    ///
    /// A syntax mistake in one value, or a key written twice, is noted and reading goes on without it.
    /// `None`: the text is no TOML beyond that, and the first place where it is not was noted.
    pub fn parse(file: &str, text: &str, notes: &Notes) -> Option<Self> {
        let lines = LineStarts::of(text);
        let recovered = recover(text);
        for error in &recovered.errors {
            let spot = Spot {
                place: lines.place(file, text, error.offset),
                key: error.key.clone(),
            };
            notes.mistake(&spot, error.problem.clone(), error.suggestion.clone());
        }
        Some(Self {
            document: recovered.document?,
            file: file.to_owned(),
            lines,
            reported: recovered.reported,
        })
    }

    /// The top level of the file.
    pub fn root<'s>(&'s self, notes: &'s Notes) -> Section<'s> {
        let spot = Spot {
            place: self.place(0),
            key: String::new(),
        };
        Section::new(self, notes, self.document.as_table(), spot)
    }

    pub(super) fn place(&self, offset: usize) -> Place {
        self.lines.place(&self.file, self.document.raw(), offset)
    }

    /// True when the mistake at these bytes is already noted.
    pub(super) fn is_reported(&self, span: Option<&Range<usize>>) -> bool {
        span.is_some_and(|span| {
            self.reported
                .iter()
                .any(|reported| reported.start <= span.start && span.start < reported.end)
        })
    }
}

/// Byte offsets at which lines start.
#[derive(Debug)]
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        let after_breaks = text
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(after_breaks).collect())
    }

    fn place(&self, file: &str, text: &str, offset: usize) -> Place {
        let line = self.0.partition_point(|start| *start <= offset).max(1);
        let start = self.0.get(line - 1).copied().unwrap_or(0);
        let before = text.as_bytes().get(start..offset).unwrap_or_default();
        // Bytes that continue a character do not count.
        let column = before.iter().filter(|b| (**b & 0xC0) != 0x80).count() + 1;
        Place::File {
            file: file.to_owned(),
            line,
            column,
        }
    }
}

/// Environment variables that override the file.
pub struct Environment<'e> {
    notes: &'e Notes,
    lookup: &'e dyn Fn(&str) -> Option<String>,
}

impl<'e> Environment<'e> {
    /// `lookup` answers what a variable holds; tests hand in a map.
    pub fn new(notes: &'e Notes, lookup: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self { notes, lookup }
    }

    /// The variable's value; one that is set to nothing counts as not set (`PORT=` in an EnvironmentFile).
    pub fn optional(&self, name: &str) -> Option<Found<'e>> {
        let text = (self.lookup)(name)?;
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let spot = Spot {
            place: Place::Environment,
            key: name.to_owned(),
        };
        Some(Found::new(
            None,
            self.notes,
            Raw::Text(text.to_owned()),
            spot,
        ))
    }
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// A flag's value, to be read like any other setting.
pub fn argument<'n>(notes: &'n Notes, flag: &str, text: &str) -> Found<'n> {
    let spot = Spot {
        place: Place::CommandLine,
        key: flag.to_owned(),
    };
    Found::new(None, notes, Raw::Text(text.to_owned()), spot)
}
