//! A value that was found, and how to read it as what it should be.
//!
//! Room  pure.
//! Holds every reader returns the value or notes exactly one mistake.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use ipnet::IpNet;
use toml_edit::{ArrayOfTables, Item, TableLike, Value};

use super::address::{self, Refusal};
use super::duration;
use super::mistake::{Notes, Spot};
use super::section::Section;
use super::source::Source;
use super::suggest::did_you_mean;

/// A value as it is written.
#[derive(Clone)]
pub(super) enum Raw<'s> {
    Value(&'s Value),
    Table(&'s dyn TableLike),
    Tables(&'s ArrayOfTables),
    /// From the environment or a flag: may still become any simple type.
    Text(String),
}

impl<'s> Raw<'s> {
    pub(super) fn of_item(item: &'s Item) -> Option<Self> {
        match item {
            Item::None => None,
            Item::Value(value) => Some(Self::Value(value)),
            Item::Table(table) => Some(Self::Table(table)),
            Item::ArrayOfTables(tables) => Some(Self::Tables(tables)),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Value(value) => match value {
                Value::String(text) => format!("the string {:?}", text.value()),
                Value::Integer(number) => format!("the integer {}", number.value()),
                Value::Float(number) => format!("the number {}", number.value()),
                Value::Boolean(truth) => format!("{}", truth.value()),
                Value::Datetime(_) => "a date".to_owned(),
                Value::Array(_) => "an array".to_owned(),
                Value::InlineTable(_) => "a table".to_owned(),
            },
            Self::Table(_) => "a table".to_owned(),
            Self::Tables(_) => "an array of tables".to_owned(),
            Self::Text(text) => format!("{text:?}"),
        }
    }
}

/// A value with its place.
#[derive(Clone)]
pub struct Found<'s> {
    source: Option<&'s Source>,
    notes: &'s Notes,
    raw: Raw<'s>,
    spot: Spot,
}

impl<'s> Found<'s> {
    pub(super) fn new(
        source: Option<&'s Source>,
        notes: &'s Notes,
        raw: Raw<'s>,
        spot: Spot,
    ) -> Self {
        Self {
            source,
            notes,
            raw,
            spot,
        }
    }

    /// Where the value is written; to be kept for cross-checks.
    pub fn spot(&self) -> &Spot {
        &self.spot
    }

    /// Notes that this value is wrong.
    pub fn mistake(&self, problem: impl Into<String>, suggestion: Option<String>) {
        self.notes.mistake(&self.spot, problem, suggestion);
    }

    /// True for a string.
    pub fn is_string(&self) -> bool {
        self.text().is_some()
    }

    /// True for an integer.
    pub fn is_integer(&self) -> bool {
        matches!(self.raw, Raw::Value(Value::Integer(_)))
    }

    /// True for an array of any length.
    pub fn is_array(&self) -> bool {
        matches!(self.raw, Raw::Value(Value::Array(_)) | Raw::Tables(_))
    }

    /// True for exactly this string, such as `"off"`.
    pub fn is_word(&self, word: &str) -> bool {
        self.text() == Some(word)
    }

    /// A string that is not empty.
    pub fn string(&self) -> Option<String> {
        let Some(text) = self.text() else {
            let quoted = match &self.raw {
                Raw::Value(Value::Integer(number)) => {
                    Some(format!("put it in quotes: \"{}\"", number.value()))
                }
                Raw::Value(Value::Boolean(truth)) => {
                    Some(format!("put it in quotes: \"{}\"", truth.value()))
                }
                _ => None,
            };
            return self.wrong_type("a string", quoted);
        };
        if text.is_empty() {
            self.mistake("must not be empty", None);
            return None;
        }
        Some(text.to_owned())
    }

    /// An integer in `range`.
    pub fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let number = match &self.raw {
            Raw::Value(Value::Integer(number)) => *number.value(),
            Raw::Text(text) => match text.parse::<i64>() {
                Ok(number) => number,
                Err(_) => return self.wrong_type("an integer", None),
            },
            Raw::Value(Value::String(text)) => {
                let number = text.value().parse::<i64>().ok();
                return self
                    .wrong_type("an integer", number.map(|n| format!("without quotes: {n}")));
            }
            _ => return self.wrong_type("an integer", None),
        };
        match T::try_from(number) {
            Ok(value) if range.contains(&value) => Some(value),
            _ => {
                let (least, most) = (range.start(), range.end());
                self.mistake(
                    format!("{number} is out of range; allowed is {least} to {most}"),
                    None,
                );
                None
            }
        }
    }

    /// `true` or `false`; from the environment also `1 0 yes no on off`.
    pub fn boolean(&self) -> Option<bool> {
        match &self.raw {
            Raw::Value(Value::Boolean(truth)) => return Some(*truth.value()),
            Raw::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => return Some(true),
                "false" | "0" | "no" | "off" => return Some(false),
                _ => {}
            },
            _ => {}
        }
        self.wrong_type("true or false", None)
    }

    /// `"10s"`, `"500ms"`, or an integer that counts seconds.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let parsed = match (&self.raw, self.text()) {
            (_, Some(text)) => duration::parse(text),
            (Raw::Value(Value::Integer(seconds)), None) => u64::try_from(*seconds.value())
                .map(Duration::from_secs)
                .map_err(|_| format!("{} is not a duration", seconds.value())),
            _ => return self.wrong_type("a duration such as \"10s\"", None),
        };
        let checked = parsed.and_then(|value| duration::check(value, &range));
        checked.map_err(|problem| self.mistake(problem, None)).ok()
    }

    /// `ip:port` to listen on.
    pub fn listen_address(&self) -> Option<SocketAddr> {
        self.parsed("an address such as \"0.0.0.0:7000\"", address::listen)
    }

    /// `ip:port` or `host:port` of a backend.
    pub fn endpoint(&self) -> Option<String> {
        self.parsed("an address such as \"10.0.0.7:80\"", address::endpoint)
    }

    /// A network in CIDR form or a single address.
    pub fn network(&self) -> Option<IpNet> {
        self.parsed("a network such as \"10.0.0.0/8\"", address::network)
    }

    /// One of a list of words; `what` completes "unknown …".
    pub fn choice<T: Copy>(&self, what: &str, words: &[(&'static str, T)]) -> Option<T> {
        let all = || words.iter().map(|(word, _)| *word);
        let Some(text) = self.text() else {
            let list: Vec<&str> = all().collect();
            return self.wrong_type(&format!("one of {}", list.join(", ")), None);
        };
        let chosen = words.iter().find(|(word, _)| *word == text);
        if chosen.is_none() {
            let list: Vec<&str> = all().collect();
            self.mistake(format!("unknown {what} {text:?}"), did_you_mean(text, list));
        }
        chosen.map(|(_, value)| *value)
    }

    /// A text that `read` understands; its refusal is noted.
    pub fn parsed<T>(&self, wanted: &str, read: impl Fn(&str) -> Result<T, Refusal>) -> Option<T> {
        let Some(text) = self.text() else {
            return self.wrong_type(wanted, None);
        };
        read(text)
            .map_err(|(problem, suggestion)| self.mistake(problem, suggestion))
            .ok()
    }

    /// The elements of an array, each with its own place.
    pub fn items(&self) -> Vec<Self> {
        match &self.raw {
            Raw::Value(Value::Array(array)) => array
                .iter()
                .enumerate()
                .map(|(index, value)| self.member(index, Raw::Value(value), value.span()))
                .collect(),
            Raw::Tables(tables) => tables
                .iter()
                .enumerate()
                .map(|(index, table)| self.member(index, Raw::Table(table), table.span()))
                .collect(),
            _ => {
                self.wrong_type::<()>(
                    "an array",
                    self.text().map(|text| format!("write [{text:?}]")),
                );
                Vec::new()
            }
        }
    }

    /// The values of a table whose keys are the person's own words; anything else is noted.
    pub fn entries(&self) -> Vec<(String, Self)> {
        self.section()
            .map(|section| section.entries())
            .unwrap_or_default()
    }

    /// A table.
    pub fn section(&self) -> Option<Section<'s>> {
        self.section_or(None)
    }

    /// A table; `hint` is said of something that is none at all.
    pub(super) fn section_or(&self, hint: Option<String>) -> Option<Section<'s>> {
        let table: &'s dyn TableLike = match &self.raw {
            Raw::Table(table) => *table,
            Raw::Value(Value::InlineTable(table)) => table,
            Raw::Tables(_) => {
                let hint = Some(format!("write [{}], once", self.spot.key));
                return self.wrong_type("one table", hint);
            }
            _ => return self.wrong_type("a table", hint),
        };
        let source = self.source?;
        Some(Section::new(source, self.notes, table, self.spot.clone()))
    }

    /// Tables: `[[key]]` or an array of inline tables.
    pub(super) fn sections(&self) -> Vec<Section<'s>> {
        if let Raw::Table(_) | Raw::Value(Value::InlineTable(_)) = self.raw {
            let hint = Some(format!("write [[{}]]", self.spot.key));
            self.wrong_type::<()>("an array of tables", hint);
            return Vec::new();
        }
        self.items().iter().filter_map(Self::section).collect()
    }

    fn member(&self, index: usize, raw: Raw<'s>, span: Option<Range<usize>>) -> Self {
        let place = match (self.source, span) {
            (Some(source), Some(span)) => source.place(span.start),
            _ => self.spot.place.clone(),
        };
        let key = format!("{}[{index}]", self.spot.key);
        Self::new(self.source, self.notes, raw, Spot { place, key })
    }

    fn text(&self) -> Option<&str> {
        match &self.raw {
            Raw::Value(Value::String(text)) => Some(text.value()),
            Raw::Text(text) => Some(text),
            _ => None,
        }
    }

    fn wrong_type<T>(&self, wanted: &str, suggestion: Option<String>) -> Option<T> {
        self.mistake(
            format!("{} is not {wanted}", self.raw.describe()),
            suggestion,
        );
        None
    }
}

impl std::fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found")
            .field("spot", &self.spot)
            .finish_non_exhaustive()
    }
}
