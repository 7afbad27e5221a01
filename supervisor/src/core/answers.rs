//! Answers to people and drivers.

use std::time::{Duration, Instant};

use control::{Answer, ArtifactStatus, Event as Told, Status, UpgradeStatus, Verdict};
use handoff::supervisor::Order;
use tokio::sync::{mpsc, oneshot};

use super::upgrade::Target;
use super::{Core, rfc3339_now};
use crate::canary::Canary;
use crate::record::{self, Artifact};
use crate::requests::{Request, Terms};

impl Core {
    pub(super) fn handle_request(&mut self, request: Request, now: Instant) {
        match request {
            Request::Status(answer) => {
                let _ = answer.send(self.status(now));
            }
            Request::Metrics(answer) => {
                let _ = answer.send(self.snapshot(now));
            }
            Request::History(answer) => {
                let _ = answer.send(record::read_history(&self.layout.history()));
            }
            Request::Upgrade {
                binary,
                terms,
                dry_run,
                events,
            } => self.begin_or_refuse(
                "upgrade",
                Some(if dry_run {
                    Target::DryRun(binary)
                } else {
                    Target::Binary(binary)
                }),
                terms,
                events,
                now,
            ),
            Request::Resume(events) => self.resume_or_refuse(events, now),
            Request::SelfUpgrade { binary, events } => {
                self.begin_self_upgrade(binary, events, now);
            }
            Request::Rollback(events) => self.roll_back(events, now),
            Request::Abort(answer) => {
                let ok = self.abort(now);
                let message = if ok {
                    "aborting"
                } else {
                    "no upgrade is running that could be aborted"
                };
                reply(answer, ok, message.to_owned());
            }
            Request::Reload(answer) => self.request_reload(answer),
            Request::Stop(answer) => {
                let within = humantime::format_duration(self.settings.stop_timeout);
                reply(
                    answer,
                    true,
                    format!("stopping; connections may finish within {within}"),
                );
                self.stop(now);
            }
        }
    }

    /// An upgrade in flight is aborted; otherwise the previous version is swapped in.
    fn roll_back(&mut self, events: mpsc::UnboundedSender<Told>, now: Instant) {
        if let Some(swap) = self.swap.as_mut() {
            swap.watchers.push(events);
            self.abort(now);
            return;
        }
        let target = self.record.previous.clone().map(Target::Artifact);
        // What ran before needs no proof.
        let terms = Terms {
            bake: Some(Duration::ZERO),
            canary: Some(Vec::new()),
            ..Terms::default()
        };
        self.begin_or_refuse("rollback", target, terms, events, now);
    }

    fn begin_or_refuse(
        &mut self,
        kind: &'static str,
        target: Option<Target>,
        terms: Terms,
        events: mpsc::UnboundedSender<Told>,
        now: Instant,
    ) {
        let steps = terms
            .canary
            .clone()
            .unwrap_or_else(|| self.settings.canary.clone());
        let canary = Canary::new(&steps);
        let refusal = if let Some(swap) = &self.swap {
            let age = now.saturating_duration_since(swap.started);
            Some((
                Verdict::Busy,
                format!(
                    "{} to {} is running since {} ({:.0} s ago), phase {}; wait for it or `supervisor abort`",
                    swap.kind,
                    swap.binary,
                    swap.since,
                    age.as_secs_f64(),
                    self.phase.as_str(),
                ),
            ))
        } else if let Some(reason) = self.busy_with_self_upgrade() {
            Some((Verdict::Busy, reason))
        } else if self.stopping {
            Some((Verdict::Refused, "the supervisor is stopping".to_owned()))
        } else if self.waits_for_its_incumbent() {
            Some((
                Verdict::Refused,
                "the supervisor has just started and still waits for its serving worker; try again in some seconds".to_owned(),
            ))
        } else if self.incumbent_is_out_of_reach() {
            Some((
                Verdict::Refused,
                "the serving worker lost its channel and is about to return; try again in a second"
                    .to_owned(),
            ))
        } else if let Err(error) = &canary {
            Some((Verdict::Refused, error.to_string()))
        } else if !steps.is_empty() && !self.record.committed.is_native() {
            let reason = "a program without the native handoff cannot divide its listeners: leave --canary out; both versions accept during the bake";
            Some((Verdict::Refused, reason.to_owned()))
        } else if target.is_none() {
            Some((
                Verdict::Refused,
                "there is no previous version to return to".to_owned(),
            ))
        } else {
            None
        };
        match (refusal, target) {
            (None, Some(Target::DryRun(binary))) => self.dry_run(binary, events, now),
            (None, Some(target)) => {
                let terms = (terms, canary.unwrap_or_default());
                self.begin(kind, target, terms, events, now);
            }
            (refusal, _) => {
                let (verdict, reason) = refusal.unwrap_or((Verdict::Refused, String::new()));
                let _ = events.send(self.refusal(verdict, reason));
            }
        }
    }

