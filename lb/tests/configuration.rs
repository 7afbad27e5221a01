//! Promises about wrong configurations: every mistake is found, at its place, with its suggestion, at
//! once; and the exit code says so.
//!
//! In    `wrong-configs/*.toml`, each with the lines it must cause in a sibling `.expected`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Fewest files in the table.
const WRONG_CONFIGURATIONS_MIN: usize = 40;

fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong-configs")
}

fn lb(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lb"))
        .args(arguments)
        .current_dir(table())
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("lb starts")
}

fn mistakes(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .expect("a file");
    std::fs::write(file.path(), text).expect("is written");
    file
}

const RIGHT: &str = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:7000\"\nupstream = \"app\"\n\
                     [upstream.app]\nbackends = [\"127.0.0.1:9001\"]\n";

#[test]
fn every_wrong_configuration_is_told_what_is_wrong_with_it() {
    let mut files: Vec<String> = std::fs::read_dir(table())
        .expect("the table is there")
        .map(|entry| {
            entry
                .expect("is readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".toml"))
        .collect();
    files.sort();
    assert!(
        files.len() >= WRONG_CONFIGURATIONS_MIN,
        "only {} files",
        files.len()
    );
    let mut differences = Vec::new();
    for file in &files {
        let output = lb(&["check", "--config", file], &[]);
        let expected_file = table().join(file).with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected_file, mistakes(&output)).expect("is written");
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        if output.status.code() != Some(64) || mistakes(&output) != expected || expected.is_empty()
        {
            differences.push(format!(
                "{file} ({}):\n{}expected:\n{expected}",
                output.status,
                mistakes(&output)
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_right_configuration_is_right_for_check() {
    let file = written(RIGHT);
    let path = file.path().to_string_lossy();
    let output = lb(&["check", "--config", &path], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", mistakes(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("is right"));
    let output = lb(&["check", "--config", &path, "--json"], &[]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    assert_eq!(report["ok"], true);
}

#[test]
fn mistakes_as_json_carry_their_places() {
    let output = lb(
        &["check", "--config", "many-at-once.toml", "--json"],
        &[("PORT", "x")],
    );
    assert_eq!(output.status.code(), Some(64));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    assert_eq!(report["ok"], false);
    let mistakes = report["mistakes"].as_array().expect("an array");
    assert!(mistakes.len() > 8, "{report:#}");
    assert_eq!(mistakes[0]["file"], "many-at-once.toml");
    assert_eq!(mistakes[0]["line"], 1);
    assert_eq!(mistakes[0]["key"], "workers");
    assert!(
        mistakes
            .iter()
            .any(|m| m["source"] == "environment" && m["key"] == "PORT")
    );
}

#[test]
fn run_refuses_what_check_refuses() {
    let checked = lb(&["check", "--config", "many-at-once.toml"], &[]);
    let run = lb(&["run", "--config", "many-at-once.toml"], &[]);
    assert_eq!(run.status.code(), Some(64));
    assert_eq!(mistakes(&run), mistakes(&checked));
}

#[test]
fn wrong_variables_stand_in_the_same_list() {
    let file = written(RIGHT);
    let path = file.path().to_string_lossy();
    let environment = [
        ("PORT", "70000"),
        ("ADMIN_LISTEN", "8082"),
        ("LOG_LEVEL", "loud"),
        ("ALGORITHM", "round-robbin"),
        ("HEALTH_CHECK_INTERVAL", "soon"),
        ("BACKEND_TIMEOUT", "1h"),
        ("OPERATOR_URL", "operator"),
    ];
    let output = lb(&["check", "--config", &path], &environment);
    assert_eq!(output.status.code(), Some(64));
    let lines: Vec<String> = mistakes(&output).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), environment.len(), "{lines:#?}");
    for (name, _) in environment {
        let start = format!("{name} (environment): ");
        assert!(
            lines.iter().any(|line| line.starts_with(&start)),
            "{name}: {lines:#?}"
        );
    }
    let algorithm = "ALGORITHM (environment): unknown algorithm \"round-robbin\"; did you mean \"round-robin\"?";
    assert!(lines.iter().any(|line| line == algorithm), "{lines:#?}");
}

#[test]
fn a_wrong_file_and_a_wrong_variable_are_reported_together() {
    let output = lb(
        &["check", "--config", "algorithm-misspelt.toml"],
        &[("LOG_LEVEL", "loud")],
    );
    let text = mistakes(&output);
    assert!(
        text.contains("algorithm-misspelt.toml:8:1: upstream.app.algorithm"),
        "{text}"
    );
    assert!(text.contains("LOG_LEVEL (environment)"), "{text}");
}

#[test]
fn wrong_flags_are_wrong_configurations() {
    let cases: [(&[&str], &str); 6] = [
        (&["run"], "--config <FILE>"),
        (&["run", "--listen", "7000"], "--listen (command line)"),
        (
            &["run", "--listen", "127.0.0.1:0"],
            "no backends, and no OPERATOR_URL",
        ),
        (
            &["run", "--listen", "127.0.0.1:0", "--backend", "x"],
            "--backend (command line)",
        ),
        (
            &[
                "run",
                "--listen",
                "127.0.0.1:0",
                "--backend",
                "a:1",
                "--algorithm",
                "leastcon",
            ],
            "did you mean \"least-connections\"?",
        ),
        (
            &["run", "--config", "/nowhere/lb.toml"],
            "/nowhere/lb.toml cannot be read",
        ),
    ];
    for (arguments, expected) in cases {
        let output = lb(arguments, &[]);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(
            mistakes(&output).contains(expected),
            "{arguments:?}: {}",
            mistakes(&output)
        );
    }
}

#[test]
fn a_binary_says_who_it_is() {
    let output = lb(&["--version"], &[]);
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(line.starts_with("lb "), "{line}");
    let probed = lb(&["--version"], &[("ZEITWORK_PROBE", "1")]);
    let told: serde_json::Value = serde_json::from_slice(&probed.stdout).expect("is JSON");
    assert_eq!(told["service"], "load-balancer");
    assert_eq!(lb(&["--help"], &[]).status.code(), Some(0));
}
