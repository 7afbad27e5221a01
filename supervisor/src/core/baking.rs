//! The bake: samples of both generations, a judgement each second, and what it leads to.
//!
//! Room  the deeds around `verdict`, which decides; nothing here waits.
//! Holds a bake ends well only after a judgement that is good at its end; while a person is asked, the worst
//!       findings still bring the incumbent back.

use std::time::{Duration, Instant};

use control::{CanaryStatus, Event as Told, Role, Verdict};
use tokio::sync::mpsc;

use super::Core;
use crate::generation::Generation;
use crate::swap::{Event, Phase};
use crate::usage;
use crate::verdict::{Answers, Evidence, Judgement, Queue, Sample, WINDOW_MIN, judge, window};

/// How often a bake is judged and reports what is left of it.
const JUDGE_INTERVAL: Duration = Duration::from_secs(1);

/// How long after its end a bake waits for the successor's first numbers. Sized: they come once a second.
const DATA_GRACE: Duration = Duration::from_millis(2500);

/// How long what is suspect may go on before the incumbent returns.
const SUSPECT_LIMIT: Duration = Duration::from_secs(5);

/// How long a busy host is waited for before a person is asked.
const HOLD_LIMIT: Duration = Duration::from_secs(60);

/// How far back the incumbent's baseline goes.
const BASELINE: Duration = Duration::from_secs(60);

/// Samples that are kept of a generation: one a second, the baseline twice.
const SAMPLES_MAX: usize = 120;

impl Generation {
    /// Looks at what it uses and remembers what it said last.
    pub(super) fn sample(&mut self, now: Instant) {
        let Some(usage) = usage::of(self.process.pid()) else {
            return;
        };
        let stats = self.stats.clone().unwrap_or_default();
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        let sample = Sample {
            at: now,
            accepted: stats.accepted_total,
            requests: stats.requests_total,
            failed: stats.failed_total,
            latency: stats.latency,
            connections: stats.connections,
            healthy: stats.healthy_backends,
            backends: stats.total_backends,
            cpu: usage.cpu,
            rss: usage.rss_bytes,
            descriptors: usage.descriptors,
        };
        if self.samples.is_empty() {
            // Its counters began at zero: so that what it did before its first word counts, too.
            self.samples.push_back(sample.at_the_start(self.started));
        }
        self.samples.push_back(sample);
    }

    fn accepted(&self) -> u64 {
        self.stats.as_ref().map_or(0, |stats| stats.accepted_total)
    }
}

impl Core {
    pub(super) fn start_bake(&mut self, now: Instant) {
        let incumbent = self
            .incumbent()
            .map(|one| (one.artifact.is_native(), one.accepted()));
        let successor = self.successor().map_or(0, Generation::accepted);
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        let length = if swap.canary.is_whole() {
            swap.bake
        } else {
            swap.step
        };
        swap.bake_until = Some(now + length);
        swap.baking_since = Some(now);
        swap.suspect_since = None;
        swap.last_progress = now;
        swap.accepted_before = (successor, incumbent.map_or(0, |(_, accepted)| accepted));
        let percent = swap.canary.percent();
        let length = humantime::format_duration(length);
        let message = match incumbent {
            _ if !swap.canary.is_whole() => {
                let (sockets, of) = self.divided();
                format!(
                    "{percent} % for {length}: the successor accepts on {sockets} of {of} sockets"
                )
            }
            Some((true, _)) => format!("the incumbent is parked and ready to return for {length}"),
            // A level 1 program cannot be told to pause.
            Some((false, _)) => format!("both accept for {length}, then the old one leaves"),
            None => format!("the successor serves alone; bake of {length}"),
        };
        let event = if self.phase == Phase::Canary {
            "canary"
        } else {
            "baking"
        };
        self.tell(event, message);
        self.move_share();
    }

    /// Sockets that the successor accepts on and all, over listeners that can be divided.
    fn divided(&self) -> (usize, usize) {
        let share = self.swap.as_ref().map(|swap| swap.canary.successor());
        let groups = self.holder.status();
        let groups = groups.iter().map(|listener| listener.sockets);
        groups
            .filter(|sockets| *sockets > 1)
            .fold((0, 0), |(own, all), sockets| {
                let held = share.map_or(0, |share| share.places(sockets).len());
                (own + held, all + sockets)
            })
    }

