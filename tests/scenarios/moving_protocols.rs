//! Sessions of real protocols through `lb` across twenty swaps: each is the same session at its end.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::clients::{Origin, Talk, python};
use harness::host::Host;
use harness::ports::free_ports;
use harness::successors::another_lb;
use harness::{binaries, wait};

use crate::real_peers::{Running, output, postgresql, program, redis, run};

const SWAPS: u32 = 20;

/// How long a server may take to answer its first client.
const DEADLINE: Duration = Duration::from_secs(30);

/// `lb` with one listener for each of these backends.
fn config(ports: &[(u16, u16)]) -> String {
    let mut text = String::new();
    for (name, (listener, backend)) in ports.iter().enumerate() {
        write!(
            text,
            "[[listener]]\nname = \"l{name}\"\naddress = \"127.0.0.1:{listener}\"\nupstream = \"u{name}\"\n\
             [upstream.u{name}]\nbackends = [\"127.0.0.1:{backend}\"]\n"
        )
        .expect("to a string");
    }
    text
}

/// An SSH server that serves one key and touches nothing of the host: its home is a file system of its own.
fn ssh_server(scratch: &Path, port: u16) -> Running {
    let (host_key, key) = (scratch.join("host_key"), scratch.join("key"));
    let made = Command::new(program(&["/usr/bin/dropbearkey"]))
        .args(["-t", "ed25519", "-f"])
        .arg(&host_key)
        .output();
    assert!(made.expect("runs").status.success(), "dropbearkey");
    let made = Command::new(program(&["/usr/bin/ssh-keygen"]))
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.expect("runs").success(), "ssh-keygen");
    let script = "mount -t tmpfs -o mode=700 none /root && mkdir -m 700 /root/.ssh && cp \"$1.pub\" /root/.ssh/authorized_keys && \
                  exec \"$2\" -F -E -s -m -P \"$3.pid\" -r \"$3\" -p \"127.0.0.1:$4\"";
    run(Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(&key)
        .arg(program(&["/usr/sbin/dropbear"]))
        .arg(&host_key)
        .arg(port.to_string()))
}

fn ssh(scratch: &Path, port: u16) -> Talk {
    let mut command = Command::new(program(&["/usr/bin/ssh"]));
    command
        .args([
            "-tt",
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
        ])
        .args([
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "ConnectTimeout=10",
            "-i",
        ])
        .arg(scratch.join("key"))
        .args(["-p", &port.to_string(), "root@127.0.0.1", "sh"]);
    Talk::start(&mut command)
}

/// The shell's own.
fn number_of(shell: &mut Talk) -> String {
    let line = shell.line_with("shell-is:");
    let (_, number) = line.split_once("shell-is:").expect("it is there");
    number.to_owned()
}

/// A client that stays subscribed; a connection that ends is an error, never a second one.
struct Subscriber(BufReader<TcpStream>);

impl Subscriber {
    fn subscribe(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(b"SUBSCRIBE news\r\n").expect("is sent");
        let mut subscriber = Self(BufReader::new(stream));
        subscriber.hears(&["subscribe", "news", ":1"]);
        subscriber
    }

    /// The words of the next message; lengths are left out.
    fn hears(&mut self, words: &[&str]) {
        for word in words {
            let mut line = String::new();
            loop {
                line.clear();
                assert!(
                    self.0.read_line(&mut line).expect("no reset") > 0,
                    "it ended before {word}"
                );
                if !line.starts_with(['*', '$']) {
                    break;
                }
            }
            assert_eq!(line.trim_end(), *word);
        }
    }
}

/// A transaction with a prepared statement and a COPY that goes on.
struct Transaction(Talk);

impl Transaction {
    fn begin(psql: &Path, url: &str) -> Self {
        let mut command = Command::new(psql);
        command.args([url, "-AtqX", "-v", "ON_ERROR_STOP=1"]);
        let mut talk = Talk::start(&mut command);
        talk.say(
            "create temp table t(a int) on commit preserve rows;\n\
             prepare p as select 'p ' || count(*) || ' ' || sum(a) from t where a <= $1;\n\
             begin;\nselect 'session ' || pg_backend_pid() || ' ' || txid_current();\n",
        );
        Self(talk)
    }

    fn session(&mut self) -> String {
        self.0.line_with("session ")
    }
}

/// One of each.
struct Sessions {
    transaction: Transaction,
    session: String,
    news: Subscriber,
    publish: (PathBuf, String),
    shell: Talk,
    shell_is: String,
    websocket: Talk,
    grpc: Talk,
}

