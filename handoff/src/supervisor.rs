//! The supervisor's side of the handoff: one conversation with one worker, from its first word to its end.
//!
//! Room  drives [`supervisor_state`](crate::supervisor_state) over a [`Link`]; decides nothing about upgrades.
//! In    the listeners to hand over, then orders. Out  facts.
//! Holds a worker that breaks the protocol loses its conversation, never a listener: descriptors given
//!       away are duplicates, those that arrive are handed up only when their set is complete.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::batches::{Collector, batches};
use crate::link::{Channel, Link, LinkError};
use crate::listeners::{ListenerName, Listeners};
use crate::message::{Batch, Hello, Moved, SelfTest, Stats, ToSupervisor, ToWorker, Welcome};
use crate::sealed::Sealed;
use crate::share::Share;
use crate::supervisor_state::{Event, Refused, State};
use crate::ticket_keys::TicketKeys;
use crate::version::{DIVIDING_PROTOCOL, SPOKEN};

/// How long a new worker may take to say who it is.
///
/// Covers: exec, dynamic linking, reading the configuration. If passed: the worker is not native, or
/// hangs; the upgrade fails, the incumbent serves on.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// How long a worker may take to acknowledge one batch of listeners.
const ACK_DEADLINE: Duration = Duration::from_secs(5);

/// What a worker gets.
#[derive(Debug)]
pub struct Offer {
    pub generation: u64,
    pub token: String,
    /// Where the next supervisor will listen.
    pub rendezvous: String,
    /// Duplicates of what the supervisor holds; none for a worker that returns.
    pub listeners: Listeners,
    pub ticket_keys: TicketKeys,
}

/// What the supervisor wants of a worker.
#[derive(Debug)]
pub enum Order {
    /// Accept on this part of every listener's group; a part that is neither all nor nothing needs a worker that
    /// [divides](Fact::Ready).
    Accept(Share),
    /// Serve this connection as if it had been accepted on that listener.
    Serve {
        listener: ListenerName,
        connection: OwnedFd,
    },
    Drain {
        within: Duration,
    },
    Reload,
    Shutdown,
    /// These are the keys of TLS session tickets from now on.
    TicketKeys(TicketKeys),
    /// Say what a successor should know; answered by [`Fact::State`].
    ShareState,
    /// What the incumbent said; only before the first `Resume`.
    GiveState(Sealed),
    /// Give this part of the connections, in percent, to the far end of the passage; answered by [`Fact::Moved`]. Only
    /// to a worker that [moves](Fact::Ready) connections.
    Give {
        passage: Channel,
        percent: u8,
    },
    /// Take connections from the far end of the passage.
    Take(Channel),
}

/// What became known about a worker.
#[derive(Debug)]
pub enum Fact {
    /// A complete set of listeners that the worker bound (or holds, when it returns).
    Bound(Listeners),
    Released(Vec<ListenerName>),
    Ready {
        unclaimed: Vec<ListenerName>,
        self_tests: Vec<SelfTest>,
        /// It can accept on a part of a group, and serve a connection of a self-test.
        divides: bool,
        /// The highest form of connection records that it reads; 0: it neither gives nor takes connections.
        moves: u16,
    },
    Failed(String),
    Accepting(Share),
    Stats(Stats),
    Reloaded(Vec<String>),
    /// What a successor should know; nothing, or the reason why it does not get it.
    State(Result<Option<Sealed>, String>),
    Moved(Moved),
    Drained {
        finished: u64,
        cut: u64,
        moved: u64,
    },
    /// The last fact of every conversation.
    Lost(String),
}

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the worker broke the protocol: {0}")]
    Protocol(#[from] Refused),
    #[error("the worker handed listeners over wrongly: {0}")]
    Batch(#[from] crate::BatchError),
    #[error(
        "the worker acknowledged batch {got} with {received} descriptors, batch {sent} had {count}"
    )]
    Acknowledgement {
        sent: u32,
        count: usize,
        got: u32,
        received: u32,
    },
    #[error(
        "the worker speaks handoff {theirs}, this supervisor speaks {SPOKEN}: no protocol in common"
    )]
    Version {
        theirs: crate::version::ProtocolRange,
    },
}

/// Waits for the worker's first word.
///
/// # Errors
/// No word within [`HELLO_DEADLINE`], or another one than `Hello`.
pub async fn greet(link: &mut Link) -> Result<Hello, ConversationError> {
    let (message, _) = link
        .receive_within::<ToSupervisor>(HELLO_DEADLINE, "say who it is")
        .await?;
    match message {
        ToSupervisor::Hello(hello) => Ok(hello),
        other => Err(Refused {
            state: State::Greeting,
            event: event_of(&other).unwrap_or(Event::Stats),
        }
        .into()),
    }
}

/// Tells a worker why it is not wanted.
pub async fn refuse(link: &mut Link, reason: String) {
    let _ = link.send(&ToWorker::Refuse { reason }, &[]).await;
}