    /// A restarted supervisor has nothing to swap until the serving worker is back. One that only drains
    /// may return later: it takes no part in a swap.
    fn waits_for_its_incumbent(&self) -> bool {
        let serving = self.record.serving;
        self.expected_until.is_some()
            && (!self.is_serving() || self.expected.iter().any(|one| one.generation == serving))
    }

    /// An incumbent that serves but cannot be told to stop must not be joined by a successor.
    fn incumbent_is_out_of_reach(&mut self) -> bool {
        self.incumbent().is_some_and(|incumbent| {
            incumbent.accepting && incumbent.artifact.is_native() && incumbent.orders.is_none()
        })
    }

    pub(super) fn refusal(&self, verdict: Verdict, reason: String) -> Told {
        Told {
            event: "refused".to_owned(),
            phase: self.phase_word().to_owned(),
            at: rfc3339_now(),
            message: reason.clone(),
            verdict: Some(verdict),
            exit_code: Some(verdict.exit_code()),
            reason: Some(reason),
            ..Told::default()
        }
    }

    fn request_reload(&mut self, answer: oneshot::Sender<Answer>) {
        if self.swap.is_some() {
            return reply(
                answer,
                false,
                "an upgrade is running; reload after it".to_owned(),
            );
        }
        let (done, outcome) = oneshot::channel();
        self.reload(Some(done));
        tokio::spawn(async move {
            let outcome = tokio::time::timeout(RELOAD_DEADLINE, outcome).await;
            match outcome {
                Ok(Ok(Ok(()))) => reply(answer, true, "the new configuration runs".to_owned()),
                Ok(Ok(Err(mistakes))) => reply(answer, false, mistakes.join("\n")),
                Ok(Err(_)) => reply(answer, false, "no worker is there to reload".to_owned()),
                Err(_) => reply(
                    answer,
                    false,
                    format!("the worker did not answer within {RELOAD_DEADLINE:?}"),
                ),
            }
        });
    }

    /// Asks the incumbent to read its configuration again.
    pub(super) fn reload(&mut self, done: Option<oneshot::Sender<Result<(), Vec<String>>>>) {
        self.notifier.reloading();
        let Some(incumbent) = self.incumbent().filter(|incumbent| incumbent.ready) else {
            tracing::warn!("no worker is there to reload");
            self.notifier.ready(&self.status_line());
            return;
        };
        if incumbent.artifact.is_native() {
            incumbent.order(Order::Reload);
            self.reloading_until = Some(Instant::now() + RELOAD_DEADLINE);
            self.reload_waiters.extend(done);
        } else {
            incumbent.process.signal(rustix::process::Signal::HUP);
            self.reload_waiters.extend(done);
            self.handle_reloaded(Vec::new());
        }
    }

    pub(super) fn handle_reloaded(&mut self, mistakes: Vec<String>) {
        self.reloading_until = None;
        if mistakes.is_empty() {
            tracing::info!("the new configuration runs");
        } else {
            tracing::error!(
                "the configuration is refused, the running one stays:\n{}",
                mistakes.join("\n")
            );
        }
        for waiter in std::mem::take(&mut self.reload_waiters) {
            let outcome = if mistakes.is_empty() {
                Ok(())
            } else {
                Err(mistakes.clone())
            };
            let _ = waiter.send(outcome);
        }
        // There is no word for a failed reload in sd_notify(3): READY ends it, the status tells.
        self.notifier.ready(&self.status_line());
    }

    pub(super) fn status(&self, now: Instant) -> Status {
        Status {
            name: self.name.clone(),
            phase: self.phase_word().to_owned(),
            committed: Some(artifact_status(&self.record.committed)),
            previous: self.record.previous.as_ref().map(artifact_status),
            generations: self
                .generations
                .values()
                .map(|generation| generation.status(now))
                .collect(),
            left_behind: self.left_behind_status(now),
            listeners: self.holder.status(),
            upgrade: self.swap.as_ref().map(|swap| UpgradeStatus {
                binary: swap.binary.clone(),
                version: swap
                    .artifact
                    .as_ref()
                    .map(|artifact| artifact.version.clone())
                    .unwrap_or_default(),
                since: swap.since.clone(),
                for_s: now.saturating_duration_since(swap.started).as_secs(),
                canary: self.canary_status(),
                paused: swap.paused.clone(),
            }),
            supervisor_version: crate::VERSION.to_owned(),
            supervisor_pid: std::process::id(),
            supervisor_sha256: crate::image::known_digest().to_owned(),
            crashes_total: self.crashes_total,
        }
    }
}

/// How long a worker may take to reload.
const RELOAD_DEADLINE: Duration = Duration::from_secs(8);

fn artifact_status(artifact: &Artifact) -> ArtifactStatus {
    ArtifactStatus {
        version: artifact.version.clone(),
        sha256: artifact.sha256.clone(),
    }
}

fn reply(answer: oneshot::Sender<Answer>, ok: bool, message: String) {
    let _ = answer.send(Answer { ok, message });
}
