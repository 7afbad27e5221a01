//! After a supervisor died: its workers serve on; this one finds them again.
//!
//! Holds  nothing is believed that the kernel (peer credentials, start time) and the token do not prove;
//!        a half-done upgrade is undone, its incumbent accepts again.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use control::Role;
use handoff::Share;
use handoff::link::Link;
use handoff::message::{Hello, Posture, Returning};
use handoff::supervisor::{Offer, Order, converse, refuse};
use tokio::sync::mpsc;

use super::generations::history;
use super::{Core, Happening};
use crate::child::{KILL_AFTER, Process};
use crate::generation::Generation;
use crate::level1::{self, Ears};
use crate::record::{self, WorkerRecord};
use crate::swap::{Event, Phase};

/// How long the workers of an earlier supervisor may take to return (they look five times a second).
const RETURN_DEADLINE: Duration = Duration::from_secs(5);

impl Core {
    /// Reads who was alive; without anybody, the committed version starts at once.
    pub(super) fn expect_living_workers(&mut self, now: Instant) {
        let workers = match record::load::<Vec<WorkerRecord>>(&self.layout.workers()) {
            Ok(workers) => workers.unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "the workers of an earlier supervisor are unknown");
                Vec::new()
            }
        };
        for worker in workers {
            if let Some(process) = Process::find(worker.pid, worker.started) {
                self.expect(worker, process, now);
            }
        }
        if self.expected.is_empty() {
            // Does nothing when a level 1 incumbent was found alive.
            self.restart_at = Some(now);
        } else {
            tracing::info!(
                workers = self.expected.len(),
                "workers of an earlier supervisor are alive"
            );
            self.expected_until = Some(now + RETURN_DEADLINE);
        }
    }

    fn expect(&mut self, worker: WorkerRecord, process: Process, now: Instant) {
        if let Err(error) = self.watch(worker.generation, &process) {
            tracing::error!(%error, pid = worker.pid, "cannot be watched");
            return;
        }
        let role = if worker.generation == self.record.serving {
            Role::Incumbent
        } else {
            Role::Draining
        };
        self.record.generation = self.record.generation.max(worker.generation);
        let native = worker.artifact.is_native();
        let ears = if native {
            None
        } else {
            self.take_back(&worker, &process)
        };
        self.generations.insert(
            worker.generation,
            Generation {
                number: worker.generation,
                artifact: worker.artifact.clone(),
                role,
                process,
                token: worker.token.clone(),
                started_ticks: worker.started,
                started: now,
                orders: None,
                ready: !native,
                accepting: !native,
                divides: false,
                moves: 0,
                stayed: BTreeMap::new(),
                samples: VecDeque::new(),
                self_tests: Vec::new(),
                is_retired: false,
                silent: Duration::ZERO,
                unclaimed: Vec::new(),
                stats: None,
                complaint: None,
                lost_at: None,
                kill_at: None,
                inherited: worker.inherited.clone(),
                health: None,
                ears,
            },
        );
        if native {
            self.expected.push(worker);
        } else if role == Role::Incumbent {
            self.handle_accepting(worker.generation, Share::ALL, now);
        } else if let Some(generation) = self.generations.get_mut(&worker.generation) {
            generation.drain(self.settings.drain_timeout, now);
        }
    }

    /// A level 1 program has no channel to return by: its sockets are taken from the process itself.
    fn take_back(&mut self, worker: &WorkerRecord, process: &Process) -> Option<Ears> {
        match process.take_back(&worker.inherited) {
            Ok(listeners) => self.holder.take_over_missing(listeners),
            Err(error) => {
                tracing::error!(%error, pid = worker.pid, "its listeners cannot be taken back");
            }
        }
        let socket = self.layout.notify_socket(worker.generation);
        level1::listen(&socket, worker.generation, self.happenings.clone())
            .inspect_err(|error| tracing::error!(%error, pid = worker.pid, "it cannot be heard"))
            .ok()
    }

    /// A worker came through the rendezvous.
    pub(super) fn handle_return(&mut self, (mut link, hello): (Link, Hello), now: Instant) {
        let Some(returning) = self.recognise(&hello) else {
            tracing::warn!(
                pid = hello.pid,
                "an unknown worker wanted to return: refused"
            );
            tokio::spawn(async move {
                refuse(&mut link, "this supervisor does not know you".to_owned()).await;
            });
            return;
        };
        let Some(generation) = self.generations.get_mut(&returning.generation) else {
            return;
        };
        if generation.role == Role::Incumbent && returning.posture == Posture::Draining {
            // A predecessor let it go; it finishes what it holds and somebody else has to serve.
            generation.role = Role::Draining;
            generation.kill_at = Some(now + self.settings.drain_timeout + KILL_AFTER);
            self.restart_at = Some(now);
        }
        self.ticket_keys.adopt(&returning.ticket_keys, now);
        let (orders, orders_out) = mpsc::unbounded_channel();
        generation.orders = Some(orders);
        generation.complaint = None;
        generation.lost_at = None;
        if generation.role != Role::Draining {
            generation.kill_at = None;
        }
        let offer = Offer {
            generation: returning.generation,
            token: generation.token.clone(),
            rendezvous: self.layout.rendezvous().display().to_string(),
            listeners: handoff::Listeners::new(),
            ticket_keys: self.ticket_keys.keys(now),
        };
        let (number, happenings) = (returning.generation, self.happenings.clone());
        tokio::spawn(async move {
            converse(link, &hello, offer, orders_out, |fact| {
                let _ = happenings.send(Happening::Fact(number, fact));
            })
            .await;
        });
    }

    fn recognise(&self, hello: &Hello) -> Option<Returning> {
        let returning = hello.returning.clone()?;
        let generation = self.generations.get(&returning.generation)?;
        let is_itself = generation.token == returning.token
            && generation.process.pid() == hello.pid
            && generation.orders.is_none();
        is_itself.then_some(returning)
    }

    /// A worker that returned is ready: it goes on in its role. False for one that just started.
    pub(super) fn returned(&mut self, number: u64, now: Instant) -> bool {
        let was_expected = self
            .expected
            .iter()
            .any(|record| record.generation == number);
        self.expected.retain(|record| record.generation != number);
        let Some(generation) = self.generations.get_mut(&number) else {
            return false;
        };
        if !was_expected {
            generation.drain_on(now);
            return false;
        }
        tracing::info!(generation = number, pid = generation.process.pid(), role = %generation.role, "returned");
        match generation.role {
            Role::Incumbent => {
                generation.order(Order::Accept(Share::ALL));
                if self.self_upgrade.is_none() {
                    self.append_history(history("re-adopted"));
                }
            }
            Role::Draining if generation.kill_at.is_some() => generation.drain_on(now),
            Role::Successor | Role::Draining => {
                generation.drain(self.settings.drain_timeout, now);
            }
        }
        self.save_workers();
        true
    }

    /// When nobody is expected any more (or the time is over) and nobody serves, the committed version
    /// starts.
    pub(super) fn tick_expected(&mut self, now: Instant) {
        let Some(until) = self.expected_until else {
            return;
        };
        if !self.expected.is_empty() && now < until {
            return;
        }
        self.expected_until = None;
        for worker in std::mem::take(&mut self.expected) {
            // It lives and does not answer: what it holds is not to be had, and its sockets would
            // collect clients that nobody serves.
            tracing::error!(
                generation = worker.generation,
                pid = worker.pid,
                "did not return: ended"
            );
            if let Some(generation) = self.generations.get_mut(&worker.generation) {
                generation.end(now);
            }
        }
        let has_incumbent = self
            .generations
            .values()
            .any(|generation| generation.role == Role::Incumbent);
        if !has_incumbent {
            self.restart_at = Some(now);
        }
    }

    /// An incumbent that dies while it is expected is restarted like any other.
    pub(super) fn advance_if_allowed(&mut self, event: Event, now: Instant) {
        if self.phase.on(event).is_ok() {
            self.advance(event, now);
        } else if self.phase != Phase::Idle {
            tracing::debug!(?event, phase = ?self.phase, "of no consequence");
        }
    }
}