/// The whole conversation after the greeting; returns when the worker is gone or breaks the protocol.
/// [`Fact::Lost`] is always the last fact.
pub async fn converse(
    mut link: Link,
    hello: &Hello,
    offer: Offer,
    mut orders: mpsc::UnboundedReceiver<Order>,
    mut facts: impl FnMut(Fact),
) {
    let outcome = async {
        let (state, protocol) = hand_over(&mut link, hello, offer).await?;
        Talk {
            link,
            state,
            divides: protocol >= DIVIDING_PROTOCOL,
            shares_state: hello.shares_state,
            moves: hello.moves,
            bound: Collector::default(),
        }
        .run(&mut orders, &mut facts)
        .await
    }
    .await;
    let reason = match outcome {
        Ok(()) => "it closed the conversation".to_owned(),
        Err(error) => error.to_string(),
    };
    facts(Fact::Lost(reason));
}

async fn hand_over(
    link: &mut Link,
    hello: &Hello,
    offer: Offer,
) -> Result<(State, u16), ConversationError> {
    let Some(protocol) = SPOKEN.agree(hello.protocol) else {
        let error = ConversationError::Version {
            theirs: hello.protocol,
        };
        refuse(link, error.to_string()).await;
        return Err(error);
    };
    let cut = batches(offer.listeners);
    let welcome = Welcome {
        protocol,
        generation: offer.generation,
        token: offer.token,
        rendezvous: offer.rendezvous,
        batches: u32::try_from(cut.len()).unwrap_or(u32::MAX),
        ticket_keys: offer.ticket_keys,
    };
    link.send(&ToWorker::Welcome(welcome), &[]).await?;
    let mut state = State::Greeting.on(Event::Hello)?;
    if cut.is_empty() {
        return Ok((state.on(Event::LastAck)?, protocol));
    }
    for (batch, sockets) in cut {
        state = send_batch(link, state, batch, &sockets).await?;
    }
    Ok((state, protocol))
}

async fn send_batch(
    link: &mut Link,
    state: State,
    batch: Batch,
    sockets: &[OwnedFd],
) -> Result<State, ConversationError> {
    let (number, last) = (batch.batch, batch.batch == batch.of);
    let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
    link.send(&ToWorker::Listeners(batch), &fds).await?;
    loop {
        let (message, _) = link
            .receive_within::<ToSupervisor>(ACK_DEADLINE, "acknowledge its listeners")
            .await?;
        match message {
            ToSupervisor::ListenersAck { batch, received } => {
                if batch != number || usize::try_from(received) != Ok(sockets.len()) {
                    return Err(ConversationError::Acknowledgement {
                        sent: number,
                        count: sockets.len(),
                        got: batch,
                        received,
                    });
                }
                return Ok(state.on(if last { Event::LastAck } else { Event::Ack })?);
            }
            ToSupervisor::Unknown => {}
            other => {
                state.on(event_of(&other).unwrap_or(Event::Stats))?;
            }
        }
    }
}

struct Talk {
    link: Link,
    state: State,
    shares_state: bool,
    moves: u16,
    divides: bool,
    bound: Collector<OwnedFd>,
}

impl Talk {
    async fn run(
        mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        facts: &mut impl FnMut(Fact),
    ) -> Result<(), ConversationError> {
        let mut open = true;
        while self.state != State::Ended {
            tokio::select! {
                received = self.link.receive::<ToSupervisor>() => match received {
                    Ok((message, fds)) => self.handle(message, fds, facts).await?,
                    Err(LinkError::Closed) => self.state = self.state.on(Event::Closed)?,
                    Err(error) => return Err(error.into()),
                },
                order = orders.recv(), if open => match order {
                    Some(order) => self.order(order, facts).await?,
                    // The supervisor forgot this worker; its words are still heard to the end.
                    None => open = false,
                },
            }
        }
        Ok(())
    }

