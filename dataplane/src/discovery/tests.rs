//! Discovery against an operator in this process: what is delivered, when, and what survives its absence.

mod operator;

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::ask::{ANSWER_BYTES_MAX, AskError, ask};
use super::{Discovered, Discovery, DiscoverySettings, DiscoveryState, parse_backends};
use operator::{Operator, Reply};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

const ONE: &str = r#"[{"address": "127.0.0.1:9001"}]"#;
const TWO: &str = r#"[{"address": "127.0.0.1:9001"}, {"address": "127.0.0.1:9002"}]"#;

fn set(answer: &str) -> Vec<Discovered> {
    parse_backends(answer.as_bytes()).expect("a set")
}

/// A discovery and what it delivers.
struct Watched {
    discovery: Discovery,
    delivered: mpsc::UnboundedReceiver<Vec<Discovered>>,
}

impl Watched {
    fn start(operator: &Operator, cache: Option<&Path>) -> Self {
        let (sender, delivered) = mpsc::unbounded_channel();
        let settings = DiscoverySettings {
            url: operator.url(),
            interval: Duration::from_millis(20),
            cache: cache.map(Path::to_owned),
        };
        let deliver = move |set| {
            let _ = sender.send(set);
        };
        Self {
            discovery: Discovery::start(settings, deliver),
            delivered,
        }
    }

    async fn next(&mut self) -> Vec<Discovered> {
        let next = timeout(PATIENCE, self.delivered.recv()).await;
        next.expect("nothing is delivered")
            .expect("discovery goes on")
    }

    fn has_nothing(&mut self) -> bool {
        self.delivered.try_recv().is_err()
    }

    async fn first_round(&self) {
        timeout(PATIENCE, self.discovery.first_round())
            .await
            .expect("a first round");
    }

