//! Started by a person in a terminal.

use std::net::TcpListener;

use crate::origin::{Client, Origin};
use crate::worker::{ConfigFile, Worker, lb};

#[test]
fn flags_are_enough_to_balance_two_origins() {
    let (a, b) = (Origin::start('a'), Origin::start('b'));
    let worker = Worker::run(&[
        "--listen",
        "127.0.0.1:0",
        "--backend",
        &a.address(),
        "--backend",
        &b.address(),
    ]);
    let address = worker.address("main");
    let mut seen: Vec<char> = (0..8)
        .map(|round| {
            let mut client = Client::connect(address);
            client.echo(&format!("hello {round}"));
            client.origin
        })
        .collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, ['a', 'b']);
}

#[test]
fn a_backend_that_is_down_costs_no_connection() {
    let up = Origin::start('u');
    let gone = TcpListener::bind("127.0.0.1:0").expect("binds");
    let down = gone.local_addr().expect("bound").to_string();
    drop(gone);
    let worker = Worker::run(&[
        "--listen",
        "127.0.0.1:0",
        "--backend",
        &up.address(),
        "--backend",
        &down,
    ]);
    let address = worker.address("main");
    for _ in 0..10 {
        assert_eq!(Client::connect(address).origin, 'u');
    }
}

#[test]
fn an_address_in_use_is_not_shared_and_the_message_says_who_to_ask() {
    let other = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = other.local_addr().expect("bound");
    let output = lb()
        .args([
            "run",
            "--listen",
            &address.to_string(),
            "--backend",
            "127.0.0.1:1",
        ])
        .output()
        .expect("lb starts");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = format!(
        "{address} is in use; see `ss -ltnp 'sport = :{}'`",
        address.port()
    );
    assert!(told.contains(&expected), "{told}");
}

#[test]
fn a_second_lb_on_the_same_address_is_refused() {
    let origin = Origin::start('a');
    let first = Worker::run(&["--listen", "127.0.0.1:0", "--backend", &origin.address()]);
    let address = first.address("main");
    let output = lb()
        .args([
            "run",
            "--listen",
            &address.to_string(),
            "--backend",
            &origin.address(),
        ])
        .output()
        .expect("lb starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is in use"));
    Client::connect(address).echo("the first one goes on");
}

#[test]
fn variables_override_the_file() {
    let origin = Origin::start('a');
    let file = ConfigFile::new(&format!(
        "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:1\"\nupstream = \"app\"\n\
         [upstream.app]\nbackends = [\"{}\"]\n",
        origin.address()
    ));
    let free = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let worker = Worker::start(
        lb().args(["run", "--config"])
            .arg(file.path())
            .env("PORT", port.to_string())
            .env("ADMIN_LISTEN", "127.0.0.1:0")
            .env("ALGORITHM", "maglev")
            .env("BACKEND_TIMEOUT", "500ms")
            .env("HEALTH_CHECK_INTERVAL", "5"),
    );
    assert_eq!(worker.address("web").port(), port);
    let config = worker.get_json("/api/v1/config");
    assert_eq!(config["algorithm"], "maglev");
    assert_eq!(config["upstream"]["app"]["connect_timeout"], "500ms");
    assert_eq!(config["upstream"]["app"]["health_check"]["interval"], "5s");
}

#[test]
fn the_log_has_no_timestamps_where_the_journal_adds_its_own() {
    let origin = Origin::start('a');
    let arguments = [
        "run",
        "--listen",
        "127.0.0.1:0",
        "--backend",
        &origin.address(),
    ];
    let plain = Worker::start(lb().args(arguments));
    assert!(plain.line(&["accepting"]).starts_with("20"));
    let journal = Worker::start(lb().args(arguments).env("JOURNAL_STREAM", "8:1"));
    assert!(
        journal
            .line(&["accepting"])
            .trim_start()
            .starts_with("INFO")
    );
}
