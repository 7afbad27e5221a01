//! The health of generations that tell nothing themselves: rounds of tries beside the loop, and what they lead to.
//!
//! Holds  with a health URL, a program is ready when it has answered itself: READY=1 may come from a master whose
//!        workers are still starting, and some programs never say it.

use std::time::{Duration, Instant};

use control::Role;

use super::{Core, Happening};
use crate::health::{Finding, round};

/// Between two rounds: while a generation is not ready, while a swap is judged, and else.
const UNREADY_INTERVAL: Duration = Duration::from_millis(200);
const SWAP_INTERVAL: Duration = Duration::from_secs(1);
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

impl Core {
    /// Begins the rounds that are due, as tasks; each comes back as [`Happening::Probed`].
    pub(super) fn tick_health(&mut self, now: Instant) {
        let Some(url) = &self.settings.health_url else {
            return;
        };
        let is_swapping = self.swap.is_some();
        for generation in self.generations.values_mut() {
            if generation.artifact.is_native() || generation.role == Role::Draining {
                continue;
            }
            let interval = match (generation.ready, is_swapping) {
                (false, _) => UNREADY_INTERVAL,
                (true, true) => SWAP_INTERVAL,
                (true, false) => IDLE_INTERVAL,
            };
            let health = generation.health.get_or_insert_default();
            if !health.begin(interval, now) {
                continue;
            }
            let (number, main) = (generation.number, generation.process.pid());
            let (url, happenings) = (url.clone(), self.happenings.clone());
            tokio::spawn(async move {
                let finding = round::run(url, main).await;
                let _ = happenings.send(Happening::Probed(number, finding));
            });
        }
    }

    pub(super) fn handle_probed(&mut self, number: u64, finding: Finding, now: Instant) {
        let Some(generation) = self.generations.get_mut(&number) else {
            return;
        };
        let is_healthy = matches!(finding, Finding::Healthy(_));
        let health = generation.health.get_or_insert_default();
        if health.note(finding, now) {
            let status = health.status(now);
            tracing::info!(
                generation = number,
                health = status.outcome,
                reason = status.reason,
                "health"
            );
        }
        if is_healthy && !generation.ready && generation.role != Role::Draining {
            generation.ready = true;
            self.handle_ready(number, now);
        }
    }

    /// ": it answers 500 …", for the reason of an upgrade whose successor did not become ready.
    pub(super) fn why_unhealthy(&self) -> String {
        let Some(successor) = self.successor().filter(|one| !one.artifact.is_native()) else {
            return String::new();
        };
        let health = successor.health.as_ref();
        match health.and_then(|health| health.complaint()) {
            Some(complaint) => format!(": {complaint}"),
            None if self.settings.health_url.is_none() => ": it never said READY=1".to_owned(),
            None => String::new(),
        }
    }
}
