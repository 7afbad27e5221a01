//! What /proc says about a process (proc(5)).

use std::fs;

use rustix::process::{Pid, Resource, Rlimit, Signal};

/// Open descriptors; `None` when the process is gone.
pub fn descriptors(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// Resident memory, in KiB.
pub fn resident_kib(pid: u32) -> Option<u64> {
    field(pid, "VmRSS:")
}

/// Threads.
pub fn threads(pid: u32) -> Option<u64> {
    field(pid, "Threads:")
}

fn field(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// CPU time of all threads, in nanoseconds (first field of schedstat).
pub fn cpu_ns(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        sum += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(sum)
}

/// State letter and parent of a process: `Z` is a zombie.
pub fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// True while the process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != 'Z')
}

/// Children of a process, as (number, is a zombie).
pub fn children(parent: u32) -> Vec<(u32, bool)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| {
            let (state, its_parent) = state_and_parent(pid)?;
            (its_parent == parent).then_some((pid, state == 'Z'))
        })
        .collect()
}

/// How often all threads of a process have gone to sleep by themselves: each wake-up ends with one.
pub fn sleeps(pid: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let counts = threads.flatten().filter_map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        count.trim().parse::<u64>().ok()
    });
    Some(counts.sum())
}

/// Processes of a process group.
pub fn group(leader: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries.flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
            let group = fields.and_then(|fields| fields.split_whitespace().nth(2));
            group.and_then(|group| group.parse().ok()) == Some(leader)
        })
        .collect()
}

/// As many descriptors for this process as it may have.
///
/// # Panics
/// When the limit cannot be set.
pub fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, raised).expect("the limit is raised");
}

/// So many descriptors for this process and the children that it starts from now on.
///
/// # Panics
/// When there is no such process.
pub fn limit_descriptors(pid: u32, most: u64) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    rustix::process::prlimit(pid, Resource::Nofile, limit).expect("the limit is set");
}

/// Sends a signal to a process that this test started (or whose supervisor it started).
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Listening TCP sockets of a port, as the kernel counts them.
pub fn listening_sockets(port: u16) -> usize {
    listening_sockets_of(&[port])
}

/// Listening TCP sockets of several ports (/proc/net/tcp, state 0A; one read, which is slow).
pub fn listening_sockets_of(ports: &[u16]) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table
        .lines()
        .filter(|line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().unwrap_or_default();
            let state = words.nth(1).unwrap_or_default();
            let port = local
                .rsplit_once(':')
                .and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            state == "0A" && port.is_some_and(|port| ports.contains(&port))
        })
        .count()
}

/// Whether a process holds a TCP socket that listens.
pub fn listens(pid: u32) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let listening: Vec<String> = table
        .lines()
        .filter(|line| line.split_whitespace().nth(3) == Some("0A"))
        .filter_map(|line| line.split_whitespace().nth(9))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
    let links = descriptors.into_iter().flatten().flatten();
    let mut links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| listening.iter().any(|one| link.as_os_str() == one.as_str()))
}