    pub(super) fn canary_status(&self) -> Option<CanaryStatus> {
        let swap = self.swap.as_ref()?;
        swap.baking_since?;
        let (sockets, of) = self.divided();
        let successor = self.successor().map_or(0, Generation::accepted);
        let incumbent = self
            .generations
            .values()
            .find(|one| one.role == Role::Incumbent);
        let (before, incumbent_before) = swap.accepted_before;
        let accepted = successor.saturating_sub(before);
        let others = incumbent
            .map_or(0, Generation::accepted)
            .saturating_sub(incumbent_before);
        Some(CanaryStatus {
            percent: swap.canary.percent(),
            sockets,
            of,
            accepted,
            accepted_by_both: accepted + others,
        })
    }

    /// Judges a running bake when it is due, and ends it when it is over.
    pub(super) fn tick_bake(&mut self, now: Instant) {
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        let is_over = swap.bake_until.is_some_and(|until| now >= until);
        let is_due = now.saturating_duration_since(swap.last_progress) >= JUDGE_INTERVAL;
        let is_ending = is_over && swap.paused.is_none();
        if !is_due && !is_ending {
            return;
        }
        self.sample_the_silent(now);
        let Some(swap) = self.swap.as_ref() else {
            return;
        };
        let is_unproven = swap.bake.is_zero() && swap.canary.is_whole();
        let judgement = if is_unproven {
            // Whoever asks for no bake asks for no verdict.
            Judgement::Good
        } else {
            judge(&self.settings.thresholds, &self.evidence(now))
        };
        if is_due {
            self.report_progress(now);
        }
        self.follow(judgement, is_over, now);
    }

    /// A level 1 program tells nothing; what it uses can still be seen.
    fn sample_the_silent(&mut self, now: Instant) {
        for generation in self.generations.values_mut() {
            if generation.role != Role::Draining && !generation.artifact.is_native() {
                generation.sample(now);
            }
        }
    }

    fn report_progress(&mut self, now: Instant) {
        let line = self.status_line();
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        swap.last_progress = now;
        let message = match &swap.paused {
            Some(reason) => format!("paused: {reason}"),
            None => line,
        };
        self.tell("progress", message);
    }

    fn follow(&mut self, judgement: Judgement, is_over: bool, now: Instant) {
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        let since = match &judgement {
            Judgement::Suspect(_) | Judgement::Hold(_) => *swap.suspect_since.get_or_insert(now),
            _ => {
                swap.suspect_since = None;
                now
            }
        };
        let lasts = now.saturating_duration_since(since);
        let is_paused = swap.paused.is_some();
        let late = swap
            .bake_until
            .is_some_and(|until| now >= until + DATA_GRACE);
        match judgement {
            Judgement::Breach(reason) => self.breach(reason, now),
            Judgement::Suspect(reason) if lasts >= SUSPECT_LIMIT => {
                self.breach(format!("{reason}, for {:.0} s", lasts.as_secs_f64()), now);
            }
            _ if is_paused => self.tick_paused(now),
            // A person has seen it and wants to go on.
            _ if swap.accepts_findings && is_over => self.pass(now),
            Judgement::Pause(reason) => self.pause(reason, now),
            Judgement::Hold(reason) if lasts >= HOLD_LIMIT => self.pause(reason, now),
            Judgement::NoData(reason) if late => {
                self.pause(format!("inconclusive: {reason}"), now);
            }
            Judgement::Good if is_over => self.pass(now),
            Judgement::Good | Judgement::Suspect(_) | Judgement::Hold(_) | Judgement::NoData(_) => {
            }
        }
    }

    fn pass(&mut self, now: Instant) {
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        swap.bake_until = None;
        if self.phase == Phase::Canary {
            swap.canary.advance();
            return self.advance(Event::StepPassed, now);
        }
        self.advance(Event::BakePassed, now);
    }

    pub(super) fn breach(&mut self, reason: String, now: Instant) {
        self.set_reason(reason);
        self.advance_if_allowed(Event::Breached, now);
    }

    /// Whoever waits for the verdict is told that there is none yet.
    fn pause(&mut self, reason: String, now: Instant) {
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        if swap.accepts_findings {
            return;
        }
        swap.paused = Some(reason.clone());
        swap.paused_at = Some(now);
        let watchers = std::mem::take(&mut swap.watchers);
        let limit = humantime::format_duration(self.settings.pause_timeout);
        let message = format!(
            "paused: {reason}; both versions stay as they are. `supervisor resume` goes on, `supervisor abort` returns to the incumbent, which happens by itself in {limit}"
        );
        let told = Told {
            reason: Some(reason),
            verdict: Some(Verdict::Paused),
            exit_code: Some(Verdict::Paused.exit_code()),
            ..self.event("paused", message.clone())
        };
        tracing::warn!(message);
        self.broadcast(&watchers, &told);
    }

