//! `supervisor upgrade --self`: synchronous, although the one who was asked is another one at the end.
//!
//! Holds  what is printed was seen: the history's verdict, and then the process and the binary that answer.

use std::process::ExitCode;
use std::time::Duration;

use control::client::{Client, ControlError};
use control::{Event, HistoryEntry, SelfUpgradeRequest, Status, Verdict};
use tokio::time::Instant;

use super::{CommandError, carry_out, show_event, verdict};
use crate::cli::UpgradeArgs;

/// How long after the handing-over the new supervisor may take until it answers with a verdict: 30 s for workers
/// that are slow to return, and some.
const VERDICT_DEADLINE: Duration = Duration::from_secs(45);

/// How often it is asked.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) fn self_upgrade(args: &UpgradeArgs) -> ExitCode {
    let binary = std::path::absolute(&args.binary).unwrap_or_else(|_| args.binary.clone());
    carry_out(&args.place, |client, json| async move {
        let before = client.status().await?;
        let told = count(&client.history().await?);
        let asked = Instant::now();
        let request = SelfUpgradeRequest { binary };
        let mut handed_over = false;
        let answered = client
            .self_upgrade(&request, |event| {
                handed_over |= event.event == "handing-over";
                show_event(event, json);
            })
            .await;
        match answered {
            Ok(Some(last)) => return Ok(verdict(&last)),
            // The exec may cut the last bytes off.
            Err(ControlError::Broken(_)) if handed_over => {}
            Err(error) => return Err(error.into()),
            Ok(None) => {}
        }
        let last = outcome(&client, &before, told, asked).await?;
        show_event(&last, json);
        Ok(verdict(&last))
    })
}

/// How many self-upgrades a history has.
fn count(history: &[HistoryEntry]) -> usize {
    history.iter().filter(|entry| is_one(entry)).count()
}

fn is_one(entry: &HistoryEntry) -> bool {
    entry.event == "self-upgrade"
}

async fn outcome(
    client: &Client,
    before: &Status,
    told: usize,
    asked: Instant,
) -> Result<Event, CommandError> {
    let deadline = Instant::now() + VERDICT_DEADLINE;
    while Instant::now() < deadline {
        if let Ok(history) = client.history().await
            && count(&history) > told
            && let Some(entry) = history.iter().rfind(|entry| is_one(entry))
            && let Ok(status) = client.status().await
            && !status.supervisor_sha256.is_empty()
            // After a new supervisor that died: until the workers are back.
            && status.phase != "starting"
        {
            return Ok(finished(entry, before, &status, asked));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(event(
        Verdict::RollbackIncomplete,
        format!(
            "nobody told how the self-upgrade ended within {VERDICT_DEADLINE:?}; the workers serve on, see the log of the unit"
        ),
    ))
}

/// What the history says, held against who answers.
fn finished(entry: &HistoryEntry, before: &Status, now: &Status, asked: Instant) -> Event {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let label = |version: &Option<String>, sha256: &Option<String>| {
        let sha256 = text(sha256);
        format!(
            "{} ({})",
            text(version),
            sha256.get(..12).unwrap_or(&sha256)
        )
    };
    let from = label(&entry.from_version, &entry.from_sha256);
    let to = label(&entry.to_version, &entry.to_sha256);
    let said = entry.verdict.unwrap_or(Verdict::RollbackIncomplete);
    let reason = text(&entry.reason);
    let is_true = now.supervisor_pid == before.supervisor_pid
        && Some(&now.supervisor_sha256) == entry.to_sha256.as_ref();
    let pid = now.supervisor_pid;
    let mut told = match said {
        Verdict::Committed if is_true => {
            let seconds = asked.elapsed().as_secs_f64();
            let remark = if reason.is_empty() {
                reason
            } else {
                format!("; {reason}")
            };
            let message = format!(
                "committed supervisor {from} → {to} in {seconds:.2} s, process {pid} as before{remark}"
            );
            event(said, message)
        }
        Verdict::Committed => event(
            Verdict::RollbackIncomplete,
            format!(
                "the self-upgrade to {to} was done, but process {pid} with another binary answers; see `supervisor history`"
            ),
        ),
        _ => event(
            said,
            format!(
                "{said}: {reason}; supervisor {} (process {pid}) runs",
                now.supervisor_version
            ),
        ),
    };
    told.at.clone_from(&entry.at);
    told.phase.clone_from(&now.phase);
    told.version = Some(now.supervisor_version.clone());
    told.sha256 = Some(now.supervisor_sha256.clone());
    told.pid = Some(pid);
    told.reason = entry.reason.clone();
    told
}

fn event(verdict: Verdict, message: String) -> Event {
    Event {
        event: "finished".to_owned(),
        message,
        verdict: Some(verdict),
        exit_code: Some(verdict.exit_code()),
        ..Event::default()
    }
}
