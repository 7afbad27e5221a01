//! The worker's side of the handoff: how a process learns where its listeners come from, and its
//! conversation with the supervisor for the rest of its life.
//!
//! Room  drives [`worker_state`](crate::worker_state) over a [`Link`]; serves nothing itself.
//! In    orders of the supervisor. Out  commands for the worker, reports of the worker.
//! Holds the loss of the supervisor is not the worker's end once it served; it returns to the next one.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::activation::{self, Activated};
use crate::batches::{BatchError, Collector, batches};
use crate::link::{Channel, Link, LinkError};
use crate::listeners::{ListenerName, Listeners};
use crate::message::{Hello, ToSupervisor, ToWorker, Welcome};
pub use crate::message::{Moved, SelfTest, SelfTestKind, Stats};
use crate::passage::RECORD_FORM;
use crate::share::Share;
use crate::ticket_keys::TicketKeys;
use crate::version::SPOKEN;
use crate::worker_state::{Event, Refused, State};

mod conversation;

/// Set by a supervisor for its children; the value names the descriptor ("stdin").
pub const HANDOFF_VARIABLE: &str = "ZEITWORK_HANDOFF";

/// Set by a supervisor that asks a binary who it is; see [`describe`].
pub const PROBE_VARIABLE: &str = "ZEITWORK_PROBE";

/// How long the supervisor may take for its next word while the worker starts.
///
/// Covers: a supervisor that is busy with another child. If passed: this worker gives up; the
/// incumbent serves on. Sized: the supervisor answers within milliseconds, times a thousand.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Who this worker is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// "load-balancer", "edge-proxy", ….
    pub service: String,
    pub version: String,
    /// It gives and takes live connections.
    pub moves: bool,
}

/// What `--version` prints instead of its usual line when a supervisor probes the binary.
pub fn describe(identity: &Identity) -> Option<String> {
    std::env::var_os(PROBE_VARIABLE)?;
    Some(
        serde_json::json!({
            "service": identity.service,
            "version": identity.version,
            "handoff": SPOKEN,
            "moves": if identity.moves { RECORD_FORM } else { 0 },
        })
        .to_string(),
    )
}

/// Where this process's listeners come from.
#[derive(Debug)]
pub enum Provision {
    /// Started by a supervisor: they come over its private channel.
    Supervised(Channel),
    /// Started by a service manager with sockets (`LISTEN_FDS`).
    Activated(Activated),
    /// Started by a person: this process binds what it needs.
    Alone,
}

/// The environment promises a channel that is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "{HANDOFF_VARIABLE} is set but standard input is not a supervisor's channel ({0}); unset it to run without a supervisor"
)]
pub struct ProvisionError(#[source] pub io::Error);

/// Reads the environment; to be called once, before the process has a second thread.
///
/// # Errors
/// [`ProvisionError`]: started as if by a supervisor, but not by one.
pub fn provision() -> Result<Provision, ProvisionError> {
    if std::env::var_os(HANDOFF_VARIABLE).is_some() {
        return stdin_channel()
            .map(Provision::Supervised)
            .map_err(ProvisionError);
    }
    if std::env::var_os("LISTEN_FDS").is_some() {
        return Ok(Provision::Activated(activation::from_environment()));
    }
    Ok(Provision::Alone)
}

fn stdin_channel() -> io::Result<Channel> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a terminal",
        ));
    }
    let channel = Channel::adopt(stdin.as_fd().try_clone_to_owned()?)?;
    // The channel must have one owner: with the original left open as descriptor 0, the supervisor
    // would never see this worker close it.
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(channel)
}