    async fn state_where(
        &self,
        what: &str,
        holds: impl Fn(&DiscoveryState) -> bool,
    ) -> DiscoveryState {
        let watching = async {
            loop {
                let state = self.discovery.state();
                if holds(&state) {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, watching)
            .await
            .unwrap_or_else(|_| panic!("{what}: {:?}", self.discovery.state()))
    }
}

#[tokio::test]
async fn a_set_is_delivered_when_it_changes_and_unchanged_ones_are_asked_for_by_tag() {
    let operator = Operator::start(Reply::tagged(ONE, "\"v1\""));
    let mut watched = Watched::start(&operator, None);
    assert_eq!(watched.next().await, set(ONE));
    watched.first_round().await;
    operator.asked(3).await;
    assert_eq!(
        operator.tags(3),
        [None, Some("\"v1\"".to_owned()), Some("\"v1\"".to_owned())]
    );
    assert!(operator.unchanged() > 0, "it answered 304");
    assert!(watched.has_nothing(), "nothing changed");
    operator.say(Reply::tagged(TWO, "W/\"v2\""));
    assert_eq!(watched.next().await, set(TWO));
    let state = watched.discovery.state();
    assert_eq!(
        (state.backends, state.last_error, state.from_disk),
        (Some(2), None, false)
    );
    assert!(state.last_success.is_some());
}

#[tokio::test]
async fn an_operator_without_tags_does_not_cause_deliveries_either() {
    let operator = Operator::start(Reply::ok(ONE));
    let mut watched = Watched::start(&operator, None);
    assert_eq!(watched.next().await, set(ONE));
    operator.asked(4).await;
    assert!(watched.has_nothing());
    assert_eq!(operator.tags(4), [None, None, None, None]);
}

#[tokio::test]
async fn bad_answers_are_reported_and_take_nothing_away() {
    let too_large = format!("[{}]", " ".repeat(ANSWER_BYTES_MAX));
    let operator = Operator::start(Reply::ok(ONE));
    let mut watched = Watched::start(&operator, None);
    assert_eq!(watched.next().await, set(ONE));
    for (reply, words) in [
        (Reply::status(500, TWO), "answered 500"),
        (Reply::status(404, TWO), "answered 404"),
        (Reply::status(302, TWO), "answered 302"),
        (Reply::status(204, ""), "answered 204"),
        (
            Reply::status(304, ""),
            "304 to a question without If-None-Match",
        ),
        (Reply::ok("<html>"), "not JSON"),
        (Reply::ok(""), "not JSON"),
        (Reply::ok("{}"), "neither an array"),
        (
            Reply::ok("[{\"address\": \"127.0.0.1:9001\"}, {\"address\": 1}]"),
            "backend 1",
        ),
        (Reply::ok(&too_large), "larger than 4194304 bytes"),
        (Reply::Raw(b"SSH-2.0-OpenSSH_9.9\r\n"), "not HTTP"),
        (Reply::Raw(b""), "broke off"),
        (
            Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[]"),
            "broke off",
        ),
    ] {
        operator.say(reply);
        let reported = |state: &DiscoveryState| {
            state
                .last_error
                .as_ref()
                .is_some_and(|error| error.contains(words))
        };
        let state = watched.state_where(words, reported).await;
        assert_eq!(state.backends, Some(1), "{words}");
        assert!(watched.has_nothing(), "{words}");
        operator.say(Reply::ok(ONE));
        watched
            .state_where("recovered", |state| state.last_error.is_none())
            .await;
    }
    operator.say(Reply::ok(TWO));
    assert_eq!(watched.next().await, set(TWO));
    operator.say(Reply::ok("[]"));
    assert_eq!(
        watched.next().await,
        [],
        "an explicit empty array is the operator's word"
    );
}

#[tokio::test]
async fn an_operator_that_is_slow_is_given_up_at_the_deadline() {
    let deadline = Duration::from_millis(50);
    let operator = Operator::start(Reply::Silence);
    let answer = ask(&operator.url(), None, deadline).await;
    assert!(matches!(answer, Err(AskError::Late(_))), "{answer:?}");
    // A body that never ends is no better.
    operator.say(Reply::RawThenSilence(
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[]",
    ));
    let answer = ask(&operator.url(), None, deadline).await;
    assert!(matches!(answer, Err(AskError::Late(_))), "{answer:?}");
}

#[tokio::test]
async fn an_operator_that_is_away_at_the_start_is_replaced_by_the_set_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = directory.path().join("backends.json");
    {
        let operator = Operator::start(Reply::ok(TWO));
        let mut watched = Watched::start(&operator, Some(&cache));
        assert_eq!(watched.next().await, set(TWO));
        let written = async {
            while super::cache::read(&cache).expect("a whole file").is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, written)
            .await
            .expect("the set reaches the disk");
    }
    let operator = Operator::away();
    let mut watched = Watched::start(&operator, Some(&cache));
    watched.first_round().await;
    assert_eq!(watched.next().await, set(TWO));
    let state = watched.discovery.state();
    assert!(
        state.from_disk && state.last_success.is_none() && state.backends == Some(2),
        "{state:?}"
    );
    assert!(
        state
            .last_error
            .is_some_and(|error| error.contains("cannot connect to the operator"))
    );
    operator.come(Reply::ok(TWO));
    let state = watched
        .state_where("recovered", |state| state.last_error.is_none())
        .await;
    assert!(!state.from_disk && state.last_success.is_some());
    assert!(
        watched.has_nothing(),
        "the operator confirmed the set that is in force"
    );
    operator.say(Reply::ok(ONE));
    assert_eq!(watched.next().await, set(ONE));
}

#[tokio::test]
async fn the_first_round_ends_without_a_set_when_there_is_none() {
    let directory = tempfile::tempdir().expect("a directory");
    for cache in [None, Some(directory.path().join("absent.json"))] {
        let operator = Operator::away();
        let mut watched = Watched::start(&operator, cache.as_deref());
        watched.first_round().await;
        assert!(watched.has_nothing());
        let state = watched.discovery.state();
        assert_eq!((state.backends, state.cache_error), (None, None));
        operator.come(Reply::ok(ONE));
        assert_eq!(watched.next().await, set(ONE));
    }
}

#[tokio::test]
async fn a_damaged_file_is_reported_ignored_and_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = directory.path().join("backends.json");
    std::fs::write(&cache, "{\"version\":1,\"backends\":[{\"addr").expect("written");
    let operator = Operator::away();
    let mut watched = Watched::start(&operator, Some(&cache));
    watched.first_round().await;
    assert!(watched.has_nothing());
    let state = watched.discovery.state();
    assert!(
        state
            .cache_error
            .is_some_and(|error| error.contains("damaged"))
    );
    operator.come(Reply::ok(ONE));
    assert_eq!(watched.next().await, set(ONE));
    watched
        .state_where("replaced", |state| state.cache_error.is_none())
        .await;
    assert_eq!(
        super::cache::read(&cache).expect("whole again"),
        Some(set(ONE))
    );
}

#[tokio::test]
async fn a_disk_that_takes_nothing_delays_nobody_and_is_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    let operator = Operator::start(Reply::ok(ONE));
    let mut watched = Watched::start(
        &operator,
        Some(&directory.path().join("absent/backends.json")),
    );
    assert_eq!(watched.next().await, set(ONE));
    watched
        .state_where("reported", |state| state.cache_error.is_some())
        .await;
    operator.say(Reply::ok(TWO));
    assert_eq!(watched.next().await, set(TWO), "discovery goes on");
}

#[tokio::test]
async fn dropping_it_stops_it() {
    let operator = Operator::start(Reply::ok(ONE));
    let Watched {
        discovery,
        mut delivered,
    } = Watched::start(&operator, None);
    discovery.first_round().await;
    drop(discovery);
    let ended = async { while delivered.recv().await.is_some() {} };
    timeout(PATIENCE, ended)
        .await
        .expect("the callback is dropped with the task");
}
