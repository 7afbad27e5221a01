//! Protocol 1 as a released build understood it: a copy of its message types, never to be changed.
//!
//! What today's build says to such a peer is decoded here, and must mean what it meant then.

use serde::Deserialize;

use crate::golden::{PID, RENDEZVOUS, Side};

#[derive(Debug, PartialEq, Deserialize)]
struct Frame<M> {
    seq: u64,
    #[serde(default)]
    fds: usize,
    message: M,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum ToWorker {
    Welcome(Welcome),
    Refuse {
        reason: String,
    },
    Listeners(Batch),
    BoundAck {
        batch: u32,
    },
    Resume,
    Pause,
    Drain {
        within_ms: u64,
    },
    Reload,
    Shutdown,
    TicketKeys {
        keys: Vec<String>,
    },
    ShareState,
    State {
        bytes: u64,
    },
    #[serde(other)]
    Unknown,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum ToSupervisor {
    Hello(Hello),
    ListenersAck {
        batch: u32,
        received: u32,
    },
    Bound(Batch),
    Released {
        names: Vec<String>,
    },
    Ready {
        unclaimed: Vec<String>,
    },
    Failed {
        reason: String,
    },
    Accepting {
        on: bool,
    },
    Stats(Stats),
    Reloaded {
        mistakes: Vec<String>,
    },
    State {
        bytes: u64,
        #[serde(default)]
        missing: Option<String>,
    },
    Drained {
        finished: u64,
        cut: u64,
    },
    #[serde(other)]
    Unknown,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Hello {
    protocol: Range,
    service: String,
    version: String,
    pid: u32,
    #[serde(default)]
    shares_state: bool,
    #[serde(default)]
    returning: Option<Returning>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Range {
    min: u16,
    max: u16,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Returning {
    generation: u64,
    token: String,
    posture: Posture,
    #[serde(default)]
    ticket_keys: Vec<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Posture {
    Standby,
    Accepting,
    Parked,
    Draining,
    #[serde(other)]
    Unknown,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Welcome {
    protocol: u16,
    generation: u64,
    token: String,
    #[serde(default)]
    rendezvous: String,
    batches: u32,
    #[serde(default)]
    ticket_keys: Vec<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Batch {
    batch: u32,
    of: u32,
    sockets: Vec<Member>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Member {
    name: String,
    member: u16,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Stats {
    connections: u64,
    accepted_total: u64,
    errors_total: u64,
    bytes_total: u64,
    healthy_backends: u64,
    total_backends: u64,
    status: String,
}

/// A frame as protocol 1 understood it.
#[derive(Debug, PartialEq)]
pub(crate) struct Understood(Meaning);

#[derive(Debug, PartialEq)]
enum Meaning {
    FromSupervisor(Frame<ToWorker>),
    FromWorker(Frame<ToSupervisor>),
}

/// Decodes what `side` said. What differs from run to run (numbers of processes, paths) becomes what a
/// recording has, and a range or a choice of protocols that suits a peer who speaks `claims` becomes 1.
pub(crate) fn understand(
    side: Side,
    bytes: &str,
    claims: (u16, u16),
) -> Result<Understood, String> {
    let failed = |error: serde_json::Error| format!("protocol 1 cannot read {bytes}: {error}");
    let suits = |min: u16, max: u16| min <= claims.1 && max >= claims.0;
    Ok(Understood(match side {
        Side::Supervisor => {
            let mut frame: Frame<ToWorker> = serde_json::from_str(bytes).map_err(failed)?;
            match &mut frame.message {
                ToWorker::Welcome(welcome) if suits(welcome.protocol, welcome.protocol) => {
                    welcome.protocol = 1;
                    welcome.rendezvous = RENDEZVOUS.to_owned();
                }
                ToWorker::Unknown => return Err(format!("protocol 1 does not know {bytes}")),
                _ => {}
            }
            Meaning::FromSupervisor(frame)
        }
        Side::Worker => {
            let mut frame: Frame<ToSupervisor> = serde_json::from_str(bytes).map_err(failed)?;
            match &mut frame.message {
                ToSupervisor::Hello(hello) => {
                    if suits(hello.protocol.min, hello.protocol.max) {
                        hello.protocol = Range { min: 1, max: 1 };
                    }
                    hello.pid = PID
                        .trim_start_matches("\"pid\":")
                        .parse()
                        .expect("a number");
                }
                ToSupervisor::Unknown => return Err(format!("protocol 1 does not know {bytes}")),
                _ => {}
            }
            Meaning::FromWorker(frame)
        }
    }))
}
