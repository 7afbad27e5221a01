//! Seeded simulation of health, ejection and panic threshold together: our own caution must not be the outage.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::specs;
use crate::backend::Backend;
use crate::balance::{Algorithm, Chooser};
use crate::health::{Ejection, HealthCheck, ProbeOutcome};
use crate::upstream::{Upstream, UpstreamSettings};

/// How a simulated backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    /// Connects, passes checks, answers with errors.
    Erring,
    /// Connects, fails checks, answers with errors.
    Sick,
    /// Does not connect.
    Dead,
}

const STATES: [State; 4] = [State::Good, State::Erring, State::Sick, State::Dead];

/// How often the world goes on.
const STEP: Duration = Duration::from_millis(250);

struct World {
    seed: u64,
    random: fastrand::Rng,
    upstream: Arc<Upstream>,
    states: Vec<State>,
    chooser: Chooser,
    now: Instant,
    steps: u32,
    /// Requests that each backend got since the last look.
    got: Vec<u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let count = random.usize(1..=names.len());
        let settings = UpstreamSettings {
            algorithm: Algorithm::ALL[random.usize(..Algorithm::ALL.len())],
            health_check: random.bool().then(HealthCheck::default),
            ejection: Ejection {
                share_max_percent: [0, 10, 50, 100][random.usize(..4)],
                ..Ejection::default()
            },
            panic_threshold_percent: [0, 34, 50, 100][random.usize(..4)],
            slow_start: random.bool().then_some(Duration::from_secs(20)),
            ..UpstreamSettings::default()
        };
        Self {
            seed,
            random,
            upstream: Upstream::new("app".to_owned(), settings, specs(&names[..count])),
            states: vec![State::Good; count],
            chooser: Chooser::new(seed),
            now: Instant::now(),
            steps: 0,
            got: vec![0; count],
        }
    }

    /// Time goes on, checks are made once a second, some requests come.
    fn step(&mut self, requests: u32) {
        self.now += STEP;
        self.steps += 1;
        self.upstream.tick(self.now);
        if self.steps.is_multiple_of(4) {
            self.check_all();
        }
        for _ in 0..requests {
            self.request();
            self.judge();
        }
    }

    fn check_all(&self) {
        for (backend, state) in self.upstream.backends().iter().zip(&self.states) {
            let outcome = match state {
                State::Good | State::Erring => ProbeOutcome::Passed,
                State::Sick | State::Dead => ProbeOutcome::Failed("down".to_owned()),
            };
            self.upstream.probe_result(backend.id(), &outcome, self.now);
        }
    }

    fn request(&mut self) {
        let client = std::net::Ipv4Addr::from(self.random.u32(..)).into();
        let willing = self
            .upstream
            .backends()
            .iter()
            .any(|one| !one.is_draining());
        let chosen = self.chooser.choose(&self.upstream.selection(), client, &[]);
        assert_eq!(
            chosen.is_some(),
            willing,
            "seed {}: nobody was chosen",
            self.seed
        );
        let Some(lease) = chosen else { return };
        let backend = lease.backend();
        let index = self.index_of(backend);
        self.got[index] += 1;
        match self.states[index] {
            State::Good => {
                self.upstream.connect_succeeded(backend, self.now);
                self.upstream.response_succeeded(backend);
            }
            State::Erring | State::Sick => {
                self.upstream.connect_succeeded(backend, self.now);
                self.upstream.response_failed(backend, self.now);
            }
            State::Dead => self.upstream.connect_failed(backend, self.now),
        }
    }

    fn index_of(&self, backend: &Arc<Backend>) -> usize {
        let backends = self.upstream.backends();
        let found = backends.iter().position(|one| Arc::ptr_eq(one, backend));
        found.expect("it belongs to the upstream")
    }

    /// What must hold at every moment, from what the backends say of themselves.
    fn judge(&self) {
        let settings = self.upstream.settings();
        let backends = self.upstream.backends();
        let ejected = backends
            .iter()
            .filter(|one| one.condition().is_ejected(self.now));
        let share = usize::try_from(settings.ejection.share_max_percent).expect("small");
        assert!(
            ejected.count() * 100 <= backends.len() * share,
            "seed {}: more than the cap is ejected",
            self.seed
        );
        let willing: Vec<_> = backends.iter().filter(|one| !one.is_draining()).collect();
        let fit: Vec<_> = backends.iter().filter(|one| one.is_fit(self.now)).collect();
        let threshold = usize::try_from(settings.panic_threshold_percent).expect("small");
        let too_few = fit.is_empty() || fit.len() * 100 < willing.len() * threshold;
        let expected = if too_few { &willing } else { &fit };
        let selection = self.upstream.selection();
        let used: Vec<_> = selection.eligible().iter().collect();
        let is_same = used.len() == expected.len()
            && used
                .iter()
                .zip(expected)
                .all(|(one, other)| Arc::ptr_eq(one, other));
        assert!(is_same, "seed {}: {used:?}, not {expected:?}", self.seed);
        assert_eq!(
            selection.is_fail_open(),
            willing.len() > fit.len() && too_few
        );
    }

    /// Backends fail, recover, are drained and undrained as they like.
    fn upset(&mut self) {
        let index = self.random.usize(..self.states.len());
        self.states[index] = STATES[self.random.usize(..STATES.len())];
        if self.random.u8(..8) == 0 {
            let backend = self.upstream.backends()[index].clone();
            self.upstream.drain(backend.id(), !backend.is_draining());
            // A drain is published by the host's clock, the simulated one is ahead of it.
            self.upstream.publish(self.now);
        }
    }

    fn set_all(&mut self, state: State) {
        self.states.fill(state);
        for backend in self.upstream.backends() {
            self.upstream.drain(backend.id(), false);
        }
        self.upstream.publish(self.now);
    }
}

#[test]
fn whatever_fails_the_cap_holds_and_a_request_finds_a_backend() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            if world.random.u8(..6) == 0 {
                world.upset();
            }
            world.step(8);
        }
    }
}

#[test]
fn when_all_fail_at_once_all_are_used_or_the_cap_spares_them_and_all_recover() {
    for seed in 0..12 {
        for state in [State::Erring, State::Sick, State::Dead] {
            let mut world = World::new(seed);
            world.set_all(state);
            (0..400).for_each(|_| world.step(8));
            let selection = world.upstream.selection();
            let (used, all) = (selection.eligible().len(), world.states.len());
            let share = usize::try_from(world.upstream.settings().ejection.share_max_percent)
                .expect("small");
            assert!(
                used * 100 >= all * (100 - share.min(99)) || used == all,
                "seed {seed}"
            );
            let has_check = world.upstream.settings().health_check.is_some();
            if has_check && state != State::Erring {
                assert_eq!(used, all, "seed {seed}: by its checks nobody is healthy");
            }

            world.set_all(State::Good);
            let longest = Ejection::default().longest + Duration::from_secs(20);
            for _ in 0..=longest.as_millis() / STEP.as_millis() {
                world.step(1);
            }
            assert_eq!(
                world.upstream.selection().eligible().len(),
                all,
                "seed {seed}"
            );
            assert!(!world.upstream.selection().is_fail_open(), "seed {seed}");
            world.got.fill(0);
            (0..100).for_each(|_| world.step(20));
            assert!(
                world.got.iter().all(|got| *got > 0),
                "seed {seed}: {:?}",
                world.got
            );
        }
    }
}
