//! What a supervisor knows, in the form in which it hands it to the next one of the same process.
//!
//! Room  pure: values, their form, and which forms are understood.
//! In    JSON of this or another build. Out  the state, or a refusal that says which form it has.
//! Holds unknown fields are ignored and missing ones have a meaning, so builds N-1, N and N+1 read each other as
//!       long as [`FORMAT`] overlaps; a deadline is a moment of the machine's clock and not begun anew.

use std::time::{Duration, Instant};

use control::Role;
use handoff::message::Stats;
use handoff::version::ProtocolRange;
use handoff::{ListenerName, TicketKeys};
use serde::{Deserialize, Serialize};

use crate::record::{Artifact, Record, WorkerRecord};

/// The forms that this build reads; it writes the highest. Raise `max` only when a field gets a meaning without
/// which an older build would do harm.
pub(crate) const FORMAT: ProtocolRange = ProtocolRange { min: 1, max: 1 };

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) format: u16,
    pub(crate) name: String,
    pub(crate) from: Artifact,
    pub(crate) to: Artifact,
    /// When the self-upgrade was asked for.
    pub(crate) asked_ns: u64,
    /// What each descriptor is, in the order of the parcel; see [`Descriptor`].
    #[serde(default)]
    pub(crate) descriptors: Vec<String>,
    pub(crate) record: Record,
    #[serde(default)]
    pub(crate) generations: Vec<CarriedGeneration>,
    #[serde(default)]
    pub(crate) ticket_keys: TicketKeys,
    #[serde(default)]
    pub(crate) rotate_ns: Option<u64>,
    /// Consecutive crashes, for the back-off.
    #[serde(default)]
    pub(crate) crashes: u32,
    #[serde(default)]
    pub(crate) crashes_total: u64,
    #[serde(default)]
    pub(crate) swaps_total: u64,
    #[serde(default)]
    pub(crate) restart_ns: Option<u64>,
    #[serde(default)]
    pub(crate) was_ready: bool,
}

/// A living worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CarriedGeneration {
    pub(crate) worker: WorkerRecord,
    pub(crate) started_ns: u64,
    #[serde(default)]
    pub(crate) ready: bool,
    #[serde(default)]
    pub(crate) accepting: bool,
    #[serde(default)]
    pub(crate) unclaimed: Vec<ListenerName>,
    #[serde(default)]
    pub(crate) stats: Option<Stats>,
    /// When it is killed if it is still there: the end of its drain and some seconds.
    #[serde(default)]
    pub(crate) kill_ns: Option<u64>,
}

impl CarriedGeneration {
    /// True for a worker that has to come back before it can be told anything.
    pub(crate) fn has_to_return(&self) -> bool {
        self.worker.artifact.is_native() && self.worker.role != Role::Draining
    }
}

/// A state that this build cannot go on from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarriedError {
    #[error(
        "the state has form {theirs}, this supervisor ({}) reads {FORMAT}",
        crate::VERSION
    )]
    Format { theirs: u16 },
    #[error("the state is not understood: {0}")]
    NotUnderstood(#[from] serde_json::Error),
    #[error("the state is of the service {theirs:?}, this supervisor is started for {ours:?}")]
    OtherService { theirs: String, ours: String },
}

/// The one field that every form has.
#[derive(Deserialize)]
struct Form {
    format: u16,
}

impl Carried {
    /// Reads a state for the service `name`.
    pub(crate) fn parse(bytes: &[u8], name: &str) -> Result<Self, CarriedError> {
        let Form { format } = serde_json::from_slice(bytes)?;
        if !(FORMAT.min..=FORMAT.max).contains(&format) {
            return Err(CarriedError::Format { theirs: format });
        }
        let carried: Self = serde_json::from_slice(bytes)?;
        if carried.name != name {
            return Err(CarriedError::OtherService {
                theirs: carried.name,
                ours: name.to_owned(),
            });
        }
        Ok(carried)
    }
}

/// What a descriptor of the parcel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Descriptor {
    /// The lock of the runtime directory, held without a break.
    Lock,
    Control,
    Rendezvous,
    /// The notify socket of a level 1 program of this generation.
    Notify(u64),
    /// A member of a listener, in the order of the group.
    Listener(ListenerName),
    /// Of a newer supervisor; closed.
    Unknown,
}

