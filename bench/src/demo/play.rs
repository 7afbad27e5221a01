//! The play itself: loads on, swaps, a bad binary, loads off, everything drained.
//!
//! Room  the order of steps, each with its deadline.
//! In    a scene with a running supervisor.
//! Out   findings; nothing is judged here.
//! Holds loads run from before the first swap until after the last.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::findings::{Findings, Swap};
use super::loads::{Loads, merge};
use super::narrator::{Narrator, name_of};
use super::scene::Scene;
use super::status::Status;
use super::supervisor::{Outcome, Upgrade};
use super::{Program, Settings, processes};
use crate::load::StartLoadError;
use crate::output::Output;

/// From the supervisor's start to a serving process. Sized: measured well under 2 s, times ten.
const START_LIMIT: Duration = Duration::from_secs(20);

/// For a swap beyond its bake: staging, start, readiness.
const SWAP_LIMIT: Duration = Duration::from_secs(60);

/// The bad binary never becomes ready: as long as it takes to be sure of that on a loaded machine.
const BAD_READY_TIMEOUT: Duration = Duration::from_secs(2);

/// After a swap the incumbent is settled at once; after a crash it is started again with a back-off.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);

/// From the verdict to the end of an old process whose connections have moved. Sized: it takes milliseconds; a loaded machine and
/// a look at the status now and then.
const GONE_LIMIT: Duration = Duration::from_millis(1500);

/// From the end of the loads to the end of every draining generation.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Loads run alone before the first swap: what is slow then is not the swaps' doing.
const BASELINE: Duration = Duration::from_secs(2);

/// Loads run on after the last swap, so that a late loss of it is still seen.
const AFTERGLOW: Duration = Duration::from_secs(2);

/// The verdict after which the incumbent drains.
const COMMITTED: &str = "committed";

/// Between two progress lines.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Why the play ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlayError {
    #[error("interrupted")]
    Interrupted,
    #[error("the supervisor did not bring up a serving process within {START_LIMIT:?}")]
    NoIncumbent,
    #[error("the supervisor ended before anything served")]
    SupervisorEnded,
    #[error("the clients were not all connected in time: {0}")]
    NotEstablished(String),
    #[error("the loads cannot be started")]
    Load(#[from] StartLoadError),
    #[error("`supervisor upgrade` cannot be run: {0}")]
    Upgrade(#[from] io::Error),
    #[error("`supervisor upgrade` of {0} did not end within its bake and {SWAP_LIMIT:?}")]
    UpgradeHung(String),
}

/// What is on the stage while it plays.
struct Play<'a> {
    scene: &'a mut Scene,
    settings: &'a Settings,
    narrator: Narrator<'a>,
    loads: Loads,
    swaps: Vec<Swap>,
}

pub(super) async fn play(
    scene: &mut Scene,
    settings: &Settings,
    output: &mut Output,
) -> Result<Findings, PlayError> {
    let served = scene.supervisor.wait_for_incumbent(START_LIMIT).await;
    if served.is_none() {
        let is_running = scene.supervisor.is_running();
        return Err(if is_running {
            PlayError::NoIncumbent
        } else {
            PlayError::SupervisorEnded
        });
    }
    let loads = Loads::start(&scene.entries, settings.connections)?;
    if !loads.wait_until_established().await {
        return Err(PlayError::NotEstablished(crate::report::progress(
            &loads.snapshot(),
            loads.established(),
        )));
    }
    let mut play = Play {
        scene,
        settings,
        narrator: Narrator::new(output),
        loads,
        swaps: Vec::new(),
    };
    play.run_on("before the swaps", BASELINE).await;
    play.all_swaps().await?;
    let rest = settings.duration.saturating_sub(play.loads.epoch.elapsed());
    play.run_on("after the swaps", rest.max(AFTERGLOW)).await;
    Ok(play.end().await)
}

