//! Every threshold from both sides, and what none of them may believe.

use std::time::{Duration, Instant};

use handoff::latency::{LATENCY_BUCKETS, bucket};

use super::{Evidence, Judgement, Queue, Sample, Thresholds, Window, judge, window};

fn answers(count: u64, took: Duration) -> Vec<u64> {
    let mut counts = vec![0; LATENCY_BUCKETS];
    counts[bucket(took)] = count;
    counts
}

fn good() -> Window {
    Window {
        length: Duration::from_secs(10),
        accepted: 1000,
        requests: 1000,
        failed: 0,
        latency: answers(1000, Duration::from_millis(10)),
        connections: 100,
        connections_min: 100,
        healthy: 2,
        backends: 2,
        cores_used: 0.2,
        rss: 20 << 20,
        first_rss: 20 << 20,
        descriptors: 300,
        first_descriptors: 300,
    }
}

fn judged(change: impl FnOnce(&mut Evidence)) -> Judgement {
    let mut evidence = Evidence {
        baseline: Some(good()),
        candidate: Some(good()),
        connections: 100,
        cores: 2.0,
        memory: Some(8 << 30),
        is_native: true,
        answers: None,
        queue: Queue::default(),
    };
    change(&mut evidence);
    judge(&Thresholds::default(), &evidence)
}

fn candidate(change: impl FnOnce(&mut Window)) -> Judgement {
    judged(|evidence| change(evidence.candidate.as_mut().expect("there is one")))
}

fn kind(judgement: &Judgement) -> &'static str {
    match judgement {
        Judgement::Good => "good",
        Judgement::NoData(_) => "no data",
        Judgement::Hold(_) => "hold",
        Judgement::Suspect(_) => "suspect",
        Judgement::Pause(_) => "pause",
        Judgement::Breach(_) => "breach",
    }
}

#[test]
fn each_threshold_has_two_sides() {
    type Row = (&'static str, &'static str, fn(&mut Window));
    let table: [Row; 19] = [
        ("as the incumbent", "good", |_| {}),
        ("1 % failed", "good", |w| w.failed = 10),
        ("more than 1 % failed", "pause", |w| w.failed = 11),
        ("5 % failed", "pause", |w| w.failed = 50),
        ("more than 5 % failed", "breach", |w| w.failed = 51),
        ("all of a few failed", "good", |w| {
            (w.requests, w.failed) = (99, 99)
        }),
        ("twice as slow", "good", |w| {
            w.latency = answers(1000, Duration::from_millis(18))
        }),
        ("three times as slow", "suspect", |w| {
            w.latency = answers(1000, Duration::from_millis(30))
        }),
        ("slow in a short window", "good", |w| {
            w.latency = answers(1000, Duration::from_millis(30));
            w.length = Duration::from_secs(2);
        }),
        ("a few slow answers", "good", |w| {
            w.latency = answers(99, Duration::from_secs(1))
        }),
        ("no backend", "suspect", |w| w.healthy = 0),
        ("one backend less", "good", |w| w.healthy = 1),
        ("much memory, steady", "good", |w| {
            (w.rss, w.first_rss) = (200 << 20, 200 << 20)
        }),
        ("memory that grows", "breach", |w| w.rss = 200 << 20),
        ("memory that grows a little", "good", |w| w.rss = 90 << 20),
        ("descriptors that grow", "breach", |w| w.descriptors = 1300),
        ("descriptors for connections", "good", |w| {
            (w.descriptors, w.connections) = (1300, 300)
        }),
        ("most of the memory", "pause", |w| {
            (w.rss, w.first_rss) = (15 << 29, 15 << 29)
        }),
        ("all cores", "hold", |w| w.cores_used = 1.9),
    ];
    for (what, expected, change) in table {
        let judgement = candidate(change);
        assert_eq!(kind(&judgement), expected, "{what}: {judgement:?}");
    }
}

#[test]
fn what_the_incumbent_suffers_too_is_not_the_successors_fault() {
    let both = |change: fn(&mut Window)| {
        judged(|evidence| {
            change(evidence.baseline.as_mut().expect("there is one"));
            change(evidence.candidate.as_mut().expect("there is one"));
        })
    };
    assert_eq!(both(|w| w.failed = 100), Judgement::Good);
    assert_eq!(both(|w| w.healthy = 0), Judgement::Good);
    assert_eq!(
        both(|w| w.latency = answers(1000, Duration::from_secs(1))),
        Judgement::Good
    );
}

#[test]
fn connections_that_went_are_noticed_and_noise_is_not() {
    for (now, expected) in [(100, "good"), (90, "good"), (89, "pause"), (0, "pause")] {
        let judgement = judged(|evidence| evidence.connections = now);
        assert_eq!(kind(&judgement), expected, "{now}");
    }
    let few = judged(|evidence| {
        evidence.connections = 0;
        evidence
            .baseline
            .as_mut()
            .expect("there is one")
            .connections_min = 49;
    });
    assert_eq!(few, Judgement::Good);
}

#[test]
fn no_data_is_never_good() {
    let silent = judged(|evidence| evidence.candidate = None);
    assert_eq!(kind(&silent), "no data");
    let limits = Thresholds {
        require_requests: 10,
        ..Thresholds::default()
    };
    let mut evidence = Evidence {
        candidate: Some(Window::default()),
        is_native: true,
        ..Evidence::default()
    };
    assert_eq!(kind(&judge(&limits, &evidence)), "no data");
    evidence.is_native = false;
    assert_eq!(judge(&limits, &evidence), Judgement::Good);
}

#[test]
fn the_gravest_finding_is_told_with_both_numbers() {
    let Judgement::Breach(reason) = candidate(|w| (w.failed, w.healthy) = (500, 0)) else {
        panic!("half of the requests failed");
    };
    assert_eq!(
        reason,
        "error rate 50.0 % of 1000 requests (the incumbent: 0.0 %), above 5.0 %"
    );
}

#[test]
fn a_window_is_the_difference_of_its_ends() {
    let at = Instant::now();
    let sample = |second: u64, requests: u64, latency: Vec<u64>| Sample {
        at: at + Duration::from_secs(second),
        accepted: requests,
        requests,
        failed: 0,
        latency,
        connections: 10 - second,
        healthy: 1,
        backends: 1,
        cpu: Duration::from_millis(500 * second),
        rss: second,
        descriptors: second,
    };
    let samples = [
        sample(0, 5, vec![1]),
        sample(1, 7, vec![2, 3]),
        sample(4, 9, vec![4, 3, 1]),
    ];
    let window = window(&samples).expect("has samples");
    assert_eq!(
        (
            window.length,
            window.requests,
            window.connections,
            window.connections_min
        ),
        (Duration::from_secs(4), 4, 6, 6)
    );
    assert_eq!(window.latency, [3, 3, 1]);
    assert!((window.cores_used - 0.5).abs() < 0.001);
    // A counter that went back is no flood of requests.
    let back = super::window(&[sample(0, 9, vec![9]), sample(1, 1, vec![1])]).expect("has samples");
    assert_eq!((back.requests, back.answered()), (0, 0));
    assert_eq!(super::window(&[]), None);
}
