//! The verbs that speak to a running supervisor.
//!
//! Holds  the exit code is the verdict; `--json` says the same as the text.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use control::client::{Client, ControlError};
use control::{Event, GenerationStatus, HistoryEntry, Status, UpgradeRequest};

use crate::cli::{UpgradeArgs, Where};
use crate::life::first;
use crate::plan_screen;
use crate::screen::{complain, end_progress, progress, redraw, say};

mod health;
mod held;
mod live;
mod self_upgrade;

pub(crate) use self_upgrade::self_upgrade;

/// How long `stop` waits for the supervisor to go: its stop timeout (30 s) and some.
const STOP_DEADLINE: Duration = Duration::from_secs(120);

/// How often `stop` looks.
const STOP_LOOK: Duration = Duration::from_millis(100);

/// Why a verb could not be carried out (exit code 1).
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("no supervisor runs under {0}; start one with `supervisor run`, or give --runtime-dir")]
    Nobody(PathBuf),
    #[error("several supervisors run here ({0}); say which with --name")]
    Several(String),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("{0}")]
    Refused(String),
    #[error("the supervisor is still there after {STOP_DEADLINE:?}; see `supervisor status`")]
    StillThere,
}

pub(crate) fn upgrade(args: UpgradeArgs) -> ExitCode {
    let place = args.place.clone();
    carry_out(&place, |client, json| async move {
        let request = UpgradeRequest {
            binary: std::path::absolute(&args.binary).unwrap_or(args.binary),
            bake_ms: args.bake.map(millis),
            ready_timeout_ms: args.ready_timeout.map(millis),
            canary: args.canary,
            step_ms: args.step.map(millis),
            migrate: args.migrate,
            dry_run: args.dry_run,
        };
        let last = client
            .upgrade(&request, |event| show_event(event, json))
            .await?;
        Ok(verdict(&last))
    })
}

pub(crate) fn rollback(place: &Where) -> ExitCode {
    carry_out(place, |client, json| async move {
        let last = client.rollback(|event| show_event(event, json)).await?;
        Ok(verdict(&last))
    })
}

pub(crate) fn resume(place: &Where) -> ExitCode {
    carry_out(place, |client, json| async move {
        let last = client.resume(|event| show_event(event, json)).await?;
        Ok(verdict(&last))
    })
}