/// Why a worker could not start under its supervisor.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the conversation with the supervisor ended: {0}")]
    Link(#[from] LinkError),
    #[error("the supervisor refused this worker: {0}")]
    Refused(String),
    #[error("the supervisor handed listeners over wrongly: {0}")]
    Batch(#[from] BatchError),
    #[error("the supervisor broke the protocol: {0}")]
    Protocol(#[from] Refused),
    #[error("a listener cannot be duplicated: {0}; is the descriptor limit reached?")]
    Descriptors(#[from] io::Error),
}

/// Duplicates of every listener held now; asked for when a later supervisor appears.
pub type HeldFn = Box<dyn Fn() -> io::Result<Listeners> + Send>;

/// A worker that is starting under a supervisor.
#[derive(Debug)]
pub struct Session {
    link: Link,
    state: State,
    welcome: Welcome,
    identity: Identity,
}

impl Session {
    /// Says who this worker is and receives every listener the supervisor holds.
    ///
    /// # Errors
    /// See [`SessionError`]; the worker should exit, the incumbent serves on.
    pub async fn open(
        channel: Channel,
        identity: &Identity,
    ) -> Result<(Self, Listeners), SessionError> {
        let mut link = Link::new(channel)?;
        let (welcome, mut state) = greet(&mut link, identity).await?;
        let mut collector = Collector::default();
        if welcome.batches == 0 {
            state = state.on(Event::LastListeners)?;
        }
        while state == State::Adopting {
            let (message, fds) = next(&mut link, "hand its listeners over").await?;
            let ToWorker::Listeners(batch) = message else {
                // A kind that a newer supervisor has is no event, here as anywhere.
                if message != ToWorker::Unknown {
                    state = state.on(event_of(&message)?)?;
                }
                continue;
            };
            let number = batch.batch;
            let received = u32::try_from(fds.len()).unwrap_or(u32::MAX);
            let complete = collector.accept(batch, fds)?;
            let ack = ToSupervisor::ListenersAck {
                batch: number,
                received,
            };
            link.send(&ack, &[]).await?;
            state = state.on(if complete {
                Event::LastListeners
            } else {
                Event::Listeners
            })?;
        }
        let mut listeners = Listeners::new();
        for (name, members) in collector.into_groups() {
            listeners.insert(name, members);
        }
        let session = Self {
            link,
            state,
            welcome,
            identity: identity.clone(),
        };
        Ok((session, listeners))
    }

    /// The number of this worker's generation, given by the supervisor.
    pub fn generation(&self) -> u64 {
        self.welcome.generation
    }

    /// The keys of TLS session tickets, from the supervisor; none from an older one.
    pub fn ticket_keys(&self) -> &TicketKeys {
        &self.welcome.ticket_keys
    }

    /// Hands duplicates of newly bound listeners to the supervisor, so that no later crash closes them.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn offer(&mut self, bound: Listeners) -> Result<(), SessionError> {
        send_bound(&mut self.link, bound, &mut self.welcome.ticket_keys).await
    }

    /// Tells the person who started this why it cannot go on.
    pub async fn fail(mut self, reason: String) {
        let _ = self.link.send(&ToSupervisor::Failed { reason }, &[]).await;
    }

    /// Everything is in place: the rest of the conversation runs as a task of the current runtime.
    pub fn ready(
        self,
        unclaimed: Vec<ListenerName>,
        self_tests: Vec<SelfTest>,
        held: HeldFn,
    ) -> Conversation {
        let (commands_in, commands) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (reports, reports_out) = mpsc::unbounded_channel();
        let talk = conversation::Talk::new(self, commands_in, reports_out, held);
        let ready = ToSupervisor::Ready {
            unclaimed,
            self_tests,
        };
        let task = tokio::spawn(talk.run(ready));
        Conversation {
            commands,
            reports,
            task,
        }
    }
}

/// Commands that may wait for the worker; the supervisor sends one at a time.
const COMMANDS_WAITING_MAX: usize = 16;

/// Both ends of the running conversation.
#[derive(Debug)]
pub struct Conversation {
    pub commands: mpsc::Receiver<Command>,
    pub reports: mpsc::UnboundedSender<Report>,
    task: tokio::task::JoinHandle<()>,
}

impl Conversation {
    /// Waits until the last report has left, at most `within`; to be called before the process exits.
    pub async fn close(self, within: Duration) {
        drop(self.reports);
        drop(self.commands);
        let _ = tokio::time::timeout(within, self.task).await;
    }
}

/// What the supervisor wants.
#[derive(Debug)]
pub enum Command {
    /// Accept on this part of every claimed listener's group, keep everything else; answer with
    /// [`Report::Accepting`]. [`Share::NONE`] is a pause.
    Accept(Share),
    /// A self-test: serve this connection as if it had been accepted on that listener.
    Serve {
        listener: ListenerName,
        connection: OwnedFd,
    },
    /// Stop accepting for good, finish what is held within this time, report, exit.
    Drain { within: Duration },
    /// Read the configuration again; answer with [`Report::Reloaded`].
    Reload,
    /// Exit at once.
    Shutdown,
    /// Give this part of the connections, in percent, to the far end; answer with [`Report::Moved`].
    Give { passage: Channel, percent: u8 },
    /// Take connections from the far end.
    Take(Channel),
    /// These are the keys of TLS session tickets from now on.
    TicketKeys(TicketKeys),
    /// A successor is about to accept: answer with [`Report::State`], at once.
    ShareState,
    /// What the incumbent answered; comes before the first [`Command::Accept`] or not at all.
    State(Vec<u8>),
    /// What came instead of a state, and why it cannot be used: the worker begins without.
    StateRefused(String),
}

/// What a worker says to its supervisor.
#[derive(Debug)]
pub enum Report {
    Accepting(Share),
    /// Duplicates of listeners bound since (reload).
    Bound(Listeners),
    Released(Vec<ListenerName>),
    Reloaded(Result<(), Vec<String>>),
    Stats(Stats),
    /// Answer to [`Command::ShareState`]; empty: the successor needs to know nothing. At most
    /// [`STATE_BYTES_MAX`](crate::STATE_BYTES_MAX), more is not passed on.
    State(Vec<u8>),
    Moved(Moved),
    Drained {
        finished: u64,
        cut: u64,
        moved: u64,
    },
}

async fn greet(link: &mut Link, identity: &Identity) -> Result<(Welcome, State), SessionError> {
    let hello = hello(identity, None);
    link.send(&ToSupervisor::Hello(hello), &[]).await?;
    welcome(link).await
}

fn hello(identity: &Identity, returning: Option<crate::message::Returning>) -> Hello {
    Hello {
        protocol: SPOKEN,
        service: identity.service.clone(),
        version: identity.version.clone(),
        pid: std::process::id(),
        shares_state: true,
        moves: if identity.moves { RECORD_FORM } else { 0 },
        returning,
    }
}

async fn welcome(link: &mut Link) -> Result<(Welcome, State), SessionError> {
    let state = State::Greeting;
    loop {
        let (message, _) = next(link, "answer our greeting").await?;
        match message {
            ToWorker::Welcome(welcome) => return Ok((welcome, state.on(Event::Welcome)?)),
            ToWorker::Refuse { reason } => return Err(SessionError::Refused(reason)),
            ToWorker::Unknown => {}
            other => {
                state.on(event_of(&other)?)?;
            }
        }
    }
}

async fn next(
    link: &mut Link,
    expected: &'static str,
) -> Result<(ToWorker, Vec<OwnedFd>), SessionError> {
    Ok(link.receive_within(ANSWER_DEADLINE, expected).await?)
}

/// `keys` are those of the supervisor so far; they may change meanwhile.
async fn send_bound(
    link: &mut Link,
    bound: Listeners,
    keys: &mut TicketKeys,
) -> Result<(), SessionError> {
    for (batch, sockets) in batches(bound) {
        let number = batch.batch;
        let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        link.send(&ToSupervisor::Bound(batch), &fds).await?;
        loop {
            match next(link, "acknowledge our listeners").await?.0 {
                ToWorker::BoundAck { batch } if batch == number => break,
                ToWorker::Unknown => {}
                ToWorker::TicketKeys { keys: newer } => *keys = newer,
                ToWorker::Shutdown => return Err(LinkError::Closed.into()),
                other => {
                    State::Preparing.on(event_of(&other)?)?;
                }
            }
        }
    }
    Ok(())
}

/// The table's event for a message; an unknown kind of a newer supervisor is no event.
fn event_of(message: &ToWorker) -> Result<Event, SessionError> {
    Ok(match message {
        ToWorker::Welcome(_) => Event::Welcome,
        ToWorker::Refuse { reason } => return Err(SessionError::Refused(reason.clone())),
        ToWorker::Listeners(_) => Event::Listeners,
        ToWorker::BoundAck { .. } | ToWorker::Unknown => Event::BoundAck,
        ToWorker::Resume => Event::Resume,
        ToWorker::Accept { .. } => Event::Accept,
        ToWorker::Serve { .. } => Event::Serve,
        ToWorker::Give { .. } => Event::Give,
        ToWorker::Take => Event::Take,
        ToWorker::Pause => Event::Pause,
        ToWorker::Drain { .. } => Event::Drain,
        ToWorker::Reload => Event::Reload,
        ToWorker::Shutdown => Event::Shutdown,
        ToWorker::TicketKeys { .. } => Event::TicketKeys,
        ToWorker::ShareState => Event::ShareState,
        ToWorker::State { .. } => Event::State,
    })
}
