//! A mistake in a configuration: where it is, what is wrong, what was probably meant.
//!
//! Room  pure values and their two renderings: one line for people, one object for programs.
//! Holds mistakes come out in the order of the file, then environment, then command line.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum Place {
    /// Line and column count from 1; the column counts characters.
    File {
        file: String,
        line: usize,
        column: usize,
    },
    /// The key is a variable's name.
    Environment,
    /// The key is a flag.
    CommandLine,
}

/// A place and the key that is written there: what a later cross-check needs to complain about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub place: Place,
    /// `upstream.app.algorithm`, `PORT` or `--listen`; empty for the file as a whole.
    pub key: String,
}

/// One thing to correct.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mistake {
    #[serde(flatten)]
    pub place: Place,
    pub key: String,
    pub problem: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { file, line, column } => {
                write!(f, "{file}:{line}:{column}: ")?;
                if !self.key.is_empty() {
                    write!(f, "{}: ", self.key)?;
                }
            }
            Place::Environment => write!(f, "{} (environment): ", self.key)?,
            Place::CommandLine => write!(f, "{} (command line): ", self.key)?,
        }
        f.write_str(&self.problem)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; {suggestion}")?;
        }
        Ok(())
    }
}

/// All mistakes of one configuration: one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// True when the configuration is right.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many things there are to correct.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }

    /// The lines of the rendering for people.
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Where mistakes are noted while reading goes on.
#[derive(Debug, Default)]
pub struct Notes(RefCell<Vec<Mistake>>);

impl Notes {
    /// Notes a mistake at a spot.
    pub fn mistake(&self, spot: &Spot, problem: impl Into<String>, suggestion: Option<String>) {
        self.0.borrow_mut().push(Mistake {
            place: spot.place.clone(),
            key: spot.key.clone(),
            problem: problem.into(),
            suggestion,
        });
    }

    /// How many mistakes were noted so far.
    pub fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// Everything noted, in order, each once.
    pub fn into_mistakes(self) -> Mistakes {
        let mut mistakes = self.0.into_inner();
        mistakes.sort();
        mistakes.dedup();
        Mistakes(mistakes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Notes, Place, Spot};

    fn in_file(line: usize) -> Spot {
        Spot {
            place: Place::File {
                file: "lb.toml".into(),
                line,
                column: 1,
            },
            key: "upstream.app.algorithm".to_owned(),
        }
    }

    #[test]
    fn a_mistake_reads_as_one_line_and_as_one_object() {
        let notes = Notes::default();
        let suggestion = Some("did you mean \"round-robin\"?".to_owned());
        let environment = Spot {
            place: Place::Environment,
            key: "PORT".to_owned(),
        };
        notes.mistake(&environment, "\"x\" is not a port", None);
        notes.mistake(
            &in_file(12),
            "unknown algorithm \"round-robbin\"",
            suggestion,
        );
        let mistakes = notes.into_mistakes();
        assert_eq!(
            mistakes.to_string(),
            "lb.toml:12:1: upstream.app.algorithm: unknown algorithm \"round-robbin\"; \
             did you mean \"round-robin\"?\nPORT (environment): \"x\" is not a port"
        );
        let json = serde_json::to_value(&mistakes).expect("serialises");
        assert_eq!(json[0]["line"], 12);
        assert_eq!(json[0]["source"], "file");
        assert_eq!(json[1]["source"], "environment");
        assert_eq!(json[1]["key"], "PORT");
    }

    #[test]
    fn mistakes_come_in_the_order_of_the_file_and_once() {
        let notes = Notes::default();
        for line in [7, 3, 7, 11] {
            notes.mistake(&in_file(line), "bad", None);
        }
        let lines = notes.into_mistakes().lines();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("lb.toml:3:"));
        assert!(lines[2].starts_with("lb.toml:11:"));
    }
}
