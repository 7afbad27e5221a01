//! Everything that asks something of the running process, as one stream of orders: the supervisor's
//! commands, signals, the clock.
//!
//! Room  waits; carries nothing out.
//! Out   [`Order`], obeyed by `life`; reports on their way to the supervisor, status to the service manager.
//! Holds the second stop signal means "now", whatever the first one began.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use handoff::link::Channel;
use handoff::notify::Notifier;
use handoff::worker::{Command, Conversation, Report};
use handoff::{ListenerName, Share, TicketKeys};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::process::{Signal, Signals};

/// What is asked.
#[derive(Debug)]
pub(crate) enum Order {
    /// Accept on this part of every listener's group; answered by [`Report::Accepting`].
    Accept(Share),
    /// A self-test: serve this connection as if it had been accepted on that listener.
    Serve(ListenerName, OwnedFd),
    /// `within` is `None` where the configuration decides.
    Drain {
        within: Option<Duration>,
    },
    Reload,
    Shutdown,
    /// Answered by [`Report::Moved`].
    Give {
        passage: Channel,
        percent: u8,
    },
    Take(Channel),
    TicketKeys(TicketKeys),
    /// Answered by [`Report::State`].
    ShareState,
    /// Of the incumbent; comes before the first [`Order::Accept`].
    State(Vec<u8>),
    /// It cannot be used, and why.
    StateRefused(String),
    /// [`TICK`] has passed.
    Tick,
}

/// How often upstreams are looked after and a drain is checked.
///
/// Sized: an ejection ends within a quarter of a second of its time.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// How long the last report may take to reach the supervisor. Sized: it is written at once, times many.
const LAST_REPORT_DEADLINE: Duration = Duration::from_secs(2);

/// Where orders arrive and reports leave.
#[derive(Debug)]
pub(crate) struct Orders {
    signals: Signals,
    conversation: Option<Conversation>,
    notifier: Notifier,
    ticks: Interval,
    watched_at: Instant,
    stop_was_asked: bool,
}

impl Orders {
    pub(crate) fn new(
        signals: Signals,
        conversation: Option<Conversation>,
        notifier: Notifier,
    ) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            signals,
            conversation,
            notifier,
            ticks,
            watched_at: Instant::now(),
            stop_was_asked: false,
        }
    }

    /// True when a supervisor says when to accept.
    pub(crate) fn is_supervised(&self) -> bool {
        self.conversation.is_some()
    }

    /// The service manager, if one listens.
    pub(crate) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// The next order.
    pub(crate) async fn next(&mut self) -> Order {
        tokio::select! {
            command = next_command(&mut self.conversation) => match command {
                Command::Accept(share) => Order::Accept(share),
                Command::Serve { listener, connection } => Order::Serve(listener, connection),
                Command::Drain { within } => Order::Drain { within: Some(within) },
                Command::Give { passage, percent } => Order::Give { passage, percent },
                Command::Take(passage) => Order::Take(passage),
                Command::Reload => Order::Reload,
                Command::Shutdown => Order::Shutdown,
                Command::TicketKeys(keys) => Order::TicketKeys(keys),
                Command::ShareState => Order::ShareState,
                Command::State(state) => Order::State(state),
                Command::StateRefused(reason) => Order::StateRefused(reason),
            },
            signal = self.signals.next() => match signal {
                Signal::Reload => Order::Reload,
                Signal::Stop if self.stop_was_asked => Order::Shutdown,
                Signal::Stop => {
                    self.stop_was_asked = true;
                    Order::Drain { within: None }
                }
            },
            _ = self.ticks.tick() => Order::Tick,
        }
    }

    /// Tells the service manager's watchdog that the control thread lives, twice in its interval.
    pub(crate) fn watch(&mut self) {
        let interval = self.notifier.watchdog_interval();
        if interval.is_some_and(|interval| self.watched_at.elapsed() + TICK >= interval / 2) {
            self.watched_at = Instant::now();
            self.notifier.watchdog();
        }
    }

    /// Tells the supervisor, if there is one.
    pub(crate) fn report(&self, report: Report) {
        if let Some(conversation) = &self.conversation {
            // Closed when the conversation ended for good: then nobody wants to know.
            let _ = conversation.reports.send(report);
        }
    }

    /// How a task of its own tells the supervisor; `None`: there is none.
    pub(crate) fn reporter(&self) -> Option<UnboundedSender<Report>> {
        let conversation = self.conversation.as_ref();
        conversation.map(|conversation| conversation.reports.clone())
    }

    /// Waits until the last report has left.
    pub(crate) async fn close(self) {
        if let Some(conversation) = self.conversation {
            conversation.close(LAST_REPORT_DEADLINE).await;
        }
    }
}

/// Never returns without a supervisor, or after its conversation ended for good: we serve on.
async fn next_command(conversation: &mut Option<Conversation>) -> Command {
    if let Some(talk) = conversation
        && let Some(command) = talk.commands.recv().await
    {
        return command;
    }
    std::future::pending().await
}
