//! What whoever types `supervisor upgrade` sees: both generations side by side in a terminal, plain lines in a log, numbers
//! for a program.

use std::process::Stdio;

use control::Role;
use harness::host::Host;
use harness::successors::another_lb;
use harness::traffic::Site;

const TERMS: [&str; 6] = ["--canary", "50", "--step", "3s", "--bake", "6s"];

/// Runs a command on a terminal of 80 columns and prints what it wrote there.
const ON_A_TERMINAL: &str = r"
import fcntl, os, pty, struct, sys, termios
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
seen = b''
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        break
    if not piece:
        break
    seen += piece
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

async fn serving(site: &Site) -> Host {
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_gets_both_generations_in_numbers() {
    let site = Site::start();
    let mut host = serving(&site).await;
    let traffic = site.rapid_load(12);
    traffic.flows(300).await;
    let next = another_lb(host.path(), "next");
    let outcome = host.upgrade(&next, &TERMS).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let told: Vec<_> = outcome
        .events
        .iter()
        .filter(|event| event.event == "progress")
        .collect();
    assert!(told.len() >= 5, "{}", outcome.output);
    for event in &told {
        let roles: Vec<Role> = event.sides.iter().map(|side| side.role).collect();
        assert_eq!(roles, [Role::Incumbent, Role::Successor], "{event:?}");
        assert!(event.remaining_ms.is_some() && event.canary.is_some());
    }
    let last = told.last().expect("told");
    let (incumbent, successor) = (&last.sides[0], &last.sides[1]);
    assert_eq!(
        incumbent.requests_per_s,
        Some(0.0),
        "it is parked: {last:?}"
    );
    assert!(successor.requests_per_s > Some(50.0), "{last:?}");
    assert!(
        successor.p50_ms > Some(0.0) && successor.p99_ms >= successor.p50_ms,
        "{last:?}"
    );
    assert!(successor.resident_bytes > Some(1 << 20), "{last:?}");
    assert_eq!(successor.error_rate, Some(0.0), "{last:?}");
    traffic.finish_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_shows_them_side_by_side_and_a_log_has_plain_lines() {
    let site = Site::start();
    let host = serving(&site).await;
    let traffic = site.rapid_load(12);
    traffic.flows(300).await;
    let supervisor = harness::binaries::find("supervisor");
    let runtime = host.path().join("run");
    let next = another_lb(host.path(), "next");
    let upgrade = |first: &str, script: &[&str], binary: &std::path::Path| {
        let mut command = tokio::process::Command::new(first);
        command
            .args(script)
            .args(["upgrade", "--runtime-dir"])
            .arg(&runtime)
            .arg("--binary")
            .arg(binary)
            .args(TERMS)
            .stdin(Stdio::null());
        command.output()
    };
    let program = supervisor.display().to_string();
    let shown = upgrade("python3", &["-c", ON_A_TERMINAL, &program], &next)
        .await
        .expect("runs");
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success(), "{text}");
    for part in [
        "errors       p50",
        "  incumbent ",
        "  successor ",
        "50 % (",
        " s left",
        "\u{1b}[3A",
    ] {
        assert!(text.contains(part), "{part:?}: {text}");
    }
    assert!(text.contains("committed "), "{text}");
    let back = harness::binaries::find("lb");
    let logged = upgrade(&program, &[], &back).await.expect("runs");
    let text = String::from_utf8_lossy(&logged.stdout);
    assert!(logged.status.success(), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let line = text.lines().find(|line| line.contains(" s left · "));
    let line = line.unwrap_or_else(|| panic!("no progress: {text}"));
    assert!(
        line.contains("incumbent 0") && line.contains("successor 0"),
        "{line}"
    );
    traffic.finish_clean().await;
}
