//! One generation: a worker process, what it is for, and what it said last.
//!
//! Room  a value and its orders; the loop in `core` decides.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use control::{AgeStatus, GenerationStatus, HeldStatus, Role};
use handoff::ListenerName;
use handoff::held::{AGES_S, Held};
use handoff::message::{SelfTest, Stats};
use handoff::supervisor::Order;
use rustix::process::Signal;
use tokio::sync::mpsc;

use crate::child::{KILL_AFTER, Process};
use crate::health::Health;
use crate::level1::Ears;
use crate::record::{Artifact, WorkerRecord};
use crate::usage;
use crate::verdict::Sample;

/// A worker.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) artifact: Artifact,
    pub(crate) role: Role,
    pub(crate) process: Process,
    pub(crate) token: String,
    /// Field 22 of /proc/PID/stat.
    pub(crate) started_ticks: u64,
    pub(crate) started: Instant,
    /// `None`: a level 1 program, or a native one that lost its channel and has not returned yet.
    pub(crate) orders: Option<mpsc::UnboundedSender<Order>>,
    pub(crate) ready: bool,
    pub(crate) accepting: bool,
    /// It can accept on a part of a group and serve a self-test.
    pub(crate) divides: bool,
    /// The highest form of connection records that it reads; 0: it moves none.
    pub(crate) moves: u16,
    /// Connections that could not move, by reason, when it gave the others away.
    pub(crate) stayed: BTreeMap<String, u64>,
    pub(crate) unclaimed: Vec<ListenerName>,
    /// How it can be tried.
    pub(crate) self_tests: Vec<SelfTest>,
    pub(crate) stats: Option<Stats>,
    /// What it said and used, oldest first; while it serves.
    pub(crate) samples: VecDeque<Sample>,
    /// What it said of its own failure, or how its conversation ended.
    pub(crate) complaint: Option<String>,
    /// When its conversation broke while clients reached it; it may return.
    pub(crate) lost_at: Option<Instant>,
    /// For how long it has said nothing, in time that the supervisor itself was awake.
    pub(crate) silent: Duration,
    /// It drains, and was told to hurry.
    pub(crate) is_retired: bool,
    /// When it is killed if it is still there.
    pub(crate) kill_at: Option<Instant>,
    /// Listeners at descriptor 3 and on (level 1 only).
    pub(crate) inherited: Vec<ListenerName>,
    /// What it answered at the health URL (level 1 only).
    pub(crate) health: Option<Health>,
    /// Its notify socket (level 1 only); closed with the generation.
    pub(crate) ears: Option<Ears>,
}

impl Generation {
    /// Sends an order to a native worker; a level 1 program has none.
    pub(crate) fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }

    /// Lets it finish what it holds, at most `within`, and go.
    pub(crate) fn drain(&mut self, within: Duration, now: Instant) {
        self.role = Role::Draining;
        if !self.ready {
            // It never served: nothing to finish.
            return self.end(now);
        }
        if self.artifact.is_native() && self.orders.is_some() {
            self.order(Order::Drain { within });
        } else if self.kill_at.is_none() {
            // Once only: to many programs a second one means "now".
            self.process.signal(Signal::TERM);
        }
        self.accepting = false;
        self.kill_at = Some(now + within + KILL_AFTER);
    }

    /// Tells a draining worker that came back what is left of its time.
    pub(crate) fn drain_on(&mut self, now: Instant) {
        if let (Role::Draining, Some(at)) = (self.role, self.kill_at) {
            let within = at.saturating_duration_since(now + KILL_AFTER);
            self.order(Order::Drain { within });
        }
    }

    /// Ends it without waiting for connections.
    pub(crate) fn end(&mut self, now: Instant) {
        self.role = Role::Draining;
        self.order(Order::Shutdown);
        self.process.signal(Signal::TERM);
        self.kill_at = Some(now + KILL_AFTER);
    }

    /// Kills it when its time is over.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.kill_at.is_some_and(|at| now >= at) {
            tracing::warn!(
                generation = self.number,
                pid = self.process.pid(),
                "did not end in time: killed"
            );
            self.process.signal(Signal::KILL);
            self.kill_at = None;
        }
    }

    pub(crate) fn status(&self, now: Instant) -> GenerationStatus {
        let stats = self.stats.as_ref();
        let usage = usage::of(self.process.pid());
        GenerationStatus {
            generation: self.number,
            version: self.artifact.version.clone(),
            sha256: self.artifact.sha256.clone(),
            pid: self.process.pid(),
            role: self.role,
            ready: self.ready,
            accepting: self.accepting,
            connections: stats.map(|stats| stats.connections),
            accepted_total: stats.map(|stats| stats.accepted_total),
            errors_total: stats.map(|stats| stats.errors_total),
            bytes_total: stats.map(|stats| stats.bytes_total),
            held: stats.and_then(|stats| stats.held.as_ref()).map(held_status),
            resident_bytes: usage.map(|usage| usage.rss_bytes),
            descriptors: usage.map(|usage| usage.descriptors),
            drain_left_s: self.drain_left(now).map(|left| left.as_secs()),
            retired: self.is_retired,
            age_s: now.saturating_duration_since(self.started).as_secs(),
            status: stats.map(|stats| stats.status.clone()).unwrap_or_default(),
            health: self.health.as_ref().map(|health| health.status(now)),
        }
    }

    fn drain_left(&self, now: Instant) -> Option<Duration> {
        let at = self.kill_at.filter(|_| self.role == Role::Draining)?;
        Some(at.saturating_duration_since(now))
    }

    pub(crate) fn record(&self) -> WorkerRecord {
        WorkerRecord {
            generation: self.number,
            pid: self.process.pid(),
            started: self.started_ticks,
            token: self.token.clone(),
            role: self.role,
            artifact: self.artifact.clone(),
            inherited: self.inherited.clone(),
        }
    }
}

fn held_status(held: &Held) -> HeldStatus {
    let bounds = AGES_S.into_iter().map(Some).chain([None]);
    let ages = bounds.zip(&held.ages);
    HeldStatus {
        ages: ages
            .map(|(below_s, connections)| AgeStatus {
                below_s,
                connections: *connections,
            })
            .collect(),
        oldest_s: held.oldest_s,
        waits: held.waits.clone(),
    }
}
