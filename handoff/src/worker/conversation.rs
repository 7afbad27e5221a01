//! A ready worker's conversation: orders in, reports out, and the way back to the next supervisor.
//!
//! Holds  the posture told to a later supervisor is the worker's true one; a report about connections is
//!        never lost because the supervisor is (only statistics are).

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{
    Command, HeldFn, Identity, Report, Session, SessionError, event_of, hello, send_bound, welcome,
};
use crate::batches::batches;
use crate::link::{Channel, Link, LinkError};
use crate::message::{Returning, ToSupervisor, ToWorker, Welcome};
use crate::sealed::Sealed;
use crate::share::Share;
use crate::worker_state::{Event, State};

/// How often a worker without supervisor looks for the next one.
///
/// Sized: a restarted supervisor waits seconds for its workers; five looks a second cost nothing.
const RETURN_INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct Talk {
    link: Option<Link>,
    state: State,
    welcome: Welcome,
    identity: Identity,
    commands: mpsc::Sender<Command>,
    reports: mpsc::UnboundedReceiver<Report>,
    held: HeldFn,
}

impl Talk {
    pub(super) fn new(
        session: Session,
        commands: mpsc::Sender<Command>,
        reports: mpsc::UnboundedReceiver<Report>,
        held: HeldFn,
    ) -> Self {
        Self {
            link: Some(session.link),
            state: session.state,
            welcome: session.welcome,
            identity: session.identity,
            commands,
            reports,
            held,
        }
    }

    /// Until the worker is drained, or is told to end.
    pub(super) async fn run(mut self, ready: ToSupervisor) {
        self.advance(Event::Prepared);
        if self.say(&ready).await.is_err() {
            self.lose().await;
        }
        while self.state != State::Ended {
            if self.link.is_some() {
                self.talk_once().await;
            } else {
                self.search_once().await;
            }
        }
    }

    async fn talk_once(&mut self) {
        let Some(link) = self.link.as_mut() else {
            return;
        };
        tokio::select! {
            received = link.receive::<ToWorker>() => match received {
                Ok((message, fds)) => self.handle(message, fds).await,
                Err(_) => self.lose().await,
            },
            report = self.reports.recv() => match report {
                Some(report) => self.report(report).await,
                None => self.state = State::Ended,
            },
        }
    }

    /// No supervisor: look for the next one, keep taking reports so that the worker never waits.
    async fn search_once(&mut self) {
        tokio::select! {
            () = tokio::time::sleep(RETURN_INTERVAL) => {
                if let Ok(link) = self.return_to_supervisor().await {
                    self.link = Some(link);
                }
            }
            report = self.reports.recv() => match report {
                Some(Report::Accepting(share)) => self.note_accepting(!share.is_none()),
                Some(Report::Drained { .. }) | None => self.state = State::Ended,
                Some(_) => {}
            },
        }
    }

    async fn handle(&mut self, message: ToWorker, mut fds: Vec<OwnedFd>) {
        let event = match event_of(&message) {
            Ok(event) => event,
            Err(_refusal) => return self.lose().await,
        };
        let Ok(next) = self.state.on(event) else {
            // The supervisor is at fault; a new conversation starts from what is true.
            return self.lose().await;
        };
        let command = match message {
            ToWorker::Resume => Command::Accept(Share::ALL),
            ToWorker::Pause => Command::Accept(Share::NONE),
            ToWorker::Accept { share } => Command::Accept(share),
            ToWorker::Serve { listener } => match (fds.pop(), fds.is_empty()) {
                (Some(connection), true) => Command::Serve {
                    listener,
                    connection,
                },
                // Nothing to serve: whoever tests sees the end of what was sent.
                _ => return,
            },
            ToWorker::Give { percent } => match passage(fds) {
                Some(passage) => Command::Give { passage, percent },
                None => return,
            },
            ToWorker::Take => match passage(fds) {
                Some(passage) => Command::Take(passage),
                None => return,
            },
            ToWorker::Drain { within_ms } => Command::Drain {
                within: Duration::from_millis(within_ms),
            },
            ToWorker::Reload => Command::Reload,
            ToWorker::Shutdown => Command::Shutdown,
            ToWorker::TicketKeys { keys } => {
                self.welcome.ticket_keys = keys.clone();
                Command::TicketKeys(keys)
            }
            ToWorker::ShareState => Command::ShareState,
            ToWorker::State { bytes } => given_state(bytes, fds),
            ToWorker::Welcome(_)
            | ToWorker::Refuse { .. }
            | ToWorker::Listeners(_)
            | ToWorker::BoundAck { .. }
            | ToWorker::Unknown => return,
        };
        self.state = next;
        if self.commands.send(command).await.is_err() {
            self.state = State::Ended;
        }
    }

