//! The TOML reader of both proxies: every mistake of a configuration in one pass, each with its place.
//!
//! ```text
//!   file text ──▶ Source ──▶ Section ──▶ Found ──▶ a value of its role's type
//!   environment ───────────────────────▶ Found         │
//!   command line ──────────────────────▶ Found         └─▶ or a Mistake in Notes
//! ```
//!
//! Room  pure: text in, values and mistakes out; no file and no environment is read here.
//! In    the text of a configuration, a lookup for environment variables (from the binaries' `config`).
//! Out   `Mistakes`, printed by the binaries and told to the supervisor.
//! Holds a value is either returned or its mistake is noted, never neither; reading goes on after a
//!       mistake, so that a person corrects a file once.
//!
//! ```
//! use dataplane::settings::{Notes, Source};
//! let notes = Notes::default();
//! let source = Source::parse("lb.toml", "idle = \"5 parsecs\"\nidel = 3\n", &notes).expect("is TOML");
//! let mut root = source.root(&notes);
//! let idle = root.optional("idle").and_then(|found| found.duration(dataplane::settings::ANY_DURATION));
//! root.finish();
//! assert!(idle.is_none());
//! let mistakes = notes.into_mistakes();
//! assert_eq!(mistakes.len(), 2);
//! assert!(mistakes.to_string().contains("lb.toml:2:1: idel: unknown key; did you mean \"idle\"?"));
//! ```

mod address;
mod duration;
mod found;
mod mistake;
mod recovery;
mod section;
mod source;
mod suggest;

pub use duration::{ANY_DURATION, write as write_duration};
pub use found::Found;
pub use mistake::{Mistake, Mistakes, Notes, Place, Spot};
pub use section::Section;
pub use source::{Environment, Source, argument};
pub use suggest::nearest;
