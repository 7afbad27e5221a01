//! Parsing that goes on after a syntax mistake, so that all of them are reported at once.
//!
//! The TOML parser stops at the first mistake. Two kinds are mended in a copy of the text, byte for byte
//! of the same length so that later places stay true: a value that is no TOML (`algorithm = round-robin`)
//! becomes `0`, a key written twice gets another name. What was mended is marked as reported.
//!
//! Room  pure.
//! Holds the copy has the length of the text; at most `ATTEMPTS_MAX` mistakes are mended.

use std::ops::Range;

use toml_edit::Document;

/// How many syntax mistakes are mended; each costs one more parse of the file.
const ATTEMPTS_MAX: usize = 32;

/// A syntax mistake.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) offset: usize,
    pub(super) key: String,
    pub(super) problem: String,
    pub(super) suggestion: Option<String>,
}

/// What could be read.
#[derive(Debug)]
pub(super) struct Recovered {
    /// `None`: the last error could not be mended.
    pub(super) document: Option<Document<String>>,
    pub(super) errors: Vec<SyntaxError>,
    pub(super) reported: Vec<Range<usize>>,
}

/// Parses and mends until nothing is wrong or nothing can be mended.
pub(super) fn recover(text: &str) -> Recovered {
    let mut copy = text.to_owned();
    let mut recovered = Recovered {
        document: None,
        errors: Vec::new(),
        reported: Vec::new(),
    };
    for _ in 0..ATTEMPTS_MAX {
        let error = match Document::parse(copy.clone()) {
            Ok(document) => {
                recovered.document = Some(document);
                return recovered;
            }
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let line = line_around(&copy, span.start);
        let is_duplicate = error.message().starts_with("duplicate key");
        let mended = if is_duplicate {
            rename(&mut copy, &span, recovered.reported.len())
        } else {
            replace_value(&mut copy, &line)
        };
        // A second mistake in a place that was mended already is a consequence, not a mistake.
        let is_known =
            |reported: &Range<usize>| reported.start <= span.start && span.start <= reported.end;
        if !recovered.reported.iter().any(is_known) {
            recovered
                .errors
                .push(describe(text, &span, &line, is_duplicate, error.message()));
        }
        match mended {
            Some(range) => recovered.reported.push(range),
            None => return recovered,
        }
    }
    recovered
}

fn describe(
    text: &str,
    span: &Range<usize>,
    line: &Range<usize>,
    is_duplicate: bool,
    message: &str,
) -> SyntaxError {
    let written = text.get(span.clone()).unwrap_or_default();
    if is_duplicate {
        return SyntaxError {
            offset: span.start,
            key: path_of(text, line, written),
            problem: "this key is written twice in the same table".to_owned(),
            suggestion: Some("keep one of them".to_owned()),
        };
    }
    let line_text = text.get(line.clone()).unwrap_or_default();
    let value = split_assignment(line_text)
        .map(|(key, at)| (key, line_text.get(at..).unwrap_or_default().trim()));
    let key = value.map(|(key, _)| key.to_owned()).unwrap_or_default();
    // A bare word as a value: the quotes are missing.
    let bare = value.filter(|(_, value)| is_bare_word(value));
    SyntaxError {
        offset: if key.is_empty() {
            span.start
        } else {
            line.start + indent(line_text)
        },
        key: if key.is_empty() {
            key
        } else {
            path_of(text, line, &key)
        },
        problem: format!("not TOML: {message}"),
        suggestion: bare.map(|(_, value)| format!("text needs quotes: \"{}\"", bare_part(value))),
    }
}

/// The key with the path of the table it stands in: `listener[1].name`.
fn path_of(text: &str, line: &Range<usize>, key: &str) -> String {
    let own = text.get(line.clone()).unwrap_or_default().trim_start();
    let before = text.get(..line.start).unwrap_or_default();
    let headers = || {
        before
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with('['))
    };
    let header = match headers().next_back() {
        Some(header) if !own.starts_with('[') => header,
        _ => return header_path(own).unwrap_or_else(|| key.to_owned()),
    };
    let Some(path) = header_path(header) else {
        return key.to_owned();
    };
    if header.starts_with("[[") {
        let index = headers()
            .filter(|other| header_path(other).as_ref() == Some(&path))
            .count();
        return format!("{path}[{}].{key}", index.saturating_sub(1));
    }
    format!("{path}.{key}")
}