impl Descriptor {
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Lock => "lock".to_owned(),
            Self::Control => "control".to_owned(),
            Self::Rendezvous => "rendezvous".to_owned(),
            Self::Notify(generation) => format!("notify:{generation}"),
            Self::Listener(name) => format!("listener:{name}"),
            Self::Unknown => "unknown".to_owned(),
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        let named = text.split_once(':');
        match (text, named) {
            ("lock", _) => Self::Lock,
            ("control", _) => Self::Control,
            ("rendezvous", _) => Self::Rendezvous,
            (_, Some(("notify", number))) => number.parse().map_or(Self::Unknown, Self::Notify),
            (_, Some(("listener", name))) => name.parse().map_or(Self::Unknown, Self::Listener),
            _ => Self::Unknown,
        }
    }
}

/// One moment on both clocks: `Instant` of this process image, nanoseconds of CLOCK_MONOTONIC across images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) instant: Instant,
    pub(crate) ns: u64,
}

impl Clock {
    pub(crate) fn to_ns(self, at: Instant) -> u64 {
        let later = at.saturating_duration_since(self.instant);
        let earlier = self.instant.saturating_duration_since(at);
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.ns
            .saturating_add(ns(later))
            .saturating_sub(ns(earlier))
    }

    pub(crate) fn to_instant(self, ns: u64) -> Instant {
        let later = Duration::from_nanos(ns.saturating_sub(self.ns));
        let earlier = Duration::from_nanos(self.ns.saturating_sub(ns));
        let moved = self.instant.checked_add(later);
        moved
            .and_then(|at| at.checked_sub(earlier))
            .unwrap_or(self.instant)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Carried, CarriedError, Clock, Descriptor};

    /// As this build's first form was written; never to be edited.
    const FIRST: &str = include_str!("carried.json");

    #[test]
    fn the_first_form_is_read_as_long_as_it_is_supported() {
        let carried = Carried::parse(FIRST.as_bytes(), "load-balancer").expect("is read");
        assert_eq!(carried.generations.len(), 2);
        assert_eq!(carried.generations[1].kill_ns, Some(7_000_000_000));
        assert_eq!(carried.crashes_total, 4);
        assert!(carried.generations[0].has_to_return());
        assert!(!carried.generations[1].has_to_return());
        let again = serde_json::to_vec(&carried).expect("is written");
        Carried::parse(&again, "load-balancer").expect("its own writing is read");
    }

    #[test]
    fn other_forms_other_services_and_noise_are_refused_and_unknown_fields_are_not() {
        let value: serde_json::Value = serde_json::from_str(FIRST).expect("JSON");
        let changed = |key: &str, to: serde_json::Value| {
            let mut value = value.clone();
            value[key] = to;
            Carried::parse(value.to_string().as_bytes(), "load-balancer")
        };
        assert!(changed("of_tomorrow", serde_json::json!({"x": [1]})).is_ok());
        for format in [0, 2, 60_000] {
            assert!(matches!(
                changed("format", format.into()),
                Err(CarriedError::Format { .. })
            ));
        }
        assert!(matches!(
            changed("name", "edge-proxy".into()),
            Err(CarriedError::OtherService { .. })
        ));
        for noise in ["", "{}", "[]", "{\"format\":1}", "\u{0}", "{\"format\":-1}"] {
            assert!(matches!(
                Carried::parse(noise.as_bytes(), "load-balancer"),
                Err(CarriedError::NotUnderstood(_))
            ));
        }
    }

    #[test]
    fn a_descriptor_is_known_by_its_text_and_one_of_tomorrow_is_unknown() {
        for descriptor in [
            Descriptor::Lock,
            Descriptor::Control,
            Descriptor::Rendezvous,
            Descriptor::Notify(7),
            Descriptor::Listener("web".parse().expect("valid")),
        ] {
            assert_eq!(Descriptor::parse(&descriptor.to_text()), descriptor);
        }
        for strange in ["", "notify:x", "listener:W", "channel:3", "lock:1"] {
            assert_eq!(Descriptor::parse(strange), Descriptor::Unknown, "{strange}");
        }
    }

    #[test]
    fn a_deadline_is_the_same_moment_for_the_next_image() {
        let before = Instant::now();
        let clock = |instant, seconds| Clock {
            instant,
            ns: Duration::from_secs(seconds)
                .as_nanos()
                .try_into()
                .expect("fits"),
        };
        let first = clock(before, 100);
        // The next image looks at its clocks two seconds later.
        let second = clock(before + Duration::from_secs(2), 102);
        for (deadline, left) in [(10, 8), (2, 0), (5, 3)] {
            let at = before + Duration::from_secs(deadline);
            let arrived = second.to_instant(first.to_ns(at));
            assert_eq!(arrived, at);
            let remaining = arrived.saturating_duration_since(second.instant);
            assert_eq!(remaining, Duration::from_secs(left));
        }
        assert_eq!(
            first.to_ns(second.to_instant(99_000_000_000)),
            99_000_000_000
        );
        assert!(second.to_instant(u64::MAX) >= before);
    }
}
