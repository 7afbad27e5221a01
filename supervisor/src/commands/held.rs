//! The line of `status` about a generation that drains: who still holds it up, and for how long.

use std::time::Duration;

use control::{GenerationStatus, HeldStatus};
use humantime::format_duration;

/// "            holds 12: 8 wait for the next request, 4 for an answer; oldest 4m; ended in 9m at the latest; …".
pub(super) fn held_line(generation: &GenerationStatus) -> Option<String> {
    let left = generation.drain_left_s?;
    let mut parts = Vec::new();
    if let Some(held) = &generation.held {
        parts.push(holds(held));
    }
    let end = format_duration(Duration::from_secs(left));
    let why = if generation.retired {
        " (too many old generations)"
    } else {
        ""
    };
    parts.push(format!("ended in {end} at the latest{why}"));
    if let (Some(bytes), Some(descriptors)) = (generation.resident_bytes, generation.descriptors) {
        parts.push(format!("{} MiB, {descriptors} descriptors", bytes >> 20));
    }
    Some(format!("{:<11} {}", "", parts.join("; ")))
}

fn holds(held: &HeldStatus) -> String {
    let all: u64 = held.waits.values().sum();
    let mut waits: Vec<(&String, &u64)> = held.waits.iter().collect();
    waits.sort_by_key(|(word, count)| (std::cmp::Reverse(**count), *word));
    let waits: Vec<String> = waits
        .iter()
        .map(|(word, count)| format!("{count} for {word}"))
        .collect();
    if all == 0 {
        return "holds nothing".to_owned();
    }
    let ages: Vec<String> = held
        .ages
        .iter()
        .filter(|age| age.connections > 0)
        .map(|age| match age.below_s {
            Some(below) => format!(
                "{} below {}",
                age.connections,
                format_duration(Duration::from_secs(below))
            ),
            None => format!("{} older", age.connections),
        })
        .collect();
    let oldest = format_duration(Duration::from_secs(held.oldest_s));
    format!(
        "holds {all}, waiting {}; age {}, oldest {oldest}",
        waits.join(", "),
        ages.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use control::{AgeStatus, GenerationStatus, HeldStatus};

    use super::held_line;

    #[test]
    fn a_person_sees_who_holds_an_old_process_up() {
        let age = |below_s, connections| AgeStatus {
            below_s,
            connections,
        };
        let held = HeldStatus {
            ages: vec![
                age(Some(10), 2),
                age(Some(60), 0),
                age(Some(600), 9),
                age(None, 1),
            ],
            oldest_s: 7_200,
            waits: [("an answer", 3), ("the next request", 8), ("a request", 1)]
                .map(|(word, count)| (word.to_owned(), count))
                .into(),
        };
        let generation = GenerationStatus {
            held: Some(held),
            drain_left_s: Some(540),
            resident_bytes: Some(41 << 20),
            descriptors: Some(37),
            ..GenerationStatus::default()
        };
        assert_eq!(
            held_line(&generation).as_deref().map(str::trim_start),
            Some(
                "holds 12, waiting 8 for the next request, 3 for an answer, 1 for a request; age 2 below 10s, 9 below 10m, 1 older, oldest 2h; ended in 9m at the latest; 41 MiB, 37 descriptors"
            )
        );
        let older = GenerationStatus {
            held: None,
            retired: true,
            drain_left_s: Some(3),
            ..GenerationStatus::default()
        };
        assert_eq!(
            held_line(&older).as_deref().map(str::trim_start),
            Some("ended in 3s at the latest (too many old generations)")
        );
        assert_eq!(held_line(&GenerationStatus::default()), None);
    }
}