    async fn report(&mut self, report: Report) {
        let drained = matches!(report, Report::Drained { .. });
        let said = match report {
            Report::Accepting(share) => {
                let on = !share.is_none();
                let share = Some(share);
                self.say(&ToSupervisor::Accepting { on, share }).await
            }
            Report::Bound(listeners) => self.say_bound(listeners).await,
            Report::Released(names) => self.say(&ToSupervisor::Released { names }).await,
            Report::Reloaded(outcome) => {
                let mistakes = outcome.err().unwrap_or_default();
                self.say(&ToSupervisor::Reloaded { mistakes }).await
            }
            Report::State(state) => self.say_state(&state).await,
            Report::Stats(stats) => self.say(&ToSupervisor::Stats(stats)).await,
            Report::Moved(moved) => self.say(&ToSupervisor::Moved(moved)).await,
            Report::Drained {
                finished,
                cut,
                moved,
            } => {
                let drained = ToSupervisor::Drained {
                    finished,
                    cut,
                    moved,
                };
                self.say(&drained).await
            }
        };
        if drained {
            self.state = State::Ended;
        } else if said.is_err() {
            self.lose().await;
        }
    }

    async fn say(&mut self, message: &ToSupervisor) -> Result<(), LinkError> {
        match self.link.as_mut() {
            Some(link) => link.send(message, &[]).await,
            None => Err(LinkError::Closed),
        }
    }

    /// Listeners of a reload: their acknowledgements arrive in the course of the conversation.
    async fn say_bound(&mut self, listeners: crate::Listeners) -> Result<(), LinkError> {
        let Some(link) = self.link.as_mut() else {
            return Err(LinkError::Closed);
        };
        for (batch, sockets) in batches(listeners) {
            let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
            link.send(&ToSupervisor::Bound(batch), &fds).await?;
        }
        Ok(())
    }

    async fn say_state(&mut self, state: &[u8]) -> Result<(), LinkError> {
        let sealed = (!state.is_empty()).then(|| Sealed::seal(state));
        let (sealed, missing) = match sealed.transpose() {
            Ok(sealed) => (sealed, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let Some(link) = self.link.as_mut() else {
            return Err(LinkError::Closed);
        };
        let bytes = sealed.as_ref().map_or(0, Sealed::bytes);
        let fds: Vec<_> = sealed.iter().map(|sealed| sealed.as_fd()).collect();
        link.send(&ToSupervisor::State { bytes, missing }, &fds)
            .await
    }

    async fn lose(&mut self) {
        self.link = None;
        self.advance(Event::Lost);
        if self.state == State::Ended {
            // Never served: nobody to serve on for.
            let _ = self.commands.send(Command::Shutdown).await;
        }
    }

    fn note_accepting(&mut self, on: bool) {
        if self.state != State::Draining {
            self.state = if on { State::Accepting } else { State::Parked };
        }
    }

    fn advance(&mut self, event: Event) {
        if let Ok(next) = self.state.on(event) {
            self.state = next;
        }
    }

    async fn return_to_supervisor(&mut self) -> Result<Link, SessionError> {
        if self.welcome.rendezvous.is_empty() {
            return Err(LinkError::Closed.into());
        }
        let mut link = Link::new(Channel::connect(&PathBuf::from(&self.welcome.rendezvous))?)?;
        let returning = Returning {
            generation: self.welcome.generation,
            token: self.welcome.token.clone(),
            posture: self.state.posture(),
            ticket_keys: self.welcome.ticket_keys.clone(),
        };
        let hello = hello(&self.identity, Some(returning));
        link.send(&ToSupervisor::Hello(hello), &[]).await?;
        let (mut welcome, _) = welcome(&mut link).await?;
        send_bound(&mut link, (self.held)()?, &mut welcome.ticket_keys).await?;
        let ready = ToSupervisor::Ready {
            unclaimed: Vec::new(),
            self_tests: Vec::new(),
        };
        link.send(&ready, &[]).await?;
        self.take_keys_of(&mut welcome).await;
        self.welcome = welcome;
        Ok(link)
    }

    /// A supervisor without keys (an older one) changes nothing; other keys than ours replace them.
    async fn take_keys_of(&mut self, welcome: &mut Welcome) {
        let ours = &self.welcome.ticket_keys;
        if welcome.ticket_keys.is_empty() {
            welcome.ticket_keys = ours.clone();
        } else if welcome.ticket_keys != *ours {
            let command = Command::TicketKeys(welcome.ticket_keys.clone());
            // Closed when the worker ends; the next report tells.
            let _ = self.commands.send(command).await;
        }
    }
}

/// Anything else than one passage is none: whoever is at its far end sees that nobody comes.
fn passage(fds: Vec<OwnedFd>) -> Option<Channel> {
    let [end] = <[OwnedFd; 1]>::try_from(fds).ok()?;
    Channel::adopt(end).ok()
}

fn given_state(bytes: u64, fds: Vec<OwnedFd>) -> Command {
    let read = Sealed::adopt(bytes, fds).and_then(|sealed| Ok(sealed.read()?));
    match read {
        Ok(state) => Command::State(state),
        Err(error) => Command::StateRefused(error.to_string()),
    }
}
