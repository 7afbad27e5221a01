//! Today's code on either side of a conversation: the supervisor's by a script of orders and facts, the
//! worker's by its plan. The only file here that names the interface of the crate under test.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use handoff::link::{Channel, Link};
use handoff::supervisor::{Fact, Offer, Order, converse, greet, refuse};
use handoff::worker::{Command, Conversation as Talk, Identity, Report, Session, Stats};
use handoff::{ListenerName, Listeners, STATE_BYTES_MAX, Sealed, Share, TicketKeys};
use tokio::sync::mpsc;

use crate::conversations::{Conversation, Plan, State};
use crate::wire::DEADLINE;

fn listeners(groups: &[(&str, usize)]) -> Listeners {
    let mut listeners = Listeners::new();
    for (name, count) in groups {
        let members = (0..*count)
            .map(|_| OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("binds")))
            .collect();
        listeners.insert(named(name), members);
    }
    listeners
}

fn named(name: &str) -> ListenerName {
    name.parse().expect("a name")
}

fn keys(count: u8) -> TicketKeys {
    let mut keys = TicketKeys::default();
    for byte in 1..=count {
        keys.rotate([byte; 32], 3);
    }
    keys
}

fn words<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| format!(" {}", item.to_string()))
        .collect()
}

fn groups(listeners: &Listeners) -> String {
    words(
        listeners
            .iter()
            .map(|(name, members)| format!("{name}={}", members.len())),
    )
}

/// One life of a supervisor: its script, to the end or to the first fact that is another.
pub(crate) async fn supervisor(
    channel: Channel,
    plan: &Plan,
    script: &[&str],
    rendezvous: &Path,
) -> Result<(), String> {
    let mut link = Link::new(channel).map_err(|error| error.to_string())?;
    let hello = greet(&mut link).await.map_err(|error| error.to_string())?;
    if let Some(reason) = plan.refused {
        refuse(&mut link, reason.to_owned()).await;
        return Ok(());
    }
    let is_returning = hello.returning.is_some();
    let offer = Offer {
        generation: 7,
        token: "secret".to_owned(),
        rendezvous: rendezvous.display().to_string(),
        listeners: listeners(if is_returning { &[] } else { plan.handed }),
        ticket_keys: keys(1),
    };
    let (facts_in, mut facts) = mpsc::unbounded_channel();
    let (orders, orders_out) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        converse(link, &hello, offer, orders_out, |fact| {
            let _ = facts_in.send(fact_word(fact));
        })
        .await;
    });
    let mut outcome = Ok(());
    for step in script {
        if let Some(order) = step.strip_prefix("> ") {
            let _ = orders.send(order_of(order));
            continue;
        }
        let fact = tokio::time::timeout(DEADLINE, facts.recv()).await;
        let fact = fact.ok().flatten().unwrap_or_else(|| "nothing".to_owned());
        if fact != *step {
            outcome = Err(format!("the supervisor learnt {fact:?}, due was {step:?}"));
            break;
        }
    }
    task.abort();
    let _ = task.await;
    outcome
}

fn order_of(word: &str) -> Order {
    match word {
        "resume" => Order::Accept(Share::ALL),
        "pause" => Order::Accept(Share::NONE),
        "drain" => Order::Drain {
            within: Duration::from_secs(90),
        },
        "reload" => Order::Reload,
        "shutdown" => Order::Shutdown,
        "keys" => Order::TicketKeys(keys(2)),
        "share-state" => Order::ShareState,
        "give-state" => Order::GiveState(Sealed::seal(b"counts").expect("memory")),
        other => panic!("no order: {other}"),
    }
}

fn fact_word(fact: Fact) -> String {
    match fact {
        Fact::Bound(listeners) => format!("bound{}", groups(&listeners)),
        Fact::Released(names) => format!("released{}", words(names)),
        Fact::Ready { unclaimed, .. } => format!("ready{}", words(unclaimed)),
        Fact::Failed(reason) => format!("failed {reason}"),
        Fact::Accepting(share) if share.is_all() => "accepting true".to_owned(),
        Fact::Accepting(share) if share.is_none() => "accepting false".to_owned(),
        Fact::Accepting(share) => format!("accepting {share}"),
        Fact::Stats(stats) => format!("stats {} of {}", stats.connections, stats.accepted_total),
        Fact::Reloaded(mistakes) => format!("reloaded {}", mistakes.join("; "))
            .trim_end()
            .to_owned(),
        Fact::State(Ok(Some(state))) => {
            let bytes = state.read().expect("reads");
            format!("state {}", String::from_utf8_lossy(&bytes))
        }
        Fact::State(Ok(None)) => "state: nothing".to_owned(),
        Fact::State(Err(reason)) => format!("state missing: {reason}"),
        Fact::Moved(moved) => format!("moved {} of {:?}", moved.moved, moved.kept),
        Fact::Drained { finished, cut, .. } => format!("drained {finished} {cut}"),
        Fact::Lost(reason) => format!("lost: {reason}"),
    }
}

