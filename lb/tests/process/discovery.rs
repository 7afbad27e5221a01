//! Backends that the operator knows.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use crate::origin::{Client, Origin};
use crate::worker::{Worker, lb, until};

/// Answers `GET /api/v1/backends` with what it was told last; `None`: closes the connection.
struct Operator {
    url: String,
    answer: Arc<Mutex<Option<String>>>,
}

impl Operator {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let answer = Arc::new(Mutex::new(None));
        let told = Arc::clone(&answer);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let body: Option<String> = told.lock().expect("no panic").clone();
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                if let Some(body) = body {
                    let length = body.len();
                    let _ = write!(
                        stream,
                        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                }
            }
        });
        Self { url, answer }
    }

    fn tell(&self, backends: Option<&[(&str, &str)]>) {
        let object =
            |(id, address): &(&str, &str)| serde_json::json!({ "id": id, "address": address });
        let answer = backends.map(|all| all.iter().map(object).collect::<Vec<_>>());
        *self.answer.lock().expect("no panic") =
            answer.map(|list| serde_json::json!(list).to_string());
    }
}

fn started(operator: &Operator, state: &std::path::Path) -> Worker {
    let file = state.join("lb.toml");
    let text = "[admin]\nlisten = \"127.0.0.1:0\"\n[discovery]\noperator_url = \"http://127.0.0.1:1\"\ninterval = \"100ms\"\n\
                [[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nupstream = \"app\"\n[upstream.app]\n";
    std::fs::write(&file, text).expect("is written");
    Worker::start(
        lb().args(["run", "--config"])
            .arg(file)
            .env("OPERATOR_URL", &operator.url)
            .env("STATE_DIRECTORY", state),
    )
}

#[test]
fn backends_come_and_go_as_the_operator_says() {
    let (a, b) = (Origin::start('a'), Origin::start('b'));
    let operator = Operator::start();
    operator.tell(Some(&[("one", &a.address())]));
    let state = tempfile::tempdir().expect("a directory");
    let worker = started(&operator, state.path());
    let web = worker.address("web");
    let mut held = Client::connect(web);
    assert_eq!(held.origin, 'a');
    operator.tell(Some(&[("two", &b.address())]));
    until("the new backend is used", || {
        Client::connect(web).origin == 'b'
    });
    held.echo("a backend that left keeps its connections");
    let backends = worker.get_json("/api/v1/backends");
    assert_eq!(
        (&backends[0]["id"], &backends[0]["status"]),
        (&"two".into(), &"unchecked".into())
    );
    assert_eq!(
        (&backends[1]["id"], &backends[1]["status"]),
        (&"one".into(), &"removed".into())
    );
    assert_eq!(backends[1]["connections"], 1);
    drop(held);
    until(
        "a backend that left is forgotten with its last connection",
        || worker.get_json("/api/v1/backends").as_array().map(Vec::len) == Some(1),
    );
}

#[test]
fn the_last_good_set_is_used_while_the_operator_is_away() {
    let origin = Origin::start('a');
    let operator = Operator::start();
    operator.tell(Some(&[("one", &origin.address())]));
    let state = tempfile::tempdir().expect("a directory");
    let first = started(&operator, state.path());
    Client::connect(first.address("web")).echo("hello");
    until("the set is on disk", || {
        state.path().join("discovered-backends.json").exists()
    });
    operator.tell(None);
    until("the operator is noticed to be away", || {
        first.get_json("/health")["discovery"]["last_error"].is_string()
    });
    Client::connect(first.address("web")).echo("nothing is taken away");
    drop(first);
    let second = started(&operator, state.path());
    Client::connect(second.address("web")).echo("from disk");
    assert_eq!(second.get_json("/health")["discovery"]["from_disk"], true);
}

#[test]
fn flags_and_an_operator_are_enough() {
    let origin = Origin::start('a');
    let operator = Operator::start();
    operator.tell(Some(&[("one", &origin.address())]));
    let arguments = ["run", "--listen", "127.0.0.1:0"];
    let worker = Worker::start(lb().args(arguments).env("OPERATOR_URL", &operator.url));
    Client::connect(worker.address("main")).echo("hello");
}
