//! Lines of `status` about programs that tell nothing themselves.

use control::{HealthStatus, LeftBehindStatus};

/// "            health: healthy, half of its answers within 1.2 ms (31 healthy, 0 unhealthy, 2 absent), 1 s ago".
pub(super) fn health_line(health: &HealthStatus) -> String {
    let reason = match health.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let latency = health.latency_ms.map_or_else(String::new, |ms| {
        format!(", half of its answers within {ms:.1} ms")
    });
    format!(
        "{:<11} health: {}{reason}{latency} ({} healthy, {} unhealthy, {} absent), {} s ago",
        "",
        health.outcome,
        health.healthy_total,
        health.unhealthy_total,
        health.absent_total,
        health.age_s
    )
}

/// "3           left behind by 1.4.0: 2, killed in 9 s".
pub(super) fn left_behind_line(left: &LeftBehindStatus) -> String {
    format!(
        "{:<11} left behind by {}: {}, killed in {} s",
        left.generation, left.version, left.processes, left.killed_in_s
    )
}

#[cfg(test)]
mod tests {
    use control::{HealthStatus, LeftBehindStatus};

    use super::{health_line, left_behind_line};

    #[test]
    fn a_person_reads_what_is_known() {
        let healthy = HealthStatus {
            outcome: "healthy".to_owned(),
            latency_ms: Some(1.23),
            healthy_total: 31,
            absent_total: 2,
            age_s: 1,
            ..HealthStatus::default()
        };
        assert_eq!(
            health_line(&healthy).trim_start(),
            "health: healthy, half of its answers within 1.2 ms (31 healthy, 0 unhealthy, 2 absent), 1 s ago"
        );
        let bad = HealthStatus {
            outcome: "unhealthy".to_owned(),
            reason: "it answers 500".to_owned(),
            unhealthy_total: 1,
            ..HealthStatus::default()
        };
        assert_eq!(
            health_line(&bad).trim_start(),
            "health: unhealthy: it answers 500 (0 healthy, 1 unhealthy, 0 absent), 0 s ago"
        );
        let left = LeftBehindStatus {
            generation: 3,
            version: "1.4.0".to_owned(),
            processes: 2,
            killed_in_s: 9,
        };
        assert_eq!(
            left_behind_line(&left),
            "3           left behind by 1.4.0: 2, killed in 9 s"
        );
    }
}
