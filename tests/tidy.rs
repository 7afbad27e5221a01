//! The house rules, as tests: they hold for every file, also for those of tomorrow.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file, in lines.
const FILE_LINES_MAX: usize = 500;

/// Who may use whom, inside the workspace: anything else is a new arrow, to be drawn in ARCHITECTURE.md
/// first.
const ARROWS: [(&str, &[&str]); 8] = [
    ("bench", &[]),
    ("control", &[]),
    ("dataplane", &["handoff"]),
    ("edge", &["dataplane", "handoff"]),
    ("handoff", &[]),
    ("lb", &["dataplane", "handoff"]),
    ("supervisor", &["control", "handoff"]),
    ("tests", &["bench", "control", "handoff"]),
];

/// Files that decide and touch nothing: no clock, no socket, no process, no file.
const PURE: [&str; 50] = [
    "handoff/src/batches.rs",
    "handoff/src/codec.rs",
    "handoff/src/message.rs",
    "handoff/src/supervisor_state.rs",
    "handoff/src/ticket_keys.rs",
    "handoff/src/latency.rs",
    "handoff/src/share.rs",
    "handoff/src/version.rs",
    "handoff/src/worker_state.rs",
    "supervisor/src/backoff.rs",
    "supervisor/src/canary.rs",
    "supervisor/src/carried.rs",
    "supervisor/src/plan.rs",
    "supervisor/src/plan/listeners.rs",
    "supervisor/src/retire.rs",
    "supervisor/src/swap.rs",
    "lb/src/shard/farewell.rs",
    "supervisor/src/tally.rs",
    "supervisor/src/verdict.rs",
    "supervisor/src/verdict/window.rs",
    "dataplane/src/health.rs",
    "dataplane/src/balance.rs",
    "dataplane/src/proxy_protocol.rs",
    "dataplane/src/wheel.rs",
    "dataplane/src/retry_budget.rs",
    "edge/src/end.rs",
    "edge/src/field.rs",
    "edge/src/http1/body.rs",
    "edge/src/http1/chunked.rs",
    "edge/src/http1/fields.rs",
    "edge/src/http1/request.rs",
    "edge/src/http1/response.rs",
    "edge/src/http2/frame.rs",
    "edge/src/http2/budget.rs",
    "edge/src/http2/head.rs",
    "edge/src/http2/stream.rs",
    "edge/src/http2/connection.rs",
    "edge/src/http2/output.rs",
    "edge/src/http2/reader.rs",
    "edge/src/http2/hpack/table.rs",
    "edge/src/http2/hpack/huffman.rs",
    "edge/src/http2/hpack/decoder.rs",
    "edge/src/http2/hpack/encoder.rs",
    "edge/src/life.rs",
    "edge/src/policy.rs",
    "edge/src/policy/forwarding.rs",
    "edge/src/policy/rate.rs",
    "edge/src/policy/router.rs",
    "edge/src/settings.rs",
    "edge/src/target.rs",
];

/// What a pure file may not name outside its tests.
const WORLD: [&str; 8] = [
    "tokio",
    "std::fs",
    "std::process",
    "TcpStream",
    "UnixStream",
    "Instant::now",
    "SystemTime::now",
    "rustix",
];

/// Module names that say nothing.
const GRAB_BAGS: [&str; 5] = ["common.rs", "helpers.rs", "misc.rs", "mod.rs", "util.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ARROWS.iter().map(|(name, _)| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root())
                    .expect("inside")
                    .display()
                    .to_string();
                found.push((name, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// The part of a file before its tests.
fn production(text: &str) -> &str {
    text.split_once("#[cfg(test)]")
        .map_or(text, |(before, _)| before)
}

#[test]
fn every_file_has_a_door_plate_and_a_bounded_length() {
    for (name, text) in sources() {
        assert!(
            text.starts_with("//! "),
            "{name} does not say what it is (//!)"
        );
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{name} has {lines} lines");
        let file = name.rsplit('/').next().unwrap_or_default();
        assert!(!GRAB_BAGS.contains(&file), "{name} is a grab-bag by name");
    }
}

#[test]
fn crates_depend_only_along_the_drawn_arrows() {
    let names: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for (name, allowed) in ARROWS {
        let manifest =
            fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        for line in manifest.lines() {
            let used = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if names.contains(used) && line.contains("workspace = true") {
                assert!(allowed.contains(&used), "{name} must not use {used}");
            }
        }
    }
}

#[test]
fn pure_files_touch_nothing() {
    for name in PURE {
        let text = fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        for line in production(&text)
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            for word in WORLD {
                assert!(
                    !line.contains(word),
                    "{name} is pure, and names {word}: {line}"
                );
            }
        }
    }
}

#[test]
fn nothing_is_unsafe_and_nothing_is_a_stub() {
    for (name, text) in sources() {
        if name == "tests/tidy.rs" {
            continue;
        }
        for word in [
            "unsafe {",
            "unsafe fn",
            "todo!(",
            "unimplemented!(",
            "FIXME",
            "#[ignore",
        ] {
            assert!(!text.contains(word), "{name} has {word}");
        }
    }
}

#[test]
fn no_shell_is_started_by_the_product() {
    let shells = [
        "\"sh\"",
        "\"bash\"",
        "\"/bin/sh\"",
        "\"/bin/bash\"",
        "\"-c\"",
    ];
    for (name, text) in sources() {
        let product = [
            "control/",
            "dataplane/",
            "edge/",
            "handoff/",
            "lb/",
            "supervisor/",
        ];
        if !product.iter().any(|folder| name.starts_with(folder)) || name.contains("/tests/") {
            continue;
        }
        for word in shells {
            assert!(
                !production(&text).contains(word),
                "{name} names a shell: {word}"
            );
        }
    }
}

#[test]
fn every_decision_record_is_linked_from_the_architecture() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    for entry in fs::read_dir(root().join("docs/adr"))
        .expect("docs/adr")
        .flatten()
    {
        let file = entry.file_name().to_string_lossy().into_owned();
        assert!(
            architecture.contains(&file),
            "ARCHITECTURE.md does not link docs/adr/{file}"
        );
    }
}

#[test]
fn the_changelog_has_its_shape() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).expect("CHANGELOG.md");
    assert!(text.starts_with("# Changelog\n"));
    assert!(text.contains("\n## Unreleased\n"));
    for line in text.lines().filter(|line| line.starts_with("### ")) {
        let kinds = ["### Added", "### Changed", "### Fixed", "### Removed"];
        assert!(kinds.contains(&line), "{line}");
    }
}
