//! Recorded conversations: the exact bytes of each frame, and what travelled beside it.
//!
//! One line is one frame: who said it, the descriptors, the bytes. A line of dashes is the death of the
//! supervisor; what follows was said to the next one.
//!
//! ```text
//! worker     | -              | {"seq":1,"fds":0,"message":{"type":"hello",…}}
//! supervisor | sockets 3      | {"seq":2,"fds":3,"message":{"type":"listeners",…}}
//! worker     | memory counts  | {"seq":4,"fds":1,"message":{"type":"state","bytes":6}}
//! ```

use std::fmt::Write as _;
use std::path::PathBuf;

/// In a recording, the number of every worker.
pub(crate) const PID: &str = "\"pid\":4711";

/// In a recording, where the next supervisor will listen.
pub(crate) const RENDEZVOUS: &str = "/run/zeitwork/load-balancer/handoff.sock";

const DEATH: &str = "----------";

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Supervisor,
    Worker,
}

/// What travels beside the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Freight {
    Nothing,
    Sockets(usize),
    /// Sealed memory with this text.
    Memory(String),
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) side: Side,
    pub(crate) freight: Freight,
    pub(crate) bytes: String,
}

/// One conversation; more than one part when the supervisor dies within.
pub(crate) type Talk = Vec<Vec<Line>>;

pub(crate) fn path(protocol: u16, name: &str) -> PathBuf {
    let file = format!("tests/golden/v{protocol}/{name}.talk");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)
}

pub(crate) fn load(protocol: u16, name: &str) -> Talk {
    let path = path(protocol, name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    parse(&text)
}

fn parse(text: &str) -> Talk {
    let mut talk = vec![Vec::new()];
    for line in text.lines() {
        if line == DEATH {
            talk.push(Vec::new());
            continue;
        }
        let parts: Vec<&str> = line.splitn(3, '|').map(str::trim).collect();
        let [side, freight, bytes] = parts[..] else {
            panic!("no frame: {line}");
        };
        talk.last_mut().expect("a part").push(Line {
            side: match side {
                "supervisor" => Side::Supervisor,
                "worker" => Side::Worker,
                other => panic!("nobody: {other}"),
            },
            freight: match freight.split_once(' ') {
                None => Freight::Nothing,
                Some(("sockets", count)) => Freight::Sockets(count.parse().expect("a count")),
                Some(("memory", text)) => Freight::Memory(text.to_owned()),
                Some(other) => panic!("no freight: {other:?}"),
            },
            bytes: bytes.to_owned(),
        });
    }
    talk
}

pub(crate) fn print(talk: &Talk) -> String {
    let mut text = String::new();
    for (number, part) in talk.iter().enumerate() {
        if number > 0 {
            writeln!(text, "{DEATH}").expect("to a string");
        }
        for line in part {
            let side = match line.side {
                Side::Supervisor => "supervisor",
                Side::Worker => "worker",
            };
            let freight = match &line.freight {
                Freight::Nothing => "-".to_owned(),
                Freight::Sockets(count) => format!("sockets {count}"),
                Freight::Memory(text) => format!("memory {text}"),
            };
            writeln!(text, "{side:<10} | {freight:<14} | {}", line.bytes).expect("to a string");
        }
    }
    text
}

/// The frames of one side, in order: how the two sides interleave may differ from run to run.
pub(crate) fn said_by(talk: &Talk, side: Side) -> Vec<Vec<Line>> {
    talk.iter()
        .map(|part| {
            let lines = part.iter().filter(|line| line.side == side);
            lines.cloned().collect()
        })
        .collect()
}
