//! What a native binary says of the listeners its configuration asks for, when a supervisor has it checked.
//!
//! Room  values and one line of text; binds nothing.
//! In    the configuration's listeners. Out  a JSON line, and back.
//! Holds a binary that says nothing (an older one) is no error: its wishes are unknown.

use serde::{Deserialize, Serialize};

use crate::worker::PROBE_VARIABLE;

/// One listener that a configuration asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WantedListener {
    pub name: String,
    /// "ADDRESS:PORT"; port 0 takes whatever port was handed over.
    pub address: String,
    /// Sockets of its group, when it is bound anew.
    pub members: u64,
    /// The queue it asks the kernel for; 0: not told.
    pub backlog: u64,
    /// Other options by name, in the words of socket(7) and tcp(7), as in `("SO_REUSEPORT", "1")`.
    pub options: Vec<(String, String)>,
}

/// Everything a configuration asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    pub listeners: Vec<WantedListener>,
}

/// What `check` prints beside its usual text when a supervisor asks; `None`: a person does.
pub fn describe(listeners: Vec<WantedListener>) -> Option<String> {
    std::env::var_os(PROBE_VARIABLE)?;
    serde_json::to_string(&Wants { listeners }).ok()
}

/// Finds the line in what `check` printed.
pub fn find(output: &str) -> Option<Wants> {
    output
        .lines()
        .filter(|line| line.starts_with('{'))
        .find_map(|line| serde_json::from_str(line).ok())
}

#[cfg(test)]
mod tests {
    use super::{WantedListener, Wants, find};

    #[test]
    fn the_line_is_found_among_others_or_is_not_there() {
        let wants = Wants {
            listeners: vec![WantedListener {
                name: "web".to_owned(),
                address: "0.0.0.0:80".to_owned(),
                members: 16,
                backlog: 4096,
                options: vec![("SO_REUSEPORT".to_owned(), "1".to_owned())],
            }],
        };
        let line = serde_json::to_string(&wants).expect("serializable");
        for (output, expected) in [
            (format!("a.toml: right\n{line}\nwarning"), Some(wants)),
            ("a.toml: right".to_owned(), None),
            (r#"{"ok":true}"#.to_owned(), None),
            (r#"{"listeners":3}"#.to_owned(), None),
            (
                r#"{"listeners":[{"name":"x","later":1}]}"#.to_owned(),
                Some(Wants {
                    listeners: vec![WantedListener {
                        name: "x".to_owned(),
                        ..WantedListener::default()
                    }],
                }),
            ),
            (String::new(), None),
        ] {
            assert_eq!(find(&output), expected, "{output}");
        }
    }
}
