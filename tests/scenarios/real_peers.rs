//! `lb` by itself in front of real servers from Debian: nginx, Redis, PostgreSQL.
//!
//! `scripts/setup` (make test) installs them; a test says so when one is missing.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::ports::free_ports;
use harness::{binaries, wait};

/// How long a real server may take to answer its first client.
const DEADLINE: Duration = Duration::from_secs(30);

/// A process that ends with the test.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM first: PostgreSQL and nginx end their children themselves.
        harness::proc::signal(self.0.id(), rustix::process::Signal::TERM);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while std::time::Instant::now() < deadline {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::yield_now();
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn program(names: &[&str]) -> PathBuf {
    let found = names.iter().map(PathBuf::from).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{names:?} is missing: run scripts/setup (make test does)"))
}

pub(crate) fn run(command: &mut Command) -> Running {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running(child.expect("starts"))
}

/// `lb run --listen … --backend … --backend …`, as a person would type it.
fn lb(port: u16, backends: &[u16]) -> Running {
    let mut command = Command::new(binaries::find("lb"));
    command.args(["run", "--listen", &format!("127.0.0.1:{port}")]);
    for backend in backends {
        command.args(["--backend", &format!("127.0.0.1:{backend}")]);
    }
    run(&mut command)
}

pub(crate) fn output(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_balances_two_real_http_servers() {
    let nginx = program(&["/usr/sbin/nginx"]);
    let scratch = tempfile::tempdir().expect("scratch");
    let ports = free_ports(3);
    let mut servers = Vec::new();
    for (name, port) in [("one", ports[1]), ("two", ports[2])] {
        let dir = scratch.path().join(name);
        std::fs::create_dir(&dir).expect("made");
        let config = format!(
            "daemon off; master_process off; error_log stderr; pid {dir}/pid; events {{}}\n\
             http {{ access_log off; client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};\n\
             uwsgi_temp_path {dir}; scgi_temp_path {dir};\n\
             server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"{name}\\n\"; }} }} }}",
            dir = dir.display()
        );
        let path = dir.join("nginx.conf");
        std::fs::write(&path, config).expect("written");
        servers.push(run(Command::new(&nginx).arg("-c").arg(&path)));
    }
    let curl = program(&["/usr/bin/curl"]);
    let answers = |port: u16| {
        let url = format!("http://127.0.0.1:{port}/");
        let answer = output(&curl, &["-sf", "--max-time", "2", &url]);
        async move { answer }
    };
    // Both first: a server that is not up yet at lb's first check is left out until the next ones.
    for port in &ports[1..] {
        wait::until("nginx", DEADLINE, || answers(*port)).await;
    }
    let _lb = lb(ports[0], &ports[1..]);
    let url = format!("http://127.0.0.1:{}/", ports[0]);
    wait::until("nginx through lb", DEADLINE, || answers(ports[0])).await;
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..40 {
        let body = output(&curl, &["-sf", "--max-time", "5", &url]).expect("an answer");
        *counts.entry(body).or_default() += 1;
    }
    assert_eq!(counts.len(), 2, "both answer: {counts:?}");
    assert!(
        counts.values().all(|count| (10..=30).contains(count)),
        "{counts:?}"
    );
}

/// A server that keeps nothing, on that port.
pub(crate) fn redis(scratch: &Path, port: u16) -> Running {
    run(Command::new(program(&["/usr/bin/redis-server"]))
        .current_dir(scratch)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_carries_a_real_redis_session() {
    let cli = program(&["/usr/bin/redis-cli"]);
    let scratch = tempfile::tempdir().expect("scratch");
    let ports = free_ports(2);
    let _redis = redis(scratch.path(), ports[1]);
    let _lb = lb(ports[0], &ports[1..]);
    let port = ports[0].to_string();
    wait::until("redis through lb", DEADLINE, || async {
        output(&cli, &["-p", &port, "ping"]).filter(|answer| answer == "PONG")
    })
    .await;
    // One session: a transaction of several commands on one connection.
    let script = "multi\nset a 1\nincrby a 41\nexec\nget a\n";
    let file = scratch.path().join("script");
    std::fs::write(&file, script).expect("written");
    let answer = Command::new(&cli)
        .args(["-p", &port])
        .stdin(std::fs::File::open(&file).expect("opened"))
        .output()
        .expect("runs");
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.trim_end().ends_with("42"), "{answer}");
}

/// A fresh cluster below `scratch`, on that port. initdb refuses root: everything of the server runs as the
/// package's user.
pub(crate) fn postgresql(scratch: &Path, port: u16) -> Running {
    let bin = std::fs::read_dir("/usr/lib/postgresql")
        .ok()
        .and_then(|versions| {
            versions
                .flatten()
                .map(|entry| entry.path().join("bin"))
                .max()
        })
        .expect("postgresql is missing: run scripts/setup (make test does)");
    let data = scratch.join("data");
    let owner = |program: &Path| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .arg(program)
            .current_dir("/");
        command
    };
    for (tool, flag) in [("chmod", "a+rx"), ("chown", "postgres")] {
        let status = Command::new(tool).arg(flag).arg(scratch).status();
        assert!(status.expect("runs").success(), "{tool}");
    }
    let status = owner(&bin.join("initdb"))
        .args(["--auth=trust", "--username=postgres", "--no-sync", "-D"])
        .arg(&data)
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("runs").success(), "initdb");
    run(owner(&bin.join("postgres"))
        .arg("-D")
        .arg(&data)
        .args(["-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-p"])
        .arg(port.to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_carries_a_real_postgresql_session() {
    let scratch = tempfile::tempdir().expect("scratch");
    let ports = free_ports(2);
    let _server = postgresql(scratch.path(), ports[1]);
    let _lb = lb(ports[0], &ports[1..]);
    let url = format!(
        "postgresql://postgres@127.0.0.1:{}/postgres?connect_timeout=2",
        ports[0]
    );
    let psql = program(&["/usr/bin/psql"]);
    wait::until("postgresql through lb", DEADLINE, || async {
        output(&psql, &[&url, "-Atqc", "select 1"])
    })
    .await;
    // Some megabytes both ways in one session: COPY in, aggregate, and out again.
    let script = "create temp table t(a int, b text);\n\
                  insert into t select g, repeat('x', 100) from generate_series(1, 50000) g;\n\
                  prepare p as select count(*) || ':' || sum(length(b)) from t where a <= $1;\n\
                  begin; execute p(50000); commit;";
    let answer = output(&psql, &[&url, "-Atq", "-c", script]).expect("a session");
    assert_eq!(answer, "50000:5000000");
    let dump = output(&psql, &[&url, "-Atqc", "select repeat('y', 3000000)"]).expect("bulk");
    assert_eq!(dump.len(), 3_000_000);
}
