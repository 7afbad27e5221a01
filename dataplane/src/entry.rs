//! How this process came to life, and who must be told what it does.
//!
//! ```text
//!   Supervised  listeners over the private channel; orders and reports there; accepts when told
//!   Activated   listeners from systemd's socket unit; notifies systemd
//!   Alone       binds everything; notifies whoever set NOTIFY_SOCKET
//! ```
//!
//! Room  the start only; afterwards `orders` holds what is left of it.

use handoff::notify::Notifier;
use handoff::worker::{
    Conversation, HeldFn, Identity, Provision, SelfTest, Session, SessionError, describe,
};
use handoff::{ListenerName, Listeners, TICKET_KEY_BYTES};

/// Who this binary is, to people (`lb 1.3.0`) or to the supervisor that asks.
pub fn version(program: &str, identity: &Identity) -> String {
    describe(identity).unwrap_or_else(|| format!("{program} {}", identity.version))
}

/// A process that is starting.
#[derive(Debug)]
pub(crate) enum Entry {
    Supervised(Box<Session>),
    Unsupervised,
}

impl Entry {
    /// Receives every listener somebody else holds for us.
    pub(crate) async fn open(
        provision: Provision,
        identity: &Identity,
    ) -> Result<(Self, Listeners), SessionError> {
        match provision {
            Provision::Supervised(channel) => {
                let (session, listeners) = Session::open(channel, identity).await?;
                tracing::info!(
                    generation = session.generation(),
                    listeners = listeners.names().count(),
                    "started by a supervisor"
                );
                Ok((Self::Supervised(Box::new(session)), listeners))
            }
            Provision::Activated(activated) => {
                for refused in &activated.refused {
                    tracing::warn!("socket activation: {refused}");
                }
                let listeners = activated.listeners;
                tracing::info!(
                    listeners = listeners.names().count(),
                    "started by socket activation"
                );
                Ok((Self::Unsupervised, listeners))
            }
            Provision::Alone => Ok((Self::Unsupervised, Listeners::new())),
        }
    }

    /// The generation the supervisor gave; 0 without one.
    pub(crate) fn generation(&self) -> u64 {
        match self {
            Self::Supervised(session) => session.generation(),
            Self::Unsupervised => 0,
        }
    }

    /// The keys of session tickets that the supervisor gave; none without one.
    pub(crate) fn ticket_keys(&self) -> &[[u8; TICKET_KEY_BYTES]] {
        match self {
            Self::Supervised(session) => session.ticket_keys().as_slice(),
            Self::Unsupervised => &[],
        }
    }

    /// Gives the supervisor what we had to bind ourselves.
    pub(crate) async fn offer(&mut self, bound: Listeners) -> Result<(), SessionError> {
        match self {
            Self::Supervised(session) if !bound.is_empty() => session.offer(bound).await,
            Self::Supervised(_) | Self::Unsupervised => Ok(()),
        }
    }

    /// Tells the person who started an upgrade why this process cannot serve.
    pub(crate) async fn fail(self, reason: String) {
        if let Self::Supervised(session) = self {
            session.fail(reason).await;
        }
    }

    /// Everything is in place.
    pub(crate) fn ready(
        self,
        unclaimed: Vec<ListenerName>,
        self_tests: Vec<SelfTest>,
        held: HeldFn,
    ) -> (Option<Conversation>, Notifier) {
        match self {
            // The supervisor is the service manager's only speaker.
            Self::Supervised(session) => {
                let conversation = session.ready(unclaimed, self_tests, held);
                (Some(conversation), Notifier::silent())
            }
            Self::Unsupervised => (None, Notifier::from_environment()),
        }
    }
}
