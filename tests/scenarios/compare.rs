//! `bench compare` measures what it says, and refuses to compare with wrong answers.

use std::process::{Command, Output};

use harness::binaries;
use harness::successors::script;

fn compare(args: &[&str]) -> Output {
    let mut bench = Command::new(binaries::find("bench"));
    bench.args(["compare", "--rounds", "2", "--window", "300ms", "--json"]);
    bench.args(args).output().expect("runs")
}

#[test]
fn both_of_our_proxies_are_measured_beside_themselves() {
    let scratch = tempfile::tempdir().expect("scratch");
    let page = scratch.path().join("compare.html");
    let page_argument = page.display().to_string();
    let output = compare(&[
        "--scenarios",
        "l4-keep-alive,h1-tls",
        "--cost-only",
        "--report",
        &page_argument,
    ]);
    let (text, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{text}{said}");
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let page = std::fs::read_to_string(&page).expect("a page");
    assert_eq!(page.matches("<svg").count(), 2, "{page}");
    for scenario in ["l4-keep-alive", "h1-tls"] {
        let of = |event: &str| {
            let all = events
                .iter()
                .filter(|one| one["event"] == event && one["scenario"] == scenario);
            all.cloned().collect::<Vec<_>>()
        };
        let turns = of("turn");
        assert!(
            turns.len() >= 4 && turns.len().is_multiple_of(2),
            "{turns:?}"
        );
        for turn in &turns {
            assert!(turn["requests"].as_u64() > Some(100), "{turn}");
            // A request through a proxy costs more than a microsecond and less than ten milliseconds.
            let cost = turn["cost"].as_f64().expect("a number");
            assert!((1.0..10_000.0).contains(&cost), "{turn}");
        }
        let results = of("result");
        let control = results
            .iter()
            .find(|one| one["proxy"] == "ours again (control)");
        let ratio = control
            .and_then(|one| one["ratio"].as_f64())
            .expect("a ratio");
        assert!((0.2..5.0).contains(&ratio), "{results:?}");
    }
}

#[test]
fn an_unknown_peer_is_refused_with_those_that_are_known() {
    let output = compare(&["--peers", "apache"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("known are haproxy, nginx, envoy, caddy, traefik"),
        "{said}"
    );
}

#[test]
fn a_proxy_that_does_not_answer_ends_the_comparison_with_its_own_words() {
    let scratch = tempfile::tempdir().expect("scratch");
    let broken = script(
        scratch.path(),
        "lb",
        "echo 'no such backend' >&2; exec sleep 60",
    );
    let broken = broken.display().to_string();
    let output = compare(&["--scenarios", "l4-keep-alive", "--lb", &broken]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("ours does not start: no such backend"),
        "{said}"
    );
}
