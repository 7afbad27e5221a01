//! The commands as a script sees them: exit codes and JSON lines.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use bench::origin::{Kind, Origin};
use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(arguments)
        .output()
        .unwrap()
}

fn code(arguments: &[&str]) -> Option<i32> {
    bench(arguments).status.code()
}

fn echo() -> Origin {
    Origin::start(Kind::Echo, "127.0.0.1:0".parse().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_ledger_exits_0_and_says_so_in_text_and_json() {
    let origin = echo();
    let target = format!("tcp://{}", origin.address());
    let output = bench(&[
        "ledger",
        "--target",
        &target,
        "--duration",
        "300ms",
        "--connections",
        "8",
    ]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.lines().last().unwrap().starts_with("CLEAN: "),
        "{text}"
    );

    let json = [
        "ledger",
        "--target",
        &target,
        "--duration",
        "1200ms",
        "--connections",
        "8",
        "--json",
        "--rate",
        "100",
    ];
    let output = bench(&json);
    let lines: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert!(lines.iter().any(|line| line["event"] == "progress"));
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["event"], &last["clean"], &last["losses"]),
        (&"ledger".into(), &true.into(), &0.into())
    );
    assert_eq!(last["ledger"]["connections"]["unaccounted"], 0);
}

#[test]
fn losses_exit_1() {
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let target = format!("tcp://{address}");
    let output = bench(&[
        "ledger",
        "--target",
        &target,
        "--duration",
        "100ms",
        "--connections",
        "2",
    ]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("Connection refused (os error 111)"), "{text}");
    assert!(
        text.lines().last().unwrap().starts_with("LOSSES: "),
        "{text}"
    );
}

#[test]
fn a_wrong_command_line_exits_2_and_help_exits_0() {
    assert_eq!(code(&["ledger"]), Some(2));
    assert_eq!(code(&["ledger", "--target", "ftp://x"]), Some(2));
    assert_eq!(
        code(&[
            "ledger",
            "--target",
            "http://127.0.0.1:1/",
            "--shape",
            "long-lived"
        ]),
        Some(2)
    );
    assert_eq!(
        code(&[
            "ledger",
            "--target",
            "tcp://127.0.0.1:1",
            "--expect",
            "pattern"
        ]),
        Some(2)
    );
    assert_eq!(code(&["demo", "--connections", "2"]), Some(2));
    assert_eq!(code(&["--help"]), Some(0));
}

#[test]
fn a_demo_without_its_programs_exits_2_and_says_what_to_do() {
    let output = bench(&["demo", "--lb", "/nowhere/lb"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("/nowhere/lb is not an executable file"),
        "{text}"
    );
}

#[test]
fn a_demo_whose_supervisor_ends_at_once_fails_with_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let supervisor = directory.path().join("supervisor");
    std::fs::write(
        &supervisor,
        "#!/bin/sh\necho 'cannot start: the moon is full' >&2\nexit 1\n",
    )
    .unwrap();
    std::fs::set_permissions(&supervisor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = supervisor.to_str().unwrap();
    for program in ["lb", "edge"] {
        let flag = format!("--{program}");
        let output = bench(&[
            "demo",
            "--only",
            program,
            &flag,
            "/bin/true",
            "--supervisor",
            path,
        ]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("the supervisor ended before anything served"),
            "{text}"
        );
        assert!(text.contains("the moon is full"), "{text}");
    }
}
