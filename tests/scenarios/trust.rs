//! What operators trust: signed binaries, a private control socket, a clean environment, and true accounts.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::host::Host;
use harness::ports::free_ports;
use harness::successors::{another_lb, script};
use harness::traffic::Site;
use harness::wait;
use minisign::KeyPair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A user that is neither root nor the supervisor's.
const NOBODY: u32 = 65_534;

fn sign(keys: &KeyPair, binary: &Path) {
    let bytes = std::fs::read(binary).expect("a binary");
    let signature = minisign::sign(Some(&keys.pk), &keys.sk, &bytes[..], Some("release"), None);
    let beside = format!("{}.minisig", binary.display());
    std::fs::write(beside, signature.expect("signs").to_string()).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binary_that_is_not_signed_is_refused_before_any_of_it_is_executed() {
    let site = Site::start();
    let keys = KeyPair::generate_unencrypted_keypair().expect("keys");
    let others = KeyPair::generate_unencrypted_keypair().expect("keys");
    let mut host = Host::with_lb(&site.config(""));
    let first = another_lb(host.path(), "first");
    sign(&keys, &first);
    host.set_binary(&first);
    let config = format!("[signature]\npublic_key = \"{}\"\n", keys.pk.to_base64());
    host.set_supervisor_config(&config);
    host.start().await;

    // It would leave a mark as soon as anything of it ran, `--version` included.
    let mark = host.path().join("executed");
    let bad = script(host.path(), "bad", &format!("touch {}", mark.display()));
    let refused = [("does not exist", false), ("signed with another key", true)];
    for (reason, signed) in refused {
        if signed {
            sign(&others, &bad);
        }
        let outcome = host.upgrade(&bad, &[]).await;
        assert_eq!(outcome.code, 7, "{}", outcome.output);
        assert!(outcome.reason().contains(reason), "{}", outcome.reason());
        assert!(!mark.exists(), "it was executed");
    }
    sign(&keys, &bad);
    let mut bytes = std::fs::read(&bad).expect("a script");
    bytes.push(b'\n');
    std::fs::write(&bad, bytes).expect("written");
    let outcome = host.upgrade(&bad, &[]).await;
    assert!(
        outcome.reason().contains("does not match its bytes"),
        "{}",
        outcome.reason()
    );
    assert!(outcome.code == 7 && !mark.exists(), "{}", outcome.output);

    let good = another_lb(host.path(), "good");
    sign(&keys, &good);
    let outcome = host.upgrade(&good, &["--bake", "100ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_gets_the_units_variables_and_none_of_the_service_managers() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    let private = [
        ("WATCHDOG_USEC", "600000000"),
        ("MAINPID", "1"),
        ("FDSTORE", "100"),
        ("MANAGERPID", "1"),
        ("SYSTEMD_EXEC_PID", "1"),
        ("LD_LIBRARY_PATH", "/nowhere"),
        ("LD_PRELOAD", "/nowhere/evil.so"),
        ("ZEITWORK_PROBE", "1"),
    ];
    let passed = [
        ("LOG_LEVEL", "info"),
        ("CREDENTIALS_DIRECTORY", "/run/credentials/x"),
        ("INVOCATION_ID", "0123"),
        ("MY_OWN", "a b"),
    ];
    for (name, value) in private.iter().chain(&passed) {
        host.set_variable(name, value);
    }
    host.start().await;
    let check = |pid: u32| {
        let bytes = std::fs::read(format!("/proc/{pid}/environ")).expect("the worker lives");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let variables: Vec<&str> = text.split('\0').collect();
        for (name, _) in private {
            let leaks = variables.iter().any(|v| v.starts_with(&format!("{name}=")));
            assert!(!leaks, "{name} leaks: {variables:?}");
        }
        for (name, value) in passed {
            let expected = format!("{name}={value}");
            assert!(variables.contains(&expected.as_str()), "{variables:?}");
        }
        for name in ["NOTIFY_SOCKET=", "LISTEN_"] {
            assert!(
                !variables.iter().any(|v| v.starts_with(name)),
                "{variables:?}"
            );
        }
    };
    check(host.incumbent().await.pid);
    let next = another_lb(host.path(), "next");
    let outcome = host.upgrade(&next, &["--bake", "100ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    check(host.incumbent().await.pid);
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    metadata.permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_and_sockets_are_private_and_another_user_gets_no_answer() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let runtime = host.path().join("run/load-balancer");
    let state = host.path().join("state/load-balancer");
    for directory in [&runtime, &state, &state.join("store")] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    let socket = runtime.join("control.sock");
    assert_eq!(mode(&socket), 0o600);
    assert!(
        rustix::process::geteuid().is_root(),
        "needs root for another user"
    );
    let status_as = |uid: u32| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-S", "-m", "5", "--unix-socket"])
            .arg(&socket);
        curl.arg("http://x/v1/status").uid(uid).gid(uid);
        let output = curl.output().expect("curl starts");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    assert!(!status_as(NOBODY).0, "the modes hold");
    // With every mode opened, it is still the kernel's word about the peer that counts.
    for path in [host.path(), &host.path().join("run"), &runtime, &socket] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("opened");
    }
    let (answered, text) = status_as(NOBODY);
    assert!(!answered && text.is_empty(), "{text}");
    assert!(
        host.log()
            .contains("a client of another user was turned away")
    );
    let (answered, text) = status_as(0);
    assert!(answered && text.contains("load-balancer"), "{text}");
}

async fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("asks");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("answers");
    text
}

/// Answers every POST, and gives the bodies.
async fn hook() -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let (bodies, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut text, mut bytes) = (String::new(), [0; 16_384]);
            while !text.ends_with("}}") {
                let count = stream.read(&mut bytes).await.expect("reads");
                text += &String::from_utf8_lossy(&bytes[..count]);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.expect("writes");
            let _ = bodies.send(text);
        }
    });
    (port, told)
}