    /// An order that the table refuses came too late (the worker is already leaving): not an error.
    async fn order(
        &mut self,
        order: Order,
        facts: &mut impl FnMut(Fact),
    ) -> Result<(), ConversationError> {
        let mut descriptor: Option<OwnedFd> = None;
        let (event, message) = match order {
            Order::ShareState if !self.shares_state => {
                let reason = "the worker is of a version that shares no state";
                facts(Fact::State(Err(reason.to_owned())));
                return Ok(());
            }
            Order::Accept(share) => accept_message(share, self.divides),
            Order::Serve {
                listener,
                connection,
            } => {
                if !self.divides {
                    // The connection is closed here, and whoever tests sees that.
                    return Ok(());
                }
                descriptor = Some(connection);
                (Event::Serve, ToWorker::Serve { listener })
            }
            Order::Drain { within } => (
                Event::Drain,
                ToWorker::Drain {
                    within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
                },
            ),
            Order::Reload => (Event::Reload, ToWorker::Reload),
            Order::Shutdown => (Event::Shutdown, ToWorker::Shutdown),
            Order::TicketKeys(keys) => (Event::TicketKeys, ToWorker::TicketKeys { keys }),
            Order::ShareState => (Event::ShareState, ToWorker::ShareState),
            // The passage is closed here, and its far end sees that.
            Order::Give { .. } | Order::Take(_) if self.moves == 0 => return Ok(()),
            Order::Give { passage, percent } => {
                descriptor = Some(passage.into_fd());
                (Event::Give, ToWorker::Give { percent })
            }
            Order::Take(passage) => {
                descriptor = Some(passage.into_fd());
                (Event::Take, ToWorker::Take)
            }
            Order::GiveState(sealed) => {
                let bytes = sealed.bytes();
                descriptor = Some(sealed.into());
                (Event::GiveState, ToWorker::State { bytes })
            }
        };
        if let Ok(next) = self.state.on(event) {
            let descriptors: Vec<_> = descriptor.iter().map(|one| one.as_fd()).collect();
            self.link.send(&message, &descriptors).await?;
            self.state = next;
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        message: ToSupervisor,
        fds: Vec<OwnedFd>,
        facts: &mut impl FnMut(Fact),
    ) -> Result<(), ConversationError> {
        let Some(event) = event_of(&message) else {
            return Ok(());
        };
        self.state = self.state.on(event)?;
        match message {
            ToSupervisor::Bound(batch) => self.take_bound(batch, fds, facts).await?,
            ToSupervisor::Released { names } => facts(Fact::Released(names)),
            ToSupervisor::Ready {
                unclaimed,
                self_tests,
            } => facts(Fact::Ready {
                unclaimed,
                self_tests,
                divides: self.divides,
                moves: self.moves,
            }),
            ToSupervisor::Failed { reason } => facts(Fact::Failed(reason)),
            ToSupervisor::Accepting { on, share } => facts(Fact::Accepting(accepted(on, share))),
            ToSupervisor::Stats(stats) => facts(Fact::Stats(stats)),
            ToSupervisor::Reloaded { mistakes } => facts(Fact::Reloaded(mistakes)),
            ToSupervisor::State { bytes, missing } => {
                facts(Fact::State(shared_state(bytes, missing, fds)));
            }
            ToSupervisor::Moved(moved) => facts(Fact::Moved(moved)),
            ToSupervisor::Drained {
                finished,
                cut,
                moved,
            } => facts(Fact::Drained {
                finished,
                cut,
                moved,
            }),
            ToSupervisor::Hello(_) | ToSupervisor::ListenersAck { .. } | ToSupervisor::Unknown => {}
        }
        Ok(())
    }

    async fn take_bound(
        &mut self,
        batch: Batch,
        fds: Vec<OwnedFd>,
        facts: &mut impl FnMut(Fact),
    ) -> Result<(), ConversationError> {
        let number = batch.batch;
        if self.bound.accept(batch, fds)? {
            let mut listeners = Listeners::new();
            for (name, members) in std::mem::take(&mut self.bound).into_groups() {
                listeners.insert(name, members);
            }
            facts(Fact::Bound(listeners));
        }
        let ack = ToWorker::BoundAck { batch: number };
        Ok(self.link.send(&ack, &[]).await?)
    }
}

/// Whole or nothing is said in the words of the first protocol, which every worker knows.
fn accept_message(share: Share, divides: bool) -> (Event, ToWorker) {
    if share.is_none() {
        (Event::Pause, ToWorker::Pause)
    } else if share.is_all() || !divides {
        (Event::Resume, ToWorker::Resume)
    } else {
        (Event::Accept, ToWorker::Accept { share })
    }
}

fn accepted(on: bool, share: Option<Share>) -> Share {
    match share {
        _ if !on => Share::NONE,
        Some(share) => share,
        None => Share::ALL,
    }
}

/// A state that is not what it should be is no reason to end the conversation: it is not passed on.
fn shared_state(
    bytes: u64,
    missing: Option<String>,
    fds: Vec<OwnedFd>,
) -> Result<Option<Sealed>, String> {
    match missing {
        Some(reason) => Err(reason),
        None if bytes == 0 && fds.is_empty() => Ok(None),
        None => Sealed::adopt(bytes, fds)
            .map(Some)
            .map_err(|error| error.to_string()),
    }
}

/// The table's event for a message; a kind from a newer worker is no event.
fn event_of(message: &ToSupervisor) -> Option<Event> {
    Some(match message {
        ToSupervisor::Hello(_) => Event::Hello,
        ToSupervisor::ListenersAck { .. } => Event::Ack,
        ToSupervisor::Bound(_) => Event::Bound,
        ToSupervisor::Released { .. } => Event::Released,
        ToSupervisor::Ready { .. } => Event::Ready,
        ToSupervisor::Failed { .. } => Event::Failed,
        ToSupervisor::Accepting { on: true, .. } => Event::AcceptingOn,
        ToSupervisor::Accepting { on: false, .. } => Event::AcceptingOff,
        ToSupervisor::Stats(_) => Event::Stats,
        ToSupervisor::Reloaded { .. } => Event::Reloaded,
        ToSupervisor::State { .. } => Event::State,
        ToSupervisor::Moved(_) => Event::Moved,
        ToSupervisor::Drained { .. } => Event::Drained,
        ToSupervisor::Unknown => return None,
    })
}