pub(crate) fn status(place: &Where) -> ExitCode {
    carry_out(place, |client, json| async move {
        let status = client.status().await?;
        if json {
            say(&serde_json::to_string(&status).unwrap_or_default());
        } else {
            show_status(&status);
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn history(place: &Where) -> ExitCode {
    carry_out(place, |client, json| async move {
        for entry in client.history().await? {
            if json {
                say(&serde_json::to_string(&entry).unwrap_or_default());
            } else {
                show_history(&entry);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn ask(place: &Where, verb: &'static str) -> ExitCode {
    carry_out(place, |client, json| async move {
        let answer = client.ask(verb).await?;
        if json {
            say(&serde_json::to_string(&answer).unwrap_or_default());
        } else if answer.ok {
            say(&answer.message);
        }
        if answer.ok {
            Ok(ExitCode::SUCCESS)
        } else {
            Err(CommandError::Refused(answer.message))
        }
    })
}

/// Synchronous: returns when the supervisor and its workers are gone.
pub(crate) fn stop(place: &Where) -> ExitCode {
    carry_out(place, |client, json| async move {
        let answer = client.ask("stop").await?;
        if !json {
            say(&answer.message);
        }
        let deadline = tokio::time::Instant::now() + STOP_DEADLINE;
        while tokio::time::Instant::now() < deadline {
            match client.status().await {
                Ok(status) => progress(&format!(
                    "{} workers, {} connections left",
                    status.generations.len(),
                    connections(&status)
                )),
                Err(_) => {
                    end_progress();
                    say(if json {
                        r#"{"ok":true,"message":"stopped"}"#
                    } else {
                        "stopped"
                    });
                    return Ok(ExitCode::SUCCESS);
                }
            }
            tokio::time::sleep(STOP_LOOK).await;
        }
        Err(CommandError::StillThere)
    })
}

fn carry_out<F, Done>(place: &Where, deed: F) -> ExitCode
where
    F: FnOnce(Client, bool) -> Done,
    Done: Future<Output = Result<ExitCode, CommandError>>,
{
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let outcome = match find(place) {
        Ok(client) => runtime.block_on(deed(client, place.json)),
        Err(error) => Err(error),
    };
    outcome.unwrap_or_else(|error| {
        end_progress();
        complain(&error.to_string());
        ExitCode::FAILURE
    })
}

/// The control socket: by name, or the only one there is.
fn find(place: &Where) -> Result<Client, CommandError> {
    let dir = first(&place.runtime_dir);
    if let Some(name) = &place.name {
        return Ok(Client::new(dir.join(name).join("control.sock")));
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    // A directory that we may not enter is somebody's: the refusal then says so.
    found.retain(|path| path.join("control.sock").try_exists().unwrap_or(true));
    match found.as_slice() {
        [] => Err(CommandError::Nobody(dir.to_owned())),
        [only] => Ok(Client::new(only.join("control.sock"))),
        several => Err(CommandError::Several(
            several
                .iter()
                .filter_map(|path| path.file_name())
                .map(|name| name.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(", "),
        )),
    }
}

fn show_event(event: &Event, json: bool) {
    if json {
        say(&serde_json::to_string(event).unwrap_or_default());
        return;
    }
    if event.event == "progress" {
        return redraw(&live::lines(event), || live::line(event));
    }
    if event.event == "moving" {
        let line = || live::moving(event);
        return redraw(&[line()], line);
    }
    end_progress();
    if let (Some(plan), Some(_)) = (&event.plan, event.verdict) {
        plan_screen::lines(plan).iter().for_each(|line| say(line));
    }
    if event.verdict.is_none() {
        say(&format!("  {:<13} {}", event.event, event.message));
    } else {
        say(&event.message);
    }
}

fn verdict(last: &Event) -> ExitCode {
    ExitCode::from(last.verdict.map_or(1, control::Verdict::exit_code))
}

fn show_status(status: &Status) {
    let committed = status
        .committed
        .as_ref()
        .map_or_else(|| "nothing".to_owned(), artifact);
    let previous = status
        .previous
        .as_ref()
        .map_or_else(|| "none".to_owned(), artifact);
    say(&format!(
        "{} · {} · committed {committed} · previous {previous}",
        status.name, status.phase
    ));
    if let Some(upgrade) = &status.upgrade {
        say(&format!(
            "upgrade to {} {} since {} ({} s)",
            upgrade.binary, upgrade.version, upgrade.since, upgrade.for_s
        ));
    }
    say("\ngeneration  role       version           pid      accepting  connections  age");
    for generation in &status.generations {
        say(&generation_line(generation));
        if let Some(held) = held::held_line(generation) {
            say(&held);
        }
        if let Some(health) = &generation.health {
            say(&health::health_line(health));
        }
    }
    for left in &status.left_behind {
        say(&health::left_behind_line(left));
    }
    say("\nlistener          address                sockets");
    for listener in &status.listeners {
        say(&format!(
            "{:<17} {:<22} {}",
            listener.name, listener.address, listener.sockets
        ));
    }
}

fn generation_line(generation: &GenerationStatus) -> String {
    let age = humantime::format_duration(Duration::from_secs(generation.age_s));
    format!(
        "{:<11} {:<10} {:<17} {:<8} {:<10} {:<12} {age}  {}",
        generation.generation,
        generation.role,
        generation.version,
        generation.pid,
        if generation.accepting { "yes" } else { "no" },
        generation
            .connections
            .map_or_else(|| "?".to_owned(), |n| n.to_string()),
        generation.status,
    )
}

fn show_history(entry: &HistoryEntry) {
    let from = entry.from_version.as_deref().unwrap_or("");
    let to = entry.to_version.as_deref().unwrap_or("");
    let verdict = entry.verdict.map(|verdict| verdict.to_string());
    say(&format!(
        "{}  {:<12} {from} → {to}  {}  {}",
        entry.at,
        entry.event,
        verdict.unwrap_or_default(),
        entry.reason.as_deref().unwrap_or(""),
    ));
    if !entry.phases.is_empty() {
        let phases: Vec<String> = entry
            .phases
            .iter()
            .map(|phase| format!("{} {:.1} s", phase.phase, seconds(phase.ms)))
            .collect();
        say(&format!("    {}", phases.join(" · ")));
    }
    if let (Some(generation), Some(outcomes)) = (entry.generation, entry.outcomes) {
        say(&format!(
            "    generation {generation} left: {} connections finished, {} cut, {} moved; {} stay with others",
            outcomes.drained, outcomes.cut, outcomes.moved, outcomes.kept
        ));
        for (why, count) in &entry.stayed {
            say(&format!("    {count} did not move: {why}"));
        }
    }
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

fn artifact(artifact: &control::ArtifactStatus) -> String {
    let digest = artifact.sha256.get(..12).unwrap_or(&artifact.sha256);
    format!("{} ({digest})", artifact.version)
}

fn connections(status: &Status) -> u64 {
    status
        .generations
        .iter()
        .filter_map(|generation| generation.connections)
        .sum()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
