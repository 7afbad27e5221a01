//! Wrong configurations, and what they are told.

use std::path::{Path, PathBuf};

use super::scratch::{RIGHT, Scratch, stderr, stdout};

/// Fewest files in the table.
const WRONG_CONFIGURATIONS_MIN: usize = 120;

fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong-configs")
}

fn wrong_files() -> Vec<String> {
    let entries = std::fs::read_dir(table()).expect("the table is there");
    let names = entries.map(|entry| entry.expect("is readable").file_name());
    let mut files: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    files.sort();
    files
}

fn with_table(file: &str) -> Scratch {
    let scratch = Scratch::new();
    let text = std::fs::read_to_string(table().join(file)).expect("is readable");
    scratch.write(file, &text);
    scratch
}

#[test]
fn every_wrong_configuration_is_told_what_is_wrong_with_it() {
    let files = wrong_files();
    assert!(
        files.len() >= WRONG_CONFIGURATIONS_MIN,
        "only {} files",
        files.len()
    );
    let scratch = Scratch::new();
    let mut differences = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(table().join(file)).expect("is readable");
        scratch.write(file, &text);
        let output = scratch.edge(&["check", "--config", file], &[]);
        let told = stderr(&output);
        let expected_file = table().join(file).with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected_file, &told).expect("is written");
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        if output.status.code() != Some(64) || told != expected || expected.is_empty() {
            differences.push(format!(
                "{file} ({}):\n{told}expected:\n{expected}",
                output.status
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn mistakes_as_json_carry_their_places() {
    let scratch = with_table("many-at-once.toml");
    let output = scratch.edge(
        &["check", "--config", "many-at-once.toml", "--json"],
        &[("RATE_LIMIT_BURST", "x")],
    );
    assert_eq!(output.status.code(), Some(64));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    assert_eq!(report["ok"], false);
    let mistakes = report["mistakes"].as_array().expect("an array");
    assert!(mistakes.len() > 12, "{report:#}");
    assert_eq!(mistakes[0]["file"], "many-at-once.toml");
    assert_eq!(mistakes[0]["line"], 1);
    assert_eq!(mistakes[0]["key"], "workers");
    let burst = mistakes
        .iter()
        .find(|mistake| mistake["key"] == "RATE_LIMIT_BURST");
    assert_eq!(burst.expect("is told")["source"], "environment");
}

#[test]
fn run_and_explain_refuse_what_check_refuses() {
    let scratch = with_table("many-at-once.toml");
    let config = ["--config", "many-at-once.toml"];
    let told = |verb: &[&str]| {
        let output = scratch.edge(&[verb, &config].concat(), &[]);
        assert_eq!(output.status.code(), Some(64), "{verb:?}");
        stderr(&output)
    };
    let checked = told(&["check"]);
    assert_eq!(told(&["run"]), checked);
    assert_eq!(told(&["explain", "http://x/"]), checked);
}

#[test]
fn a_right_configuration_is_right_for_check() {
    let scratch = Scratch::new();
    scratch.write("edge.toml", RIGHT);
    let output = scratch.edge(&["check", "--config", "edge.toml"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("is right"), "{}", stdout(&output));
    let output = scratch.edge(&["check", "--config", "edge.toml", "--json"], &[]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    assert_eq!(report["ok"], true);
}

#[test]
fn a_file_that_is_not_there_is_a_wrong_configuration() {
    let output = Scratch::new().edge(&["run", "--config", "/nowhere/edge.toml"], &[]);
    assert_eq!(output.status.code(), Some(64));
    let told = stderr(&output);
    assert!(told.contains("/nowhere/edge.toml cannot be read"), "{told}");
}
