//! The plan of an upgrade as the loop sees it: what it knows goes out, a plan comes back.
//!
//! Holds a dry run changes nothing here: no phase, no generation, no record, no history.

use std::time::Instant;

use control::{Event as Told, Migrate, Plan, PlannedDrain, Role, Verdict};
use tokio::sync::mpsc;

use super::{Core, rfc3339_now};
use crate::facts::Now;
use crate::store::{Purpose, StageError};
use crate::{plan, planning};

impl Core {
    /// What a plan is made from, as far as this loop knows it.
    pub(super) fn now_for_plan(&self, now: Instant) -> Now {
        let incumbent = self
            .generations
            .values()
            .find(|generation| generation.role == Role::Incumbent);
        let drains = self.generations.values().map(|generation| {
            let status = generation.status(now);
            PlannedDrain {
                generation: status.generation,
                version: status.version,
                role: status.role,
                connections: status.connections,
                age_s: status.age_s,
                moves: generation.role == Role::Incumbent
                    && generation.moves > 0
                    && self.migrates(),
            }
        });
        let kept = self.generations.values();
        let kept = kept.map(|generation| generation.artifact.clone());
        Now {
            committed: self.record.committed.clone(),
            args: self.args.clone(),
            incumbent: incumbent.map(|incumbent| incumbent.process.pid()),
            held: self.holder.held(),
            drains: drains.collect(),
            kept: kept
                .chain([self.record.committed.clone()])
                .chain(self.record.previous.clone())
                .collect(),
        }
    }

    fn migrates(&self) -> bool {
        let wanted = self.swap.as_ref().map(|swap| swap.migrate);
        wanted.unwrap_or(self.settings.migrate) != Migrate::Never
    }

    /// Of the upgrade that is running, unless it was aborted meanwhile.
    pub(super) fn handle_planned(&self, id: u64, plan: Plan) {
        if !self.is_current(id) {
            return;
        }
        for remark in &plan.remarks {
            tracing::warn!(remark, "planned");
        }
        self.tell_with("planned", plan::summary(&plan), Some(Box::new(plan)));
    }

    /// Answers with the plan and a verdict.
    pub(super) fn dry_run(
        &self,
        binary: std::path::PathBuf,
        events: mpsc::UnboundedSender<Told>,
        now: Instant,
    ) {
        let purpose = Purpose {
            store: self.layout.store(),
            args: self.args.clone(),
            service: Some(self.record.committed.service.clone()),
            signature: self.settings.signature.clone(),
        };
        let (known, phase) = (self.now_for_plan(now), self.phase_word().to_owned());
        // At once: whoever asks waits less for the first word than a slow binary may take.
        let _ = events.send(self.event("requested", format!("dry run of {}", binary.display())));
        tokio::spawn(async move {
            let outcome = planning::dry_run(binary, purpose, known).await;
            let _ = events.send(answer(outcome, phase));
        });
    }
}

fn answer(outcome: Result<Plan, StageError>, phase: String) -> Told {
    let (reason, plan) = match outcome {
        Ok(plan) if plan.is_allowed() => (None, Some(plan)),
        Ok(plan) => (Some(plan::reasons(&plan)), Some(plan)),
        Err(error) => (Some(error.to_string()), None),
    };
    let verdict = match reason {
        None => Verdict::Allowed,
        Some(_) => Verdict::Refused,
    };
    let message = match &reason {
        None => format!("{verdict}; nothing was started"),
        Some(reason) => format!("would be refused: {reason}"),
    };
    Told {
        event: "planned".to_owned(),
        phase,
        at: rfc3339_now(),
        message,
        version: plan.as_ref().map(|plan| plan.to.version.clone()),
        sha256: plan.as_ref().map(|plan| plan.to.sha256.clone()),
        verdict: Some(verdict),
        exit_code: Some(verdict.exit_code()),
        reason,
        plan: plan.map(Box::new),
        ..Told::default()
    }
}
