//! How connections are spread over the threads of a proxy, seen from outside.
//!
//! Room  what /proc says of its epoll instances (proc_pid_fdinfo(5)); each of our workers has one. Threads' names and times
//!       are in `compare::process`.
//! In    a process before connections were opened, and while they are held.
//! Out   how many of the new descriptors each worker watches.

use std::collections::BTreeSet;
use std::fs;

/// The descriptors that one epoll instance watches.
pub(super) type Watched = BTreeSet<u64>;

/// Those of every epoll instance of a process that watches any. The same instance under two numbers (dup(2), which tokio
/// does) counts once: no descriptor of a connection is watched by two.
pub(super) fn watched(pid: u32) -> Option<BTreeSet<Watched>> {
    let directory = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut all = BTreeSet::new();
    for descriptor in directory.flatten() {
        // One that has been closed since is none of a worker's.
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        if target.to_string_lossy() != "anon_inode:[eventpoll]" {
            continue;
        }
        let number = descriptor.file_name();
        let info = format!("/proc/{pid}/fdinfo/{}", number.to_string_lossy());
        let targets = parse(&fs::read_to_string(info).unwrap_or_default());
        if !targets.is_empty() {
            all.insert(targets);
        }
    }
    Some(all)
}

/// Lines such as "tfd:       11 events:       19 data: ffffffffffffffff …".
fn parse(info: &str) -> Watched {
    let lines = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
    lines
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect()
}

/// Descriptors that are watched now and were not before, for each of so many workers, the most first.
pub(super) fn newly(
    before: &BTreeSet<Watched>,
    now: &BTreeSet<Watched>,
    workers: usize,
) -> Vec<usize> {
    let known: Watched = before.iter().flatten().copied().collect();
    let each = now.iter().map(|one| one.difference(&known).count());
    let mut counts: Vec<usize> = each.collect();
    counts.sort_unstable_by(|one, other| other.cmp(one));
    // A process has further instances (its control thread's), which watch no connection.
    counts.resize(workers, 0);
    counts
}

/// The busiest one ÷ the average; 1 is even. `None`: there is nothing to share.
pub(super) fn unevenness(shares: impl IntoIterator<Item = f64>) -> Option<f64> {
    let shares: Vec<f64> = shares.into_iter().collect();
    let sum: f64 = shares.iter().sum();
    let most = shares.iter().copied().reduce(f64::max)?;
    #[expect(clippy::cast_precision_loss, reason = "a handful of workers")]
    let average = sum / shares.len() as f64;
    (average > 0.0).then(|| most / average)
}

#[cfg(test)]
mod tests {
    use super::{Watched, newly, parse, unevenness};

    #[test]
    fn the_watched_descriptors_are_read() {
        let info = "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1059\ntfd:       11 events:       19 data: ff pos:0\ntfd:        9 events:        1 data: 1 pos:0\n";
        assert_eq!(parse(info), Watched::from([9, 11]));
        assert_eq!(parse(""), Watched::new());
    }

    #[test]
    fn only_what_is_new_counts_for_each_worker() {
        let before = [Watched::from([1, 2]), Watched::from([3])].into();
        let now = [
            Watched::from([1, 2, 10]),
            Watched::from([3, 11, 12, 13]),
            Watched::from([4]),
        ]
        .into();
        assert_eq!(newly(&before, &now, 2), [3, 1]);
        assert_eq!(newly(&before, &before, 2), [0, 0]);
        assert_eq!(newly(&before, &[].into(), 2), [0, 0]);
    }

    #[test]
    fn one_is_even() {
        assert_eq!(unevenness([5.0, 5.0]), Some(1.0));
        assert_eq!(unevenness([10.0, 0.0]), Some(2.0));
        assert_eq!(unevenness([0.0, 0.0]), None);
        assert_eq!(unevenness([]), None);
    }
}
