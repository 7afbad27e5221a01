//! The admin HTTP routes.

use crate::origin::{Client, Origin};
use crate::worker::{Worker, until};

fn started(origins: &[&Origin]) -> Worker {
    let mut arguments = vec![
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--algorithm",
        "least-connections",
    ];
    let addresses: Vec<String> = origins.iter().map(|origin| origin.address()).collect();
    for address in &addresses {
        arguments.extend(["--backend", address]);
    }
    Worker::run(&arguments)
}

#[test]
fn health_tells_what_runs_and_where() {
    let origin = Origin::start('a');
    let worker = started(&[&origin]);
    let (status, _) = worker.get("/health");
    assert_eq!(status, 200);
    let health = worker.get_json("/health");
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["type"], "L4");
    assert_eq!(health["algorithm"], "least-connections");
    assert_eq!(health["total_backends"], 1);
    assert_eq!(health["healthy_backends"], 1);
    assert_eq!(health["generation"], 0);
    assert!(health["version"].is_string());
    assert_eq!(
        health["listeners"][0]["address"],
        worker.address("main").to_string()
    );
    assert_eq!(worker.get("/health/live").0, 200);
    assert_eq!(worker.get("/health/ready").0, 200);
}

#[test]
fn without_a_healthy_backend_health_is_503() {
    let worker = Worker::run(&[
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--backend",
        "127.0.0.1:1",
    ]);
    let (status, body) = worker.get("/health");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("unhealthy"), "{body}");
    assert_eq!(worker.get("/health/ready").0, 503);
    assert_eq!(worker.get("/health/live").0, 200);
}

#[test]
fn the_running_configuration_is_shown_with_real_addresses() {
    let origin = Origin::start('a');
    let worker = started(&[&origin]);
    let config = worker.get_json("/api/v1/config");
    assert_eq!(config["algorithm"], "least-connections");
    assert_eq!(
        config["listener"][0]["address"],
        worker.address("main").to_string()
    );
    assert_eq!(
        config["admin"]["listen"],
        worker.address("admin").to_string()
    );
}

#[test]
fn backends_are_listed_and_can_be_drained() {
    let (a, b) = (Origin::start('a'), Origin::start('b'));
    let worker = started(&[&a, &b]);
    let backends = worker.get_json("/api/v1/backends");
    assert_eq!(backends.as_array().map(Vec::len), Some(2));
    let one = &backends[0];
    assert_eq!(one["id"], a.address());
    assert_eq!(
        (&one["healthy"], &one["upstream"]),
        (&true.into(), &"main".into())
    );
    assert_eq!(one["status"], "healthy");
    assert_eq!(one["last_check"]["result"], "ok");
    let mut held = Client::connect(worker.address("main"));
    let drained = if held.origin == 'a' {
        a.address()
    } else {
        b.address()
    };
    let (status, body) = worker.post(&format!("/api/v1/backends/{drained}/drain"));
    assert_eq!(status, 200, "{body}");
    for _ in 0..6 {
        assert_ne!(Client::connect(worker.address("main")).origin, held.origin);
    }
    held.echo("a drained backend keeps its connections");
    let escaped = drained.replace(':', "%3A");
    assert_eq!(
        worker
            .post(&format!("/api/v1/backends/{escaped}/undrain"))
            .0,
        200
    );
    // Least connections: with one held at each, the next one may go to either.
    let mut others = Vec::new();
    until("the backend is used again", || {
        others.push(Client::connect(worker.address("main")));
        others
            .last()
            .is_some_and(|client| client.origin == held.origin)
    });
    assert_eq!(worker.post("/api/v1/backends/nobody/drain").0, 404);
}

#[test]
fn what_is_not_there_is_told_as_json() {
    let origin = Origin::start('a');
    let worker = started(&[&origin]);
    let (status, body) = worker.get("/nothing");
    assert_eq!(status, 404);
    assert!(serde_json::from_str::<serde_json::Value>(&body).expect("JSON")["error"].is_string());
    assert_eq!(worker.post("/health").0, 405);
    assert_eq!(worker.get("/api/v1/backends/x/drain").0, 405);
}

#[test]
fn metrics_count_what_happened() {
    let origin = Origin::start('a');
    let worker = started(&[&origin]);
    for _ in 0..5 {
        Client::connect(worker.address("main")).echo("12345");
    }
    let mut held = Client::connect(worker.address("main"));
    held.echo("held");
    // Bytes are counted once they are written: a client may have them a moment before.
    until("everything is counted", || {
        let text = worker.get("/metrics").1;
        text.contains("lb_connections_ended_total{reason=\"finished\"} 5")
            && text.contains("lb_bytes_total{direction=\"to_client\"} 35")
    });
    let (status, text) = worker.get("/metrics");
    assert_eq!(status, 200);
    for line in [
        "lb_active_connections 1",
        "lb_requests_total 6",
        "lb_connections_total 6",
        "lb_errors_total{reason=\"connect_failed\"} 0",
        "lb_bytes_total{direction=\"to_backend\"} 29",
        "lb_bytes_total{direction=\"to_client\"} 35",
        "lb_connection_duration_seconds_count 5",
        "lb_connect_duration_seconds_count 6",
        "lb_upstream_fail_open{upstream=\"main\"} 0",
        "lb_accepting 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    let backend = format!(
        "lb_backend_connections_total{{upstream=\"main\",backend=\"{}\"}} 6",
        origin.address()
    );
    assert!(text.contains(&backend), "{backend} is not in\n{text}");
    assert!(text.contains("lb_build_info{version="));
    assert!(text.contains("# TYPE lb_requests_total counter"));
}
