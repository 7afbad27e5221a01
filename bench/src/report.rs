//! The ledger as a person reads it.
//!
//! Room  pure: text from values.
//! In    a ledger.
//! Out   a table, one line of progress, a verdict line.
//! Holds every class is shown with its number, also when it is zero: an absent line proves nothing.

use std::fmt::Write;
use std::time::Duration;

use crate::ledger::{Class, Example, Latency, Ledger};

/// The whole account as a table, with the first examples of each loss.
pub fn table(ledger: &Ledger) -> String {
    let mut text = format!("{:<20} {:>14} {:>14}\n", "", "connections", "exchanges");
    let mut row = |name: &str, connections: u64, exchanges: u64| {
        // Writing to a String cannot fail.
        writeln!(
            text,
            "{name:<20} {:>14} {:>14}",
            grouped(connections),
            grouped(exchanges)
        )
        .unwrap_or_default();
    };
    row(
        "started",
        ledger.connections.started(),
        ledger.exchanges.started(),
    );
    for class in Class::ALL {
        row(
            &class.to_string(),
            ledger.connections.count(class),
            ledger.exchanges.count(class),
        );
    }
    row(
        "unaccounted",
        ledger.connections.unaccounted(),
        ledger.exchanges.unaccounted(),
    );
    if ledger.idle_closes > 0 {
        row("  closed while idle", ledger.idle_closes, 0);
    }
    for (name, (all, some)) in [
        ("  asked once more", (0, ledger.retried)),
        (
            "  lived to a bound",
            (ledger.ended_at_bound, ledger.unanswered_at_bound),
        ),
        ("  TLS handshakes", (ledger.handshakes, 0)),
        ("  of them resumed", (ledger.resumed, 0)),
    ] {
        if all + some > 0 {
            row(name, all, some);
        }
    }
    text.push('\n');
    text.push_str(&latencies(ledger));
    text.push_str(&examples(&ledger.examples));
    text
}

fn latencies(ledger: &Ledger) -> String {
    let mut text = format!("{:<12}", "");
    for name in ["p50", "p90", "p99", "p99.9", "max"] {
        write!(text, " {name:>10}").unwrap_or_default();
    }
    text.push('\n');
    for (name, latency) in [("exchange", &ledger.latency), ("connect", &ledger.connect)] {
        write!(text, "{name:<12}").unwrap_or_default();
        for value in percentiles(latency) {
            write!(text, " {:>10}", short(value)).unwrap_or_default();
        }
        text.push('\n');
    }
    if let Some(stall) = ledger.longest_stall() {
        writeln!(
            text,
            "longest stall {} at {}",
            short(stall.lasted),
            seconds(stall.at)
        )
        .unwrap_or_default();
    }
    text
}

fn percentiles(latency: &Latency) -> [Duration; 5] {
    [
        latency.quantile(0.5),
        latency.quantile(0.9),
        latency.quantile(0.99),
        latency.quantile(0.999),
        latency.max(),
    ]
}

fn examples(examples: &[Example]) -> String {
    let mut text = String::new();
    if !examples.is_empty() {
        text.push_str("\nfirst losses\n");
    }
    for example in examples {
        let Example {
            at,
            class,
            phase,
            connection,
            what,
            errno,
        } = example;
        let errno = errno
            .map(|number| format!(" [errno {number}]"))
            .unwrap_or_default();
        // The operating system's own text already ends in its number.
        let errno = if what.contains("os error") {
            String::new()
        } else {
            errno
        };
        writeln!(
            text,
            "  {:>9}  {class}, connection {connection} while {phase}: {what}{errno}",
            seconds(*at)
        )
        .unwrap_or_default();
    }
    text
}

/// One line about a load under way.
pub fn progress(ledger: &Ledger, established: usize) -> String {
    let stall = ledger
        .longest_stall()
        .map_or_else(|| "-".to_owned(), |stall| short(stall.lasted));
    // What matters most comes first: a narrow terminal cuts the end of the line.
    format!(
        "{}, {established} open, {} connections, {} exchanges, longest stall {stall}, p50 {}, p99 {}",
        losses(ledger),
        grouped(ledger.connections.started()),
        grouped(ledger.exchanges.count(Class::Ok)),
        short(ledger.latency.quantile(0.5)),
        short(ledger.latency.quantile(0.99)),
    )
}