/// `[[a.b]] # why` is `a.b`.
fn header_path(line: &str) -> Option<String> {
    let inner = line.strip_prefix('[')?;
    let inner = inner.strip_prefix('[').unwrap_or(inner);
    let (path, _) = inner.split_once(']')?;
    Some(path.trim().to_owned())
}

fn bare_part(value: &str) -> &str {
    value.split('#').next().unwrap_or_default().trim()
}

fn is_bare_word(value: &str) -> bool {
    let value = bare_part(value);
    !value.is_empty()
        && value
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '*'))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The line that holds `offset`, without its end.
fn line_around(text: &str, offset: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let offset = offset.min(bytes.len());
    let is_break = |b: &u8| *b == b'\n';
    let start = bytes[..offset]
        .iter()
        .rposition(is_break)
        .map_or(0, |at| at + 1);
    let end = bytes[offset..]
        .iter()
        .position(is_break)
        .map_or(bytes.len(), |at| offset + at);
    start..end
}

/// `key = …`: the key, and where the value starts.
fn split_assignment(line: &str) -> Option<(&str, usize)> {
    let (key, _) = line.split_once('=')?;
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '"' | '\'');
    let plain = key.trim();
    (!plain.is_empty() && plain.chars().all(is_key)).then(|| (plain, key.len() + 1))
}

/// `key = rubbish` becomes `key =0      `.
fn replace_value(copy: &mut String, line: &Range<usize>) -> Option<Range<usize>> {
    let (_, at) = split_assignment(copy.get(line.clone())?)?;
    let value = line.start + at..line.end;
    if value.is_empty() {
        return None;
    }
    let blank = format!("{:<width$}", "0", width = value.len());
    if copy.get(value.clone())? == blank {
        return None;
    }
    copy.replace_range(value.clone(), &blank);
    Some(value)
}

/// The second `key` becomes a name that nobody writes.
fn rename(copy: &mut String, key: &Range<usize>, count: usize) -> Option<Range<usize>> {
    copy.get(key.clone())?;
    let name = format!("{count:_>width$}", width = key.len());
    if key.is_empty() || name.len() != key.len() {
        return None;
    }
    copy.replace_range(key.clone(), &name);
    Some(key.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::recover;

    fn problems(text: &str) -> Vec<String> {
        let recovered = recover(text);
        recovered
            .errors
            .iter()
            .map(|e| format!("{} {} {:?}", e.key, e.problem, e.suggestion))
            .collect()
    }

    #[test]
    fn reading_goes_on_after_a_bad_value_and_a_double_key() {
        let text = "a = round-robin # why\nb = 1\nb = 2\nc = = 3\n[t]\nx = 1\n[t]\ny = 1\n";
        let recovered = recover(text);
        assert!(recovered.document.is_some(), "{:?}", recovered.errors);
        let found = problems(text);
        assert_eq!(found.len(), 4, "{found:#?}");
        let bare = found.iter().find(|e| e.starts_with("a not TOML"));
        let bare = bare.expect("the bare word is reported");
        assert!(
            bare.contains("text needs quotes: \\\"round-robin\\\""),
            "{bare}"
        );
        for start in [
            "b this key is written twice",
            "t this key is written twice",
            "c not TOML",
        ] {
            assert!(found.iter().any(|e| e.starts_with(start)), "{found:#?}");
        }
    }

    #[test]
    fn a_syntax_mistake_names_its_table() {
        let text = "[[l]]\na = x\n[[l]] # second\n  b = y\n[u.v]\nc = z\n[u.v]\n";
        let keys: Vec<String> = recover(text)
            .errors
            .into_iter()
            .map(|error| error.key)
            .collect();
        for key in ["l[0].a", "l[1].b", "u.v.c", "u.v"] {
            assert!(keys.iter().any(|found| found == key), "{key}: {keys:?}");
        }
    }

    #[test]
    fn a_text_beyond_mending_gives_its_first_mistake() {
        let recovered = recover("[listener\nname = 1\n");
        assert!(recovered.document.is_none());
        assert_eq!(recovered.errors.len(), 1, "{:?}", recovered.errors);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "([\\[\\]={}\"'#\\n a-c0-9.,]|\\\\|\u{e9}|\"\"\"){0,60}") {
            let recovered = recover(&text);
            assert!(recovered.document.is_some() || !recovered.errors.is_empty());
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = recover(&String::from_utf8_lossy(&bytes));
        }
    }
}