impl Play<'_> {
    async fn all_swaps(&mut self) -> Result<(), PlayError> {
        let swaps = self.settings.swaps;
        let middle = swaps / 2;
        for number in 0..=swaps {
            if number > 0 {
                let artifact = self.scene.artifact(number).to_owned();
                self.swap(format!("swap {number}"), &artifact, None).await?;
                self.loads.add_streams()?;
            }
            if number == middle {
                let artifact = self.scene.never_ready.clone();
                self.swap("bad binary".to_owned(), &artifact, Some(BAD_READY_TIMEOUT))
                    .await?;
                if self.settings.inject_loss {
                    self.kill_incumbent().await;
                }
            }
        }
        Ok(())
    }

    /// One `supervisor upgrade`. With a limit for readiness: of the bad binary.
    async fn swap(
        &mut self,
        step: String,
        artifact: &Path,
        ready: Option<Duration>,
    ) -> Result<(), PlayError> {
        let name = format!("{step} ({})", name_of(artifact));
        let before = self.incumbent().await;
        let from = self.loads.epoch.elapsed();
        let upgrade = self
            .scene
            .supervisor
            .upgrade(artifact, self.settings.bake, ready)?;
        let limit = SWAP_LIMIT + self.settings.bake;
        let outcome = timeout(limit, self.follow(upgrade, &name))
            .await
            .map_err(|_| PlayError::UpgradeHung(name.clone()))??;
        let until = self.loads.epoch.elapsed();
        let incumbents = (before, self.incumbent().await);
        let old_gone = match before.filter(|_| outcome.exit_code == Some(0)) {
            Some(old) => self.until_gone(old, until).await,
            None => None,
        };
        let swap = Swap {
            old_gone,
            // Over TLS connections drain.
            must_go: self.scene.program == Program::Lb,
            name,
            is_bad: ready.is_some(),
            from,
            until,
            outcome,
            incumbents,
        };
        self.narrator.swapped(&swap, &self.loads);
        self.swaps.push(swap);
        Ok(())
    }

    /// How long after `since` this process had ended; `None`: it stays.
    async fn until_gone(&mut self, pid: u32, since: Duration) -> Option<Duration> {
        let is_gone = |status: &Status| {
            let mut living = status.generations.iter();
            living.all(|generation| generation.pid != pid).then_some(())
        };
        let supervisor = &mut self.scene.supervisor;
        supervisor.wait_for(GONE_LIMIT, is_gone).await?;
        Some(self.loads.epoch.elapsed().saturating_sub(since))
    }

    /// Shows an upgrade's events and the loads' progress until it ends.
    async fn follow(&mut self, mut upgrade: Upgrade, name: &str) -> io::Result<Outcome> {
        let mut ticks = interval(PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut phase = String::new();
        loop {
            tokio::select! {
                event = upgrade.next_event() => match event {
                    Some((event, line)) => {
                        if event.verdict.as_deref() == Some(COMMITTED) {
                            self.scene.entries.drain_begins();
                        }
                        self.narrator.upgrade_event(name, &line);
                        phase = if event.phase.is_empty() { event.event } else { event.phase };
                    }
                    None => return upgrade.finish().await,
                },
                _ = ticks.tick() => self.narrator.progress(&format!("{name}: {phase}"), &self.loads),
            }
        }
    }

    async fn incumbent(&mut self) -> Option<u32> {
        self.scene
            .supervisor
            .wait_for_incumbent(SETTLE_LIMIT)
            .await
            .map(|generation| generation.pid)
    }

    /// The deliberate loss: the process that serves dies without a word.
    async fn kill_incumbent(&mut self) {
        if let Some(pid) = self.incumbent().await {
            self.narrator.injected(pid);
            processes::kill(pid, None);
            let is_another = |status: &Status| {
                status
                    .settled_incumbent()
                    .filter(|other| other.pid != pid)
                    .map(drop)
            };
            // If none comes, the next swap says so.
            self.scene
                .supervisor
                .wait_for(SETTLE_LIMIT, is_another)
                .await
                .unwrap_or_default();
        }
    }

    /// Loads go on for `duration` and nothing else happens.
    async fn run_on(&mut self, step: &str, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.narrator.progress(step, &self.loads);
            sleep(PROGRESS_INTERVAL.min(end.saturating_duration_since(Instant::now()))).await;
        }
    }

    async fn end(mut self) -> Findings {
        let generations = self
            .scene
            .supervisor
            .status()
            .await
            .map_or(0, |status| status.generations.len());
        self.narrator.ending(generations);
        let parts = self.loads.finish().await;
        let is_alone = |status: &Status| {
            (status.settled_incumbent().is_some() && status.generations.len() == 1).then_some(())
        };
        let is_drained = self
            .scene
            .supervisor
            .wait_for(DRAIN_LIMIT, is_alone)
            .await
            .is_some();
        Findings {
            program: self.scene.program,
            ledger: merge(parts.iter().map(|(_, ledger)| ledger.clone())),
            parts,
            swaps: self.swaps,
            swaps_wanted: self.settings.swaps,
            concurrent: self.narrator.concurrent(),
            generations_draining: generations.saturating_sub(1),
            is_drained,
            injected: self.settings.inject_loss,
            processes_left: Vec::new(),
        }
    }
}