/// A worker's whole life; what it was told.
pub(crate) async fn worker(channel: Channel, conversation: &Conversation) -> Vec<String> {
    let plan = &conversation.plan;
    let identity = Identity {
        service: "load-balancer".to_owned(),
        version: "1.2.3".to_owned(),
        moves: false,
    };
    let (mut session, handed) = match Session::open(channel, &identity).await {
        Ok(opened) => opened,
        Err(error) => return vec![error.to_string()],
    };
    let told = vec![format!(
        "generation {}, {} keys,{}",
        session.generation(),
        session.ticket_keys().as_slice().len(),
        groups(&handed)
    )];
    if let Some(reason) = plan.fails {
        session.fail(reason.to_owned()).await;
        return told;
    }
    if let Err(error) = session.offer(listeners(plan.bound)).await {
        return vec![error.to_string()];
    }
    let unclaimed = plan.unclaimed.iter().map(|name| named(name)).collect();
    let talk = session.ready(unclaimed, Vec::new(), Box::new(move || handed.try_clone()));
    obey(talk, plan, told).await
}

async fn obey(mut talk: Talk, plan: &Plan, mut told: Vec<String>) -> Vec<String> {
    let mut reloads = 0;
    loop {
        let command = tokio::time::timeout(DEADLINE, talk.commands.recv()).await;
        let Some(command) = command.unwrap_or_else(|_| panic!("no command after {told:?}")) else {
            return told;
        };
        told.push(command_word(&command));
        let reports = match command {
            Command::Accept(share) if !share.is_none() => {
                vec![accepting(true), Report::Stats(stats())]
            }
            Command::Accept(_) => vec![accepting(false)],
            Command::Drain { .. } => vec![Report::Drained {
                finished: 7,
                cut: 1,
                moved: 0,
            }],
            Command::Reload => {
                reloads += 1;
                reloaded(reloads)
            }
            Command::ShareState => vec![Report::State(match plan.state {
                State::Nothing => Vec::new(),
                State::Text(text) => text.as_bytes().to_vec(),
                State::TooLong => vec![0; STATE_BYTES_MAX + 1],
            })],
            _ => Vec::new(),
        };
        for report in reports {
            let _ = talk.reports.send(report);
        }
        if told.last().is_some_and(|last| last == "shutdown") {
            talk.close(DEADLINE).await;
            return told;
        }
    }
}

fn accepting(on: bool) -> Report {
    Report::Accepting(if on { Share::ALL } else { Share::NONE })
}

fn reloaded(times: u32) -> Vec<Report> {
    let mistakes = ["line 3: no such upstream", "line 5: no address"];
    match times {
        1 => vec![
            Report::Bound(listeners(&[("added", 1)])),
            Report::Released(vec![named("http")]),
            Report::Reloaded(Ok(())),
        ],
        _ => vec![Report::Reloaded(Err(mistakes.map(str::to_owned).to_vec()))],
    }
}

/// By its form in a message: fields that a later version adds are left at their default.
fn stats() -> Stats {
    serde_json::from_value(serde_json::json!({
        "connections": 5,
        "accepted_total": 9,
        "errors_total": 1,
        "bytes_total": 1_000,
        "healthy_backends": 2,
        "total_backends": 3,
        "status": "serving",
    }))
    .expect("numbers")
}

fn command_word(command: &Command) -> String {
    match command {
        Command::Accept(share) if share.is_all() => "resume".to_owned(),
        Command::Accept(share) if share.is_none() => "pause".to_owned(),
        Command::Accept(share) => format!("accept {share}"),
        Command::Serve { listener, .. } => format!("serve {listener}"),
        Command::Drain { within } => format!("drain {within:?}"),
        Command::Give { percent, .. } => format!("give {percent} %"),
        Command::Take(_) => "take".to_owned(),
        Command::Reload => "reload".to_owned(),
        Command::Shutdown => "shutdown".to_owned(),
        Command::TicketKeys(keys) => format!("{} keys", keys.as_slice().len()),
        Command::ShareState => "share-state".to_owned(),
        Command::State(bytes) => format!("state {}", String::from_utf8_lossy(bytes)),
        Command::StateRefused(reason) => format!("state refused: {reason}"),
    }
}
