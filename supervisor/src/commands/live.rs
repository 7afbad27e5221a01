//! The live view of an upgrade: what is left, the successor's share, and both generations side by side.
//!
//! Room  pure: an event in, lines out; the terminal is `screen`'s.

use std::time::Duration;

use control::{Event, SideStatus};

const HEAD: &str = "               conns     req/s   errors       p50       p99     CPU    memory";

/// What a terminal shows until the next event; at most 80 columns.
pub(super) fn lines(event: &Event) -> Vec<String> {
    let mut lines = vec![summary(event)];
    if !event.sides.is_empty() {
        lines.push(HEAD.to_owned());
        lines.extend(event.sides.iter().map(side));
    }
    lines
}

/// The same for a log: one line.
pub(super) fn line(event: &Event) -> String {
    let sides: Vec<String> = event.sides.iter().map(short).collect();
    [&[summary(event)], &sides[..]].concat().join(" · ")
}

/// How far live connections have come on their way to the successor.
pub(super) fn moving(event: &Event) -> String {
    format!("  {:<13} {}", event.event, event.message)
}

fn summary(event: &Event) -> String {
    let left = Duration::from_millis(event.remaining_ms.unwrap_or_default()).as_secs();
    let share = event.canary.as_ref().map(|canary| {
        let accepted = match canary.accepted_by_both {
            0 => String::new(),
            both => format!(", {} of {both} connections", canary.accepted),
        };
        format!(
            " · {} % ({} of {} sockets{accepted})",
            canary.percent, canary.sockets, canary.of
        )
    });
    let message = match event.phase.as_str() {
        "paused" => format!(" · {}", event.message),
        _ => String::new(),
    };
    format!(
        "  {:<13} {left:>3} s left{}{message}",
        event.phase,
        share.unwrap_or_default()
    )
}

fn side(side: &SideStatus) -> String {
    let or = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    format!(
        "  {:<10} {:>7} {:>9} {:>8} {:>9} {:>9} {:>7} {:>9}",
        side.role.to_string(),
        or(side.connections.map(|count| count.to_string())),
        or(side.requests_per_s.map(|rate| format!("{rate:.1}"))),
        or(side.error_rate.map(percent)),
        or(side.p50_ms.map(milliseconds)),
        or(side.p99_ms.map(milliseconds)),
        or(side
            .cores_used
            .map(|cores| format!("{:.0} %", cores * 100.0))),
        or(side
            .resident_bytes
            .map(|bytes| format!("{} MiB", bytes >> 20))),
    )
}

fn short(side: &SideStatus) -> String {
    let mut parts = Vec::new();
    if let Some(connections) = side.connections {
        parts.push(format!("{connections} connections"));
    }
    if let Some(rate) = side.requests_per_s {
        parts.push(format!("{rate:.1}/s"));
    }
    if let Some(errors) = side.error_rate {
        parts.push(format!("{} failed", percent(errors)));
    }
    if let Some(median) = side.p50_ms {
        parts.push(format!("p50 {}", milliseconds(median)));
    }
    if let Some(bytes) = side.resident_bytes {
        parts.push(format!("{} MiB", bytes >> 20));
    }
    format!("{} {}: {}", side.role, side.version, parts.join(", "))
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use control::{CanaryStatus, Event, Role, SideStatus};

    use super::{HEAD, line, lines};

    fn event() -> Event {
        let side = |role, connections, rate, p50_ms| SideStatus {
            role,
            version: "1.2.0".to_owned(),
            connections,
            requests_per_s: rate,
            error_rate: rate.map(|_| 0.0012),
            p50_ms,
            p99_ms: p50_ms.map(|ms| ms * 1000.0),
            cores_used: Some(0.414),
            resident_bytes: Some(22 << 20),
            ..SideStatus::default()
        };
        Event {
            phase: "canary".to_owned(),
            remaining_ms: Some(7_900),
            canary: Some(CanaryStatus {
                percent: 10,
                sockets: 2,
                of: 16,
                accepted: 12,
                accepted_by_both: 100,
            }),
            sides: vec![
                side(Role::Incumbent, Some(120), Some(812.34), Some(1.234)),
                side(Role::Successor, None, None, None),
            ],
            ..Event::default()
        }
    }

    #[test]
    fn a_terminal_shows_both_side_by_side_within_its_width() {
        let shown = lines(&event());
        assert_eq!(
            shown,
            [
                "  canary          7 s left · 10 % (2 of 16 sockets, 12 of 100 connections)",
                HEAD,
                "  incumbent      120     812.3   0.12 %   1.23 ms     1.2 s    41 %    22 MiB",
                "  successor        –         –        –         –         –    41 %    22 MiB",
            ]
        );
        assert!(shown.iter().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn a_log_has_one_line() {
        assert_eq!(
            line(&event()),
            "  canary          7 s left · 10 % (2 of 16 sockets, 12 of 100 connections) · incumbent 1.2.0: 120 connections, 812.3/s, 0.12 % failed, p50 1.23 ms, 22 MiB · successor 1.2.0: 22 MiB"
        );
        let bare = Event {
            phase: "paused".to_owned(),
            message: "paused: few requests".to_owned(),
            ..Event::default()
        };
        assert_eq!(
            line(&bare),
            "  paused          0 s left · paused: few requests"
        );
    }
}
