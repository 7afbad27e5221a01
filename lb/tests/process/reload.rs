//! SIGHUP: all or nothing.

use rustix::process::Signal;

use crate::origin::{Client, Origin};
use crate::worker::{ConfigFile, Worker, until};

fn config(listeners: &[&str], algorithm: &str, backend: &str) -> String {
    let mut text = "[admin]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    for name in listeners {
        text += &format!(
            "[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\nupstream = \"app\"\nsockets = 4\n"
        );
    }
    text + &format!("[upstream.app]\nalgorithm = \"{algorithm}\"\nbackends = [\"{backend}\"]\n")
}

fn sockets(worker: &Worker) -> String {
    worker.get_json("/health")["listeners"].to_string()
}

#[test]
fn a_good_configuration_is_put_in_force_without_closing_a_connection() {
    let (a, b) = (Origin::start('a'), Origin::start('b'));
    let file = ConfigFile::new(&config(&["web"], "round-robin", &a.address()));
    let worker = Worker::configured(&file.path());
    let web = worker.address("web");
    let mut held = Client::connect(web);
    file.write(&config(&["web", "more"], "maglev", &b.address()));
    worker.signal(Signal::HUP);
    worker.line(&["the configuration was reloaded"]);
    let more = worker.address("more");
    held.echo("still the same connection");
    assert_eq!(held.origin, 'a');
    assert_eq!(
        Client::connect(web).origin,
        'b',
        "the same socket, the other backend"
    );
    assert_eq!(
        Client::connect(more).origin,
        'b',
        "the new listener accepts"
    );
    assert_eq!(worker.get_json("/api/v1/config")["algorithm"], "maglev");
    file.write(&config(&["more"], "maglev", &b.address()));
    worker.signal(Signal::HUP);
    until("the removed listener refuses", || {
        std::net::TcpStream::connect(web).is_err()
    });
    Client::connect(more).echo("the other one stays");
    held.echo("and so does a connection of the removed one");
}

#[test]
fn a_bad_configuration_changes_nothing_and_says_what_is_wrong() {
    let origin = Origin::start('a');
    let file = ConfigFile::new(&config(&["web"], "round-robin", &origin.address()));
    let worker = Worker::configured(&file.path());
    let web = worker.address("web");
    let before = sockets(&worker);
    file.write(&config(&["web", "more"], "round-robbin", &origin.address()));
    worker.signal(Signal::HUP);
    worker.line(&[
        "lb.toml:14:1: upstream.app.algorithm",
        "did you mean \"round-robin\"?",
    ]);
    worker.line(&["the configuration was not reloaded"]);
    assert_eq!(sockets(&worker), before);
    assert_eq!(
        worker.get_json("/api/v1/config")["algorithm"],
        "round-robin"
    );
    Client::connect(web).echo("goes on");
}

#[test]
fn a_listener_that_cannot_be_bound_refuses_the_whole_reload() {
    let origin = Origin::start('a');
    let right = config(&["web"], "round-robin", &origin.address());
    let file = ConfigFile::new(&right);
    let worker = Worker::configured(&file.path());
    worker.address("web");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("bound");
    file.write(&format!(
        "{}[[listener]]\nname = \"other\"\naddress = \"{address}\"\nupstream = \"app\"\n",
        right.replace("round-robin", "maglev")
    ));
    worker.signal(Signal::HUP);
    worker.line(&[&format!("{address} is in use")]);
    worker.line(&["the configuration was not reloaded"]);
    assert_eq!(
        worker.get_json("/api/v1/config")["algorithm"],
        "round-robin"
    );
}

#[test]
fn a_renamed_listener_keeps_its_socket() {
    let origin = Origin::start('a');
    let file = ConfigFile::new(&config(&["web"], "round-robin", &origin.address()));
    let worker = Worker::configured(&file.path());
    let web = worker.address("web");
    let renamed = config(&["www"], "round-robin", &origin.address());
    file.write(&renamed.replacen(
        "name = \"www\"\naddress = \"127.0.0.1:0\"",
        &format!("name = \"www\"\naddress = \"{web}\""),
        1,
    ));
    worker.signal(Signal::HUP);
    worker.line(&["listener www keeps the sockets of web"]);
    assert_eq!(worker.address("www"), web);
    Client::connect(web).echo("nobody noticed");
}

#[test]
fn a_listener_that_moves_is_bound_anew_and_its_former_address_refuses() {
    let origin = Origin::start('a');
    let text = config(&["web"], "round-robin", &origin.address());
    let file = ConfigFile::new(&text);
    let worker = Worker::configured(&file.path());
    let before = worker.address("web");
    let mut held = Client::connect(before);
    let moved = "name = \"web\"\naddress = \"127.0.0.2:0\"";
    file.write(&text.replace("name = \"web\"\naddress = \"127.0.0.1:0\"", moved));
    worker.signal(Signal::HUP);
    let line = worker.line(&["accepting", "listener=web ", "127.0.0.2"]);
    let after = line.rsplit("address=").next().expect("an address").trim();
    Client::connect(after.parse().expect("an address")).echo("hello");
    held.echo("a connection of the former address goes on");
    until("the former address refuses", || {
        std::net::TcpStream::connect(before).is_err()
    });
}

#[test]
fn what_only_a_restart_can_change_is_said_and_kept() {
    let origin = Origin::start('a');
    let text = config(&["web"], "round-robin", &origin.address());
    let file = ConfigFile::new(&text);
    let worker = Worker::configured(&file.path());
    worker.address("web");
    file.write(&format!(
        "workers = 7\n{}",
        text.replace("sockets = 4", "sockets = 8")
    ));
    worker.signal(Signal::HUP);
    worker.line(&["`workers` changes with the next upgrade or restart"]);
    worker.line(&["`sockets` changes with the next restart", "listener=web"]);
    worker.line(&["the configuration was reloaded"]);
    let shown = worker.get_json("/api/v1/config");
    assert_eq!(
        (&shown["workers"], &shown["listener"][0]["sockets"]),
        (&0.into(), &4.into())
    );
}