/// The phases of a swap whose bake took 1.2 s.
fn assert_phases(swap: &control::HistoryEntry) {
    let baked = swap
        .phases
        .iter()
        .find(|phase| phase.phase == "baking")
        .expect("baked");
    assert!((1_200..10_000).contains(&baked.ms), "{:?}", swap.phases);
    let sum: u64 = swap.phases.iter().map(|phase| phase.ms).sum();
    let whole = swap.duration_ms.expect("a duration");
    assert!(
        sum <= whole && whole - sum < 50,
        "{sum} of {whole} ms: {:?}",
        swap.phases
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_history_and_webhook_tell_the_same_story_of_a_swap() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    let (hook_port, mut told) = hook().await;
    let port = free_ports(1)[0];
    host.set_supervisor_config(&format!(
        "[metrics]\nlisten = \"127.0.0.1:{port}\"\n[webhook]\nurl = \"http://127.0.0.1:{hook_port}/\"\n"
    ));
    host.start().await;
    let traffic = site.passing_load(20);
    traffic.flows(50).await;
    let next = another_lb(host.path(), "next");
    let outcome = host.upgrade(&next, &["--bake", "1200ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let generation = host.incumbent().await.generation;
    let series = format!("supervisor_generation_accepted_total{{generation=\"{generation}\"}} ");
    wait::until(
        "the new generation's series",
        Duration::from_secs(10),
        || async {
            let text = get(port, "/metrics").await;
            let value = text.lines().find_map(|line| line.strip_prefix(&series))?;
            (value.parse::<u64>().expect("a number") > 0).then_some(())
        },
    )
    .await;
    let drained = wait::until("the old one is gone", Duration::from_secs(20), || async {
        let history = host.client().history().await.expect("history");
        history.into_iter().find(|entry| entry.event == "drained")
    })
    .await;
    traffic.finish_clean().await;
    let outcomes = drained.outcomes.expect("outcomes");
    assert_eq!(
        (drained.generation, outcomes.cut),
        (Some(generation - 1), 0)
    );

    let text = get(port, "/metrics").await;
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    let finished = format!("{{outcome=\"finished\"}} {}", outcomes.drained);
    for line in ["supervisor_swaps_total{verdict=\"committed\"} 1", &finished] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    for name in ["cpu_seconds_total", "resident_bytes", "open_descriptors"] {
        let series = format!("supervisor_generation_{name}{{generation=\"{generation}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        let value: f64 = value.expect(name).parse().expect("a number");
        assert!(value > 0.0, "{name}");
    }
    assert!(get(port, "/").await.starts_with("HTTP/1.1 404"));

    let history = host.client().history().await.expect("history");
    let swap = history
        .iter()
        .find(|entry| entry.event == "upgrade")
        .expect("the swap");
    assert_phases(swap);

    for expected in ["\"notice\":\"start\"", "\"notice\":\"commit\""] {
        let body = tokio::time::timeout(Duration::from_secs(10), told.recv()).await;
        let body = body.expect("told in time").expect("a body");
        assert!(body.contains(expected), "{body}");
    }
    assert_eq!(host.stop().await, Some(0));
}
