//! The zoo: every failure before the commit leaves the incumbent serving, under load, with an exit code
//! and a reason.

use std::path::PathBuf;

use harness::host::Host;
use harness::successors::{executable, foreign_elf, impostor, script};
use harness::traffic::Site;

/// One bad successor: how it is made, what `upgrade` must answer.
struct Case {
    name: &'static str,
    make: fn(&Host) -> PathBuf,
    code: i32,
    reason: &'static str,
}

const CASES: [Case; 13] = [
    Case {
        name: "missing",
        make: |host| host.path().join("nowhere"),
        code: 7,
        reason: "does not exist for the supervisor",
    },
    Case {
        name: "a directory",
        make: |host| host.path().to_owned(),
        code: 7,
        reason: "not a file",
    },
    Case {
        name: "not executable",
        make: |host| {
            let path = host.path().join("plain");
            std::fs::write(&path, "#!/bin/sh\n").expect("written");
            path
        },
        code: 7,
        reason: "not executable",
    },
    Case {
        name: "wrong architecture",
        make: |host| foreign_elf(host.path()),
        code: 7,
        reason: "is built for",
    },
    Case {
        name: "no program at all",
        make: |host| executable(host.path(), "noise", &[0x7f, 1, 2, 3, 0, 0]),
        code: 7,
        reason: "cannot be executed",
    },
    Case {
        name: "hangs at --version",
        make: |host| script(host.path(), "hangs", "exec sleep 600"),
        code: 7,
        reason: "did not end within",
    },
    Case {
        name: "another service",
        make: |host| {
            let answer = r#"{"service":"edge-proxy","version":"9","handoff":{"min":1,"max":1}}"#;
            script(host.path(), "edge", &format!("echo '{answer}'"))
        },
        code: 7,
        reason: "it is a binary of the service edge-proxy",
    },
    Case {
        name: "another program",
        make: |_| PathBuf::from("/bin/true"),
        code: 7,
        reason: "without the native handoff",
    },
    Case {
        name: "wrong protocol, said at once",
        make: |host| {
            let answer =
                r#"{"service":"load-balancer","version":"9","handoff":{"min":90,"max":91}}"#;
            script(host.path(), "future", &format!("echo '{answer}'"))
        },
        code: 7,
        reason: "no protocol in common",
    },
    Case {
        name: "refuses the configuration",
        make: |host| {
            let lb = harness::binaries::find("lb");
            let body = format!(
                "case \"$1\" in check) echo 'lb.toml:1:1: too modern' >&2; exit 64;; esac\nexec {} \"$@\"",
                lb.display()
            );
            script(host.path(), "picky", &body)
        },
        code: 7,
        reason: "too modern",
    },
    Case {
        name: "exits at once",
        make: |host| impostor(host.path(), "exits", "exit 3"),
        code: 4,
        reason: "exited with code 3 before it was ready",
    },
    Case {
        name: "never becomes ready",
        make: |host| impostor(host.path(), "never", "exec sleep 600"),
        code: 4,
        reason: "did not become ready within",
    },
    Case {
        name: "killed while it starts",
        make: |host| impostor(host.path(), "killed", "kill -9 $$"),
        code: 4,
        reason: "killed by signal 9 before it was ready",
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_successor_leaves_the_incumbent_serving_with_a_reason() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let incumbent = host.incumbent().await;
    let traffic = site.passing_load(60);
    let held = site.long_lived_load(10);
    traffic.flows(100).await;
    for case in &CASES {
        let binary = (case.make)(&host);
        let outcome = host
            .upgrade(&binary, &["--bake", "20s", "--ready-timeout", "1500ms"])
            .await;
        let reason = outcome.reason();
        assert_eq!(outcome.code, case.code, "{}: {}", case.name, outcome.output);
        assert!(reason.contains(case.reason), "{}: {reason}", case.name);
        let now = host.serving().await;
        let serving = harness::host::incumbent(&now).expect("serves");
        assert_eq!(
            (serving.pid, serving.generation),
            (incumbent.pid, incumbent.generation),
            "{}",
            case.name
        );
        traffic.flows(20).await;
    }
    // Nothing of them is left: neither a process nor a copy in the store.
    host.status_where("only the incumbent", |status| status.generations.len() == 1)
        .await;
    let history = host.client().history().await.expect("history");
    assert_eq!(history.len(), CASES.len());
    assert!(history.iter().all(|entry| entry.reason.is_some()));
    traffic.finish_clean().await;
    held.finish_clean().await;
    assert_eq!(host.stop().await, Some(0));
}

/// A worker that lies about its protocol until the handshake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_breaks_the_protocol_on_the_channel_is_rolled_back() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.passing_load(40);
    for (name, frame, reason) in [
        (
            "future",
            r#"{"seq":1,"fds":0,"message":{"type":"hello","protocol":{"min":90,"max":91},"service":"load-balancer","version":"9","pid":1}}"#,
            "no protocol in common",
        ),
        ("noise", "hello there", "is not a message"),
        (
            "hasty",
            r#"{"seq":1,"message":{"type":"ready","unclaimed":[]}}"#,
            "Ready is not allowed while Greeting",
        ),
    ] {
        // The shell's standard input is the channel: one write is one frame.
        let run = format!("printf '%s' '{frame}' >&0; exec sleep 600");
        let binary = impostor(host.path(), name, &run);
        let outcome = host
            .upgrade(&binary, &["--bake", "20s", "--ready-timeout", "10s"])
            .await;
        assert_eq!(outcome.code, 4, "{name}: {}", outcome.output);
        assert!(
            outcome.reason().contains(reason),
            "{name}: {}",
            outcome.reason()
        );
    }
    traffic.flows(50).await;
    traffic.finish_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_dies_during_the_bake_hands_back_within_moments() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.passing_load(40);
    traffic.flows(50).await;
    let dies = impostor(
        host.path(),
        "dies",
        "(sleep 1; kill -9 $$) & exec \"$LB\" \"$@\"",
    );
    let incumbent = host.incumbent().await.pid;
    let outcome = host.upgrade(&dies, &["--bake", "30s"]).await;
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    assert!(
        outcome.reason().contains("killed by signal 9"),
        "{}",
        outcome.reason()
    );
    assert_eq!(host.serving().await.generations[0].pid, incumbent);
    let at = |event: &str| {
        let found = outcome
            .events
            .iter()
            .find(|one| one.event == event)
            .expect(event);
        humantime_millis(&found.at)
    };
    let restored = at("finished") - at("rolling-back");
    println!("from the breach to the incumbent accepting: {restored} ms");
    assert!(restored < 1_000, "{restored} ms");
    traffic.flows(50).await;
    // The successor's own connections died with it; nothing else may be lost.
    let ledger = traffic.finish().await;
    assert_eq!(
        ledger.count(bench::ledger::Class::Refused),
        0,
        "{:?}",
        ledger.examples
    );
    assert_eq!(
        ledger.count(bench::ledger::Class::Hung),
        0,
        "{:?}",
        ledger.examples
    );
    assert_eq!(ledger.unaccounted(), 0);
}

/// Milliseconds within the day of an RFC 3339 time.
fn humantime_millis(text: &str) -> i64 {
    let time = text.get(11..23).expect("RFC 3339 with milliseconds");
    let number = |range: std::ops::Range<usize>| -> i64 {
        time.get(range).expect("digits").parse().expect("digits")
    };
    ((number(0..2) * 60 + number(3..5)) * 60 + number(6..8)) * 1000 + number(9..12)
}
