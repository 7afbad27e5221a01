//! Right configurations: every setting at once, the example, the sample of the package. No setting is missing in them
//! or in the documentation.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::scratch::{Scratch, stderr, stdout};

/// Fewest settings that all tables together have.
const KEYS_MIN: usize = 100;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text_of(file: &str) -> String {
    std::fs::read_to_string(repository().join(file)).expect(file)
}

const EVERYTHING: &str = "edge/tests/right-configs/everything.toml";

fn with_everything() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("404.html", "<p>{status}");
    scratch.write("503.html", "<p>{reason}");
    scratch.write("everything.toml", &text_of(EVERYTHING));
    scratch
}

#[test]
fn a_configuration_with_every_setting_is_right() {
    let scratch = with_everything();
    let output = scratch.edge(&["check", "--config", "everything.toml"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "everything.toml: the configuration is right (2 listeners, 2 certificates, 5 routes, 3 upstreams, 3 backends)\n\
         everything.toml: warning: upstream.lab.tls.insecure: certificates of backends are not verified\n"
    );
    let output = scratch.edge(&["check", "--config", "everything.toml", "--json"], &[]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    assert_eq!(report["ok"], true);
    assert_eq!(report["warnings"].as_array().map(Vec::len), Some(1));
}

/// Every table, with a key that none has: its mistake lists the keys that there are.
const EVERY_TABLE: &str = r#"
zzzzzzzzzz = 1
[admin]
zzzzzzzzzz = 1
[log]
zzzzzzzzzz = 1
[drain]
zzzzzzzzzz = 1
[timeouts]
zzzzzzzzzz = 1
[limits]
zzzzzzzzzz = 1
[[listener]]
zzzzzzzzzz = 1
[[listener.certificate]]
zzzzzzzzzz = 1
[[route]]
zzzzzzzzzz = 1
upstreams = [{ zzzzzzzzzz = 1 }]
[route.rate_limit]
zzzzzzzzzz = 1
[route.access]
zzzzzzzzzz = 1
[route.request_headers]
zzzzzzzzzz = 1
[[route]]
redirect = { zzzzzzzzzz = 1 }
[[route]]
respond = { zzzzzzzzzz = 1 }
[upstream.app]
zzzzzzzzzz = 1
backends = [{ zzzzzzzzzz = 1 }]
[upstream.app.health_check]
zzzzzzzzzz = 1
[upstream.app.ejection]
zzzzzzzzzz = 1
[upstream.app.tls]
zzzzzzzzzz = 1
[discovery]
zzzzzzzzzz = 1
[security_headers]
zzzzzzzzzz = 1
[cors]
zzzzzzzzzz = 1
[access_log]
zzzzzzzzzz = 1
"#;

/// Every key of every table, as the binary itself lists them.
fn known_keys() -> BTreeSet<String> {
    let lines = Scratch::new().mistakes_of(EVERY_TABLE, &[]);
    let asked = EVERY_TABLE.matches("zzzzzzzzzz").count();
    let lists: Vec<&str> = lines
        .iter()
        .filter_map(|line| Some(line.split_once("zzzzzzzzzz: unknown key; known: ")?.1))
        .collect();
    assert_eq!(lists.len(), asked, "{lines:#?}");
    let keys = lists.iter().flat_map(|list| list.split(", "));
    keys.map(str::to_owned).collect()
}

/// Keys that the text does not have as a word of its own.
fn missing_in<'k>(text: &str, keys: &'k BTreeSet<String>) -> Vec<&'k String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = text.split(|c: char| !is_word(c)).collect();
    keys.iter()
        .filter(|key| !words.contains(key.as_str()))
        .collect()
}

#[test]
fn no_setting_is_missing_in_the_tests_the_example_and_the_documentation() {
    let keys = known_keys();
    assert!(keys.len() >= KEYS_MIN, "only {keys:#?}");
    for file in [
        EVERYTHING,
        "docs/examples/edge.toml",
        "docs/configuration.md",
    ] {
        let missing = missing_in(&text_of(file), &keys);
        assert!(missing.is_empty(), "{file}: {missing:?}");
    }
}

#[test]
fn the_documentation_has_every_variable_and_every_end_of_a_request() {
    let text = text_of("docs/configuration.md");
    for (name, _) in super::variables::WRONG {
        assert!(text.contains(&format!("`{name}`")), "{name}");
    }
    for end in edge::end::End::ALL {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` |", end.as_str())));
        let row = row.unwrap_or_else(|| panic!("{} is missing", end.as_str()));
        // Before the first bar and after the last one there is nothing.
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 7, "{row}");
        assert_eq!(cells[3] == "yes", end.is_error(), "{row}");
        if let Some(status) = end.status() {
            assert!(cells[2].contains(&status.to_string()), "{row}");
        }
    }
}

#[test]
fn the_example_and_the_packages_sample_start_as_they_are() {
    let scratch = Scratch::new();
    for file in ["docs/examples/edge.toml", "systemd/edge-proxy.toml"] {
        let mistakes = scratch.mistakes_of(&text_of(file), &[]);
        assert!(mistakes.is_empty(), "{file}: {mistakes:#?}");
    }
}

/// Takes the `#` from every line that is a setting or a table in a comment (`#key = …`, `#[table]`).
fn switched_on(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn what_the_samples_have_in_comments_is_right_too() {
    let scratch = Scratch::new();
    scratch.write("404.html", "gone");
    for file in ["docs/examples/edge.toml", "systemd/edge-proxy.toml"] {
        let text = text_of(file);
        let on = switched_on(&text);
        assert_ne!(on, text, "{file} has nothing in comments");
        // Where the package's paths are, a test's are not.
        let on = on
            .replace("/etc/zeitwork/", "")
            .replace("/var/log/zeitwork/", "")
            .replace("/var/lib/zeitwork/", "");
        let mistakes = scratch.mistakes_of(&on, &[]);
        assert!(mistakes.is_empty(), "{file}: {mistakes:#?}");
    }
}

#[test]
fn the_samples_listeners_are_named_as_the_socket_units_are() {
    let sample = text_of("systemd/edge-proxy.toml");
    for (unit, name) in [
        ("systemd/zeitwork-edge-proxy-http.socket", "http"),
        ("systemd/zeitwork-edge-proxy.socket", "https"),
    ] {
        assert!(text_of(unit).contains(&format!("FileDescriptorName={name}\n")));
        assert!(switched_on(&sample).contains(&format!("name = \"{name}\"\n")));
    }
}

#[test]
fn the_packages_environment_is_all_in_comments_and_right() {
    let text = text_of("systemd/edge-proxy.env");
    let mut environment = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let comment = line.strip_prefix('#').expect("is a comment");
        if let Some((name, value)) = comment
            .split_once('=')
            .filter(|_| !comment.starts_with(' '))
        {
            environment.push((name, value.replace("/etc/zeitwork/", "")));
        }
    }
    let names: Vec<&str> = environment.iter().map(|(name, _)| *name).collect();
    for (name, _) in super::variables::WRONG {
        assert!(names.contains(&name), "{name} is missing");
    }
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let sample = text_of("systemd/edge-proxy.toml");
    let mistakes = Scratch::new().mistakes_of(&sample, &environment);
    assert!(mistakes.is_empty(), "{mistakes:#?}");
}
