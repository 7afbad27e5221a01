//! How our proxies hold at scale: thousands of idle connections, upstreams and routes, several workers.
//!
//! ```text
//!   network of its own ─> origins ─> for each part: the same proxy, small and large
//!     round after round:  small large, large small, …  ─> ratios of the same round ─> their median, beside a bound
//! ```
//!
//! Room  the order of the parts and what they share; each part has its file.
//! In    which parts, how large, how many rounds.
//! Out   a table and JSON lines; whether every bound held.
//! Holds every answer is checked: a wrong or missing one, or an idle connection that ended, ends the measurement.

mod balance;
mod configuration;
mod idle;
mod many;
mod pairs;
mod table;
mod workers;

use std::path::PathBuf;
use std::time::Duration;

use crate::compare::contender::{Contender, Site, our_program};
use crate::compare::{self, CompareError, Cores};
use crate::output::Output;

/// What a person can choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The load balancer; `None`: beside this program.
    pub lb: Option<PathBuf>,
    /// The edge proxy; `None`: beside this program.
    pub edge: Option<PathBuf>,
    /// Which of them; they are measured in the order of [`Part::ALL`].
    pub parts: Vec<Part>,
    /// Idle connections; fewer where descriptors do not suffice.
    pub idle: usize,
    /// Upstreams of ten backends each.
    pub upstreams: usize,
    /// Routes.
    pub routes: usize,
    /// Turns of both sides of a pair.
    pub rounds: u32,
    /// How long a turn is measured.
    pub window: Duration,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Many routes against one.
    Routes,
    /// Many upstreams against one.
    Upstreams,
    /// Many idle connections: their memory, and what they cost the busy ones.
    Idle,
    /// Two workers against one, and how connections spread over them.
    Workers,
}

impl Part {
    /// In the order of the measurement. The workers are the last: for them everybody leaves the one processor.
    pub const ALL: [Self; 4] = [Self::Routes, Self::Upstreams, Self::Idle, Self::Workers];

    /// As it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Routes => "routes",
            Self::Upstreams => "upstreams",
            Self::Idle => "idle",
            Self::Workers => "workers",
        }
    }
}

/// What all parts share.
struct Bench<'s> {
    site: Site,
    lb: PathBuf,
    edge: PathBuf,
    settings: &'s Settings,
}

/// Measures. `Ok(true)`: every bound held.
///
/// # Errors
/// See [`CompareError`].
pub async fn run(settings: &Settings, output: &mut Output) -> Result<bool, CompareError> {
    let (_directory, _origin, site) = compare::stage(Cores::One, false)?;
    let bench = Bench {
        site,
        lb: our_program("lb", settings.lb.as_deref())?,
        edge: our_program("edge", settings.edge.as_deref())?,
        settings,
    };
    let mut all_hold = true;
    let wanted = |part: &Part| settings.parts.contains(part);
    for part in Part::ALL.into_iter().filter(wanted) {
        let findings = match part {
            Part::Routes => many::routes(&bench, output).await?,
            Part::Upstreams => many::upstreams(&bench, output).await?,
            Part::Idle => idle::measure(&bench, output).await?,
            Part::Workers => workers::measure(&bench, output).await?,
        };
        table::print(part, &findings, output);
        all_hold &= findings.iter().all(table::Finding::holds);
    }
    Ok(all_hold)
}

/// What a proxy has in memory, for a person.
fn resident(contender: &Contender) -> String {
    match contender.process.resident() {
        Some(bytes) => format!("{} MiB", bytes >> 20),
        None => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::Part;

    #[test]
    fn workers_are_the_last_and_names_are_unique() {
        assert_eq!(Part::ALL.last(), Some(&Part::Workers));
        let mut names: Vec<&str> = Part::ALL.iter().map(|part| part.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Part::ALL.len());
    }
}