impl Sessions {
    /// Through these listeners, whose servers answer by now.
    fn open(scratch: &Path, psql: &Path, url: &str, listeners: &[u16]) -> Self {
        let mut transaction = Transaction::begin(psql, url);
        let session = transaction.session();
        transaction.0.say("copy t from stdin;\n");
        let mut shell = ssh(scratch, listeners[2]);
        // The terminal repeats what is typed: the quotes tell the answer from it.
        shell.say("n=0; echo shell''-is:$$\n");
        let shell_is = number_of(&mut shell);
        let mut client = python("websocket_client.py");
        let mut websocket = Talk::start(client.args(["tunnel", &listeners[3].to_string(), "-"]));
        websocket.line_with("ready");
        let mut client = python("grpc_client.py");
        let mut grpc = Talk::start(client.args(["tunnel", &listeners[4].to_string()]));
        grpc.line_with("ready");
        Self {
            transaction,
            session,
            news: Subscriber::subscribe(listeners[1]),
            publish: (program(&["/usr/bin/redis-cli"]), listeners[1].to_string()),
            shell,
            shell_is,
            websocket,
            grpc,
        }
    }

    /// Each speaks in each generation.
    fn speak(&mut self, swap: u32) {
        self.transaction.0.say(&format!("{swap}\n"));
        let word = format!("swap{swap}");
        let (cli, port) = &self.publish;
        output(cli, &["-p", port, "publish", "news", &word]).expect("published");
        self.news.hears(&["message", "news", &word]);
        self.shell.say("n=$((n+1)); echo swaps $n\n");
        self.shell.line_with(&format!("swaps {swap}"));
        self.websocket.say("across a swap\n");
        self.websocket.line_with("ok");
        self.grpc.say("across a swap\n");
        self.grpc.line_with(&format!("ok {}", swap - 1));
    }

    fn close(mut self) {
        let talk = &mut self.transaction.0;
        talk.say("\\.\nexecute p(1000);\nselect 'session ' || pg_backend_pid() || ' ' || txid_current();\n");
        let sum: u32 = (1..=SWAPS).sum();
        assert_eq!(talk.line_with("p "), format!("p {SWAPS} {sum}"));
        assert_eq!(
            self.transaction.session(),
            self.session,
            "another session or transaction"
        );
        let mut talk = self.transaction.0;
        talk.say("commit;\nselect 'rows ' || count(*) from t;\n");
        talk.line_with(&format!("rows {SWAPS}"));
        talk.finish();
        self.shell.say("echo shell''-is:$$; exit\n");
        assert_eq!(number_of(&mut self.shell), self.shell_is);
        self.shell.finish();
        let said = self.grpc.finish();
        assert!(
            said.contains(&format!("{SWAPS} messages on one stream")),
            "{said}"
        );
        self.websocket.finish();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_real_protocols_are_the_same_after_twenty_swaps() {
    let scratch = tempfile::tempdir().expect("scratch");
    let ports = free_ports(8);
    let (listeners, servers) = ports.split_at(5);
    let python_origin = Origin::start();
    let _postgresql = postgresql(scratch.path(), servers[0]);
    let _redis = redis(scratch.path(), servers[1]);
    let _ssh = ssh_server(scratch.path(), servers[2]);
    let others = [python_origin.websocket, python_origin.grpc];
    let backends = servers.iter().copied().chain(others);
    let pairs: Vec<_> = listeners.iter().copied().zip(backends).collect();
    let mut host = Host::with_lb(&config(&pairs));
    host.set_supervisor_config("self_test = false\n");
    host.start().await;
    let psql = program(&["/usr/bin/psql"]);
    let at = listeners[0];
    let url = format!("postgresql://postgres@127.0.0.1:{at}/postgres?connect_timeout=2");
    wait::until("postgresql", DEADLINE, || async {
        output(&psql, &[&url, "-Atqc", "select 1"])
    })
    .await;
    let cli = program(&["/usr/bin/redis-cli"]);
    let redis_port = listeners[1].to_string();
    wait::until("redis", DEADLINE, || async {
        output(&cli, &["-p", &redis_port, "ping"])
    })
    .await;

    let mut sessions = Sessions::open(scratch.path(), &psql, &url, listeners);
    let first = host.incumbent().await.pid;
    let other = another_lb(host.path(), "other");
    let original = binaries::find("lb");
    for swap in 1..=SWAPS {
        let binary = if swap % 2 == 1 { &other } else { &original };
        let outcome = host.upgrade(binary, &["--bake", "0s"]).await;
        assert_eq!(outcome.code, 0, "{}", outcome.output);
        sessions.speak(swap);
        host.status_where("one generation", |status| status.generations.len() == 1)
            .await;
    }
    assert!(
        !harness::proc::is_alive(first),
        "the first generation is gone"
    );
    sessions.close();
}