/// "0 lost", or what was lost; nothing that is merely still open counts.
pub fn losses(ledger: &Ledger) -> String {
    let lost: Vec<_> = Class::ALL
        .into_iter()
        .filter(|class| class.is_loss() && ledger.count(*class) > 0)
        .map(|class| format!("{} {class}", grouped(ledger.count(class))))
        .collect();
    if lost.is_empty() {
        "0 lost".to_owned()
    } else {
        format!("LOST: {}", lost.join(", "))
    }
}

/// Every class of loss with its number: "0 refused, 0 reset, …, 0 unaccounted".
pub fn every_class(ledger: &Ledger) -> String {
    let mut text = String::new();
    for class in Class::ALL.into_iter().filter(|class| class.is_loss()) {
        write!(text, "{} {class}, ", grouped(ledger.count(class))).unwrap_or_default();
    }
    write!(text, "{} unaccounted", grouped(ledger.unaccounted())).unwrap_or_default();
    text
}

/// The last line of a finished run.
pub fn verdict(ledger: &Ledger) -> String {
    let amount = format!(
        "{} connections and {} exchanges",
        grouped(ledger.connections.started()),
        grouped(ledger.exchanges.started())
    );
    let word = match (ledger.is_clean(), ledger.losses()) {
        (true, _) => "CLEAN",
        (false, 0) => "INCONCLUSIVE (nothing was measured)",
        (false, _) => "LOSSES",
    };
    format!("{word}: {amount}: {}", every_class(ledger))
}

/// A number with a comma between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration with three significant digits and a unit that fits.
pub fn short(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    let (value, unit) = match micros {
        ..1_000.0 => (micros, "us"),
        ..1_000_000.0 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    let digits = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A moment of the run in seconds.
pub fn seconds(at: Duration) -> String {
    format!("{:.3} s", at.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Phase, Traffic};

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(Duration::from_millis(250));
        for _ in 0..1_234 {
            ledger.connections.start();
            ledger.exchanges.start();
            ledger.exchange_succeeded(Duration::ZERO, Duration::from_millis(3), Traffic::default());
            ledger.connection_succeeded();
        }
        ledger
    }

    #[test]
    fn every_class_is_in_the_table_even_when_zero() {
        let text = table(&ledger());
        for class in Class::ALL {
            assert!(
                text.contains(&class.to_string()),
                "{class} is missing in\n{text}"
            );
        }
        assert!(text.contains("1,234"), "{text}");
        assert!(!text.contains("first losses"), "{text}");
    }

    #[test]
    fn the_verdict_says_clean_only_of_a_clean_ledger() {
        let clean = verdict(&ledger());
        assert!(clean.starts_with("CLEAN: 1,234 connections"), "{clean}");
        assert!(
            clean.contains("0 refused, 0 reset, 0 cut, 0 wrong bytes"),
            "{clean}"
        );
        assert!(verdict(&Ledger::new(Duration::from_secs(1))).starts_with("INCONCLUSIVE"));
        let mut lost = ledger();
        lost.connections.start();
        let (class, phase) = (Class::Reset, Phase::Receiving);
        let example = Example {
            at: Duration::from_millis(1_500),
            class,
            phase,
            connection: 3,
            what: "Connection reset by peer (os error 104)".to_owned(),
            errno: Some(104),
        };
        lost.connection_lost(example);
        assert!(verdict(&lost).starts_with("LOSSES"));
        assert!(progress(&lost, 5).starts_with("LOST: 1 reset, 5 open"));
        let text = table(&lost);
        let line = "    1.500 s  reset, connection 3 while receiving: Connection reset by peer (os error 104)\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        let durations = [5, 12_345, 999_000, 1_500_000, 12_000_000]
            .map(Duration::from_micros)
            .map(short);
        assert_eq!(
            durations,
            ["5.00 us", "12.3 ms", "999 ms", "1.50 s", "12.0 s"]
        );
    }
}
