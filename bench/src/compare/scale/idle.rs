//! Thousands of connections that have had one answer and say nothing: what each weighs, and what a request of others costs
//! beside them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{IDLE_EDGE, IDLE_LB, costs, start, tell, text};
use crate::compare::contender::{Contender, Site};
use crate::compare::{CompareError, Scenario, Settings, set_up};
use crate::ledger::Class;
use crate::load::{IdleClose, Load, Running, Shape};
use crate::output::Output;
use crate::target::Target;

/// How long all of them may take to have their answer. Sized: 15,000 handshakes on one core take half of it.
const OPEN_LIMIT: Duration = Duration::from_secs(90);

/// Nobody asks twice.
const SILENCE: Duration = Duration::from_secs(3600);

pub(super) async fn measure(
    site: &Site,
    settings: &Settings,
    output: &mut Output,
) -> Result<(), CompareError> {
    let kinds = [
        ("lb", "in clear", IDLE_LB),
        ("edge", "in clear", IDLE_EDGE),
        ("edge", "over TLS", IDLE_EDGE),
    ];
    for (program, how, count) in kinds {
        let name = format!("idle-{}", how.replace(' ', "-"));
        let contender = start(site, settings, program, &name, |at| {
            text::workers(site, program, at, 1)
        })
        .await?;
        let scenario = match program {
            "lb" => Scenario::L4KeepAlive,
            _ => Scenario::H1,
        };
        let little = costs(site, settings, scenario, &contender).await?;
        let before = contender.process.resident().unwrap_or_default();
        let idle = open(site, &contender, how == "over TLS", count).await?;
        let after = contender.process.resident().unwrap_or_default();
        let much = costs(site, settings, scenario, &contender).await?;
        idle.stop();
        let ledger = idle.finish().await;
        let lost = ledger.losses();
        if lost > 0 {
            return Err(CompareError::Answers {
                who: program.to_owned(),
                scenario: scenario.name(),
                why: format!("{lost} of {count} idle connections were lost"),
                log: contender.process.log(),
            });
        }
        let each = after.saturating_sub(before) / u64::try_from(count).unwrap_or(u64::MAX);
        output.line(&format!(
            "  {program} {how}: {count} connections, {each} bytes of memory each"
        ));
        output.event(&json!({
            "event": "idle", "program": program, "how": how, "connections": count, "bytes_each": each,
        }));
        let title = format!("{program}, a request beside {count} idle ({how}) ÷ beside none");
        tell(&title, &much, &little, output);
        contender.stop();
    }
    Ok(())
}

/// Opens them; returns when each has had its answer.
async fn open(
    site: &Site,
    contender: &Contender,
    over_tls: bool,
    count: usize,
) -> Result<Running, CompareError> {
    let entry = contender
        .entry(site)
        .map_err(|source| set_up("an authority", source))?;
    let path = "/bytes/16";
    let target = match over_tls {
        true => Target::https(entry.tls, crate::compare::scenario::HOST, path),
        false => Target::http(entry.clear, path),
    };
    let mut load = Load::new(target, Shape::KeepAlive, count);
    load.trust = Some(entry.trust);
    load.pause = SILENCE;
    load.exchanges_per_connection = u64::MAX;
    load.idle_close = IdleClose::IsCut;
    load.limits.connect = OPEN_LIMIT;
    load.limits.stall = OPEN_LIMIT;
    load.limits.exchange = OPEN_LIMIT;
    let running = load
        .start()
        .map_err(|error| set_up("idle clients", std::io::Error::other(error)))?;
    let deadline = Instant::now() + OPEN_LIMIT;
    let wanted = u64::try_from(count).unwrap_or(u64::MAX);
    while running.snapshot().exchanges.count(Class::Ok) < wanted {
        if Instant::now() > deadline {
            let why = format!("{count} connections were not open in {OPEN_LIMIT:?}");
            return Err(set_up(why, std::io::ErrorKind::TimedOut.into()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(running)
}