    fn tick_paused(&mut self, now: Instant) {
        let limit = self.settings.pause_timeout;
        let Some(swap) = self.swap.as_ref() else {
            return;
        };
        let is_late = swap
            .paused_at
            .is_some_and(|at| now.saturating_duration_since(at) >= limit);
        if is_late {
            let why = swap.paused.clone().unwrap_or_default();
            let limit = humantime::format_duration(limit);
            self.breach(format!("{why}; nobody decided for {limit}"), now);
        }
    }

    /// A person wants a paused upgrade to go on, whatever was found.
    pub(super) fn resume_or_refuse(&mut self, events: mpsc::UnboundedSender<Told>, now: Instant) {
        let is_paused = self.swap.as_ref().is_some_and(|swap| swap.paused.is_some());
        let Some(swap) = self.swap.as_mut().filter(|_| is_paused) else {
            let reason = "no upgrade is paused; see `supervisor status`".to_owned();
            let _ = events.send(self.refusal(Verdict::Refused, reason));
            return;
        };
        swap.paused = None;
        swap.accepts_findings = true;
        swap.watchers.push(events);
        // What was left of the bake when it paused, counted from now.
        let paused_at = swap.paused_at.take().unwrap_or(now);
        let left = swap
            .bake_until
            .map(|until| until.saturating_duration_since(paused_at));
        swap.bake_until = Some(now + left.unwrap_or_default());
        self.tell("resumed", "a person wants the upgrade to go on".to_owned());
    }

    fn evidence(&self, now: Instant) -> Evidence {
        let Some(swap) = self.swap.as_ref() else {
            return Evidence::default();
        };
        let since = swap.baking_since.unwrap_or(now);
        let incumbent = self
            .generations
            .values()
            .find(|one| one.role == Role::Incumbent);
        let successor = self.successor();
        // Numbers told after the successor began to accept; the last ones before are where counting begins.
        let candidate = successor.and_then(|successor| {
            let samples = &successor.samples;
            let first = samples.iter().rposition(|sample| sample.at <= since);
            let counted = window(samples.iter().skip(first.unwrap_or(0)));
            let is_told = samples.iter().any(|sample| sample.at >= since);
            counted.filter(|_| is_told)
        });
        let before = swap.opened_at.unwrap_or(since);
        let baseline = incumbent.and_then(|incumbent| {
            let beside = (self.phase == Phase::Canary)
                .then(|| window(incumbent.samples.iter().filter(|sample| sample.at >= since)))
                .flatten()
                .filter(|window| window.requests >= self.settings.thresholds.min_requests);
            let earliest = before.checked_sub(BASELINE);
            let is_late = |sample: &&Sample| earliest.is_none_or(|earliest| sample.at >= earliest);
            // It speaks once more when it is told to accept less: that tells of the moment before.
            let told = incumbent
                .samples
                .partition_point(|sample| sample.at <= before)
                + 1;
            let is_before = incumbent.samples.iter().take(told).filter(is_late);
            beside.or_else(|| window(is_before))
        });
        let connections = [incumbent, successor]
            .into_iter()
            .flatten()
            .filter_map(|one| one.stats.as_ref())
            .map(|stats| stats.connections)
            .sum();
        Evidence {
            baseline,
            candidate,
            connections,
            cores: std::thread::available_parallelism()
                .map_or(1, usize::from)
                .try_into()
                .map_or(1.0, |cores: u32| f64::from(cores)),
            memory: crate::facts::memory_total(),
            is_native: successor.is_some_and(|one| one.artifact.is_native()),
            answers: successor
                .and_then(|one| one.health.as_ref())
                .map(|health| Answers::of(health, incumbent.and_then(|one| one.health.as_ref()))),
            queue: self.queue(now),
        }
    }

    /// Who waits for the successor, if it tells what it accepts.
    fn queue(&self, now: Instant) -> Queue {
        let successor = self.successor().filter(|one| one.artifact.is_native());
        let (Some(successor), Some(swap)) = (successor, self.swap.as_ref()) else {
            return Queue::default();
        };
        let samples = &successor.samples;
        let first = samples
            .iter()
            .rfind(|sample| now.saturating_duration_since(sample.at) >= WINDOW_MIN)
            .filter(|sample| swap.baking_since.is_some_and(|since| sample.at >= since));
        let moves = first
            .zip(samples.back())
            .map(|(first, last)| last.accepted > first.accepted);
        let share = swap.canary.successor();
        let waiting = crate::queue::waiting(self.holder.part(share)).unwrap_or_default();
        Queue { waiting, moves }
    }
}
