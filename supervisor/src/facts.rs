//! Gathers what a plan is made from: /proc, limits, both binaries' own words, a bind that is undone at once.
//!
//! Room  reads only; nothing of it changes what runs.
//! In    [`Now`], what the core knows at this moment. Out  [`Facts`] for `plan`.
//! Holds what the kernel does not say is `None`, never a guess; an address is tried without SO_REUSEPORT and
//!       without listening, so no connection can arrive there.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use control::{ArtifactStatus, PlannedDescriptors, PlannedDrain, PlannedMemory, PlannedProtocols};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{Resource, getrlimit};

use crate::plan::{self, Facts, Held, Unbindable};
use crate::probe::{self, Description};
use crate::record::Artifact;

/// What the core knows when an upgrade is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Now {
    pub(crate) committed: Artifact,
    pub(crate) args: Vec<String>,
    pub(crate) incumbent: Option<u32>,
    pub(crate) held: Vec<Held>,
    pub(crate) drains: Vec<PlannedDrain>,
    /// Artifacts that a refusal must leave in the store.
    pub(crate) kept: Vec<Artifact>,
}

/// Asks everybody.
pub(crate) async fn gather(now: Now, artifact: &Artifact, new: Description) -> Facts {
    let old = describe_committed(&now).await;
    let is_native = artifact.is_native();
    let range = |description: &Description| {
        let range = description.handoff;
        range.map(|range| range.to_string()).unwrap_or_default()
    };
    let mut facts = Facts {
        from: status(&now.committed),
        to: status(artifact),
        protocols: PlannedProtocols {
            supervisor: handoff::version::SPOKEN.to_string(),
            incumbent: range(&old),
            successor: range(&new),
        },
        native: is_native,
        held: now.held,
        wanted_before: old.wants.map(|wants| wants.listeners),
        wanted: new.wants.map(|wants| wants.listeners),
        unbindable: Vec::new(),
        descriptors: descriptors(now.incumbent, is_native),
        memory: memory(now.incumbent),
        drains: now.drains,
    };
    for drain in &mut facts.drains {
        drain.moves &= new.moves > 0;
    }
    facts.unbindable = unbindable(&facts);
    facts
}

/// What the committed version says of itself; nothing, when its file is gone or it fails.
async fn describe_committed(now: &Now) -> Description {
    let binary = &now.committed.path;
    let Ok(mut description) = probe::describe(binary).await else {
        return Description::default();
    };
    if now.committed.is_native() {
        let wants = probe::check_configuration(binary, &now.args).await;
        description.wants = wants.unwrap_or_default();
    }
    description
}

fn status(artifact: &Artifact) -> ArtifactStatus {
    ArtifactStatus {
        version: artifact.version.clone(),
        sha256: artifact.sha256.clone(),
    }
}

fn descriptors(incumbent: Option<u32>, native: bool) -> PlannedDescriptors {
    let limit = getrlimit(Resource::Nofile);
    // A native worker raises its soft limit to the hard one.
    let of_worker = if native { limit.maximum } else { limit.current };
    let (host, host_limit) = host_files();
    PlannedDescriptors {
        incumbent: incumbent.and_then(open_files),
        successor: None,
        limit: of_worker,
        supervisor: open_files(std::process::id()),
        supervisor_limit: limit.current,
        host,
        host_limit,
    }
}

/// Descriptors of a process; `None`: it is gone or not ours.
pub(crate) fn open_files(pid: u32) -> Option<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    u64::try_from(entries.count()).ok()
}

/// proc(5), `/proc/sys/fs/file-nr`: allocated, unused, limit.
fn host_files() -> (Option<u64>, Option<u64>) {
    let text = fs::read_to_string("/proc/sys/fs/file-nr").unwrap_or_default();
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    (numbers.first().copied(), numbers.get(2).copied())
}

fn memory(incumbent: Option<u32>) -> PlannedMemory {
    PlannedMemory {
        incumbent: incumbent.and_then(resident),
        available: kibibytes("/proc/meminfo", "MemAvailable:"),
        cgroup_left: cgroup_left(),
    }
}

/// Resident bytes of a process.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    kibibytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// A line such as "VmRSS:  1234 kB", in bytes.
fn kibibytes(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

/// Memory of this host, in bytes (proc_meminfo(5)).
pub(crate) fn memory_total() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemTotal:")
}

/// What is left below the nearest limit of our cgroup and those above it (cgroup v2); page cache that the
/// kernel gives back at once (`inactive_file`) does not count as used.
fn cgroup_left() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let dirs = Path::new(own).ancestors().map(|below| root.join(below));
    dirs.filter_map(|dir| left_below(&dir)).min()
}

fn left_below(dir: &Path) -> Option<u64> {
    let number = |file: &str| -> Option<u64> {
        let text = fs::read_to_string(dir.join(file)).ok()?;
        text.trim().parse().ok()
    };
    // "max" is no number: no limit.
    let limit = number("memory.max")?;
    let used = number("memory.current")?;
    let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
    let cache = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "))
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

/// Addresses that somebody else has. A port that this service holds is its own affair.
fn unbindable(facts: &Facts) -> Vec<Unbindable> {
    let port_of = |text: &str| {
        text.parse::<SocketAddr>()
            .ok()
            .map(|address| address.port())
    };
    let held: Vec<Option<u16>> = facts
        .held
        .iter()
        .map(|held| port_of(&held.address))
        .collect();
    let mut found = Vec::new();
    for listener in plan::added(facts) {
        let Ok(address) = listener.address.parse::<SocketAddr>() else {
            continue;
        };
        if address.port() == 0 || held.contains(&Some(address.port())) {
            continue;
        }
        if let Err(error) = try_bind(address)
            && let Some((why, next)) = explain(address, &error)
        {
            found.push(Unbindable {
                name: listener.name,
                why,
                next,
            });
        }
    }
    found
}

/// SO_REUSEADDR lets connections in TIME-WAIT pass. Without SO_REUSEPORT the kernel refuses an address that
/// somebody listens on (socket(7)); without listen() nothing is queued. Closed on return.
fn try_bind(address: SocketAddr) -> io::Result<()> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(())
}

/// Other errors (no descriptors, …) are the weighing's to tell.
fn explain(address: SocketAddr, error: &io::Error) -> Option<(String, String)> {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => Some((
            format!("{address} is in use by another program"),
            format!("see `ss -ltnp 'sport = :{port}'`, end it or choose another address"),
        )),
        io::ErrorKind::AddrNotAvailable => Some((
            format!("{address} is not an address of this host"),
            "see `ip address`".to_owned(),
        )),
        io::ErrorKind::PermissionDenied => Some((
            format!("{address} may not be bound by this user"),
            "give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE".to_owned(),
        )),
        _ => None,
    }
}
