//! Which processes belong to one program: its process group, and whatever descends from it.
//!
//! Room  pure: lines of /proc/PID/stat in (proc(5)), numbers out.
//! In    everything that runs, as one look saw it.
//! Holds a worker's number is the number of its process group from its start (child.rs), and a child that makes a
//!       group or session of its own is still a descendant.

use std::collections::{BTreeMap, BTreeSet};

/// One process, at one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kin {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    /// Field 22: clock ticks since boot.
    pub(crate) started: u64,
    /// It has ended and waits to be reaped: it holds nothing.
    pub(crate) is_ended: bool,
}

/// Fields 1 (number), 3 (state), 4 (parent), 5 (process group), 22 (start).
pub(crate) fn parse_stat(stat: &str) -> Option<Kin> {
    // The command name may hold anything; the fields begin after its last parenthesis.
    let (before, fields) = stat.rsplit_once(')')?;
    let (pid, _) = before.split_once(" (")?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // -1 is printed by some kernels for what has no group any more.
    let group = fields.next()?.parse::<i64>().ok()?;
    Some(Kin {
        pid: pid.parse().ok()?,
        parent,
        group: u32::try_from(group).unwrap_or(0),
        started: fields.nth(16)?.parse().ok()?,
        is_ended: matches!(state, "Z" | "X"),
    })
}

/// The living processes of the program whose first process is `main`.
pub(crate) fn family(main: u32, all: &[Kin]) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for kin in all {
        children.entry(kin.parent).or_default().push(kin.pid);
    }
    let in_group = all.iter().filter(|kin| kin.group == main);
    let mut waiting: Vec<u32> = in_group.map(|kin| kin.pid).chain([main]).collect();
    let mut found = BTreeSet::new();
    while let Some(pid) = waiting.pop() {
        // A number that was met before ends here, whatever a torn look made of parents.
        if found.insert(pid) {
            waiting.extend(children.get(&pid).into_iter().flatten());
        }
    }
    let living = all
        .iter()
        .filter(|kin| !kin.is_ended && found.contains(&kin.pid));
    living.map(|kin| kin.pid).collect()
}

/// The living processes of the group `main`, without that process.
pub(crate) fn left_in_group(main: u32, all: &[Kin]) -> Vec<Kin> {
    let in_group = |kin: &&Kin| kin.group == main && kin.pid != main && !kin.is_ended;
    all.iter().filter(in_group).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::{Kin, family, left_in_group, parse_stat};

    /// proc(5): pid (comm) state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime
    /// stime cutime cstime priority nice num_threads itrealvalue starttime vsize rss …
    fn stat(pid: &str, comm: &str, state: &str, parent: &str, group: &str) -> String {
        format!(
            "{pid} ({comm}) {state} {parent} {group} 42 0 -1 4194560 900 800 7 6 1 34 5 4 20 0 3 0 777 9999 123 1"
        )
    }

    fn kin(pid: u32, parent: u32, group: u32) -> Kin {
        Kin {
            pid,
            parent,
            group,
            started: 777,
            is_ended: false,
        }
    }

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let ended = Kin {
            is_ended: true,
            ..kin(7, 3, 5)
        };
        let table = [
            (stat("7", "gunicorn", "S", "3", "5"), Some(kin(7, 3, 5))),
            (stat("7", "a b) R 9 9 (", "S", "3", "5"), Some(kin(7, 3, 5))),
            (stat("7", ") 1 (2", "R", "3", "5"), Some(kin(7, 3, 5))),
            (stat("7", "node", "Z", "3", "5"), Some(ended)),
            (stat("7", "kernel", "S", "0", "-1"), Some(kin(7, 0, 0))),
            (stat("x", "node", "S", "3", "5"), None),
            (stat("7", "node", "S", "-3", "5"), None),
            (stat("7", "node", "S", "3", "all"), None),
            (stat("99999999999", "node", "S", "3", "5"), None),
            ("7 (node) S 3 5 42 0".to_owned(), None),
            ("7 node S 3 5".to_owned(), None),
            (String::new(), None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_stat(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_family_is_a_group_and_all_that_descends_from_it() {
        let ended = |kin| Kin {
            is_ended: true,
            ..kin
        };
        // All that runs, and the family of 10.
        let table: [(&[Kin], &[u32]); 8] = [
            (&[kin(10, 1, 10)], &[10]),
            (
                &[kin(10, 1, 10), kin(11, 10, 10), kin(20, 1, 20)],
                &[10, 11],
            ),
            // A grandchild with a group of its own, and its child.
            (
                &[
                    kin(10, 1, 10),
                    kin(11, 10, 11),
                    kin(12, 11, 12),
                    kin(9, 1, 9),
                ],
                &[10, 11, 12],
            ),
            // Its parent has ended; it stays in the group, and its child descends from it.
            (
                &[kin(10, 1, 10), kin(11, 1, 10), kin(12, 11, 12)],
                &[10, 11, 12],
            ),
            (&[kin(11, 1, 10)], &[11]),
            (&[ended(kin(10, 1, 10)), kin(11, 10, 10)], &[11]),
            // Nonsense that a torn look can make.
            (&[kin(10, 11, 10), kin(11, 10, 11)], &[10, 11]),
            (&[kin(20, 1, 20)], &[]),
        ];
        for (all, expected) in table {
            let mut found = family(10, all);
            found.sort_unstable();
            assert_eq!(found, expected, "{all:?}");
        }
    }

    #[test]
    fn another_generation_is_no_family() {
        // Both are children of one supervisor, 5.
        let all = [
            kin(5, 1, 5),
            kin(10, 5, 10),
            kin(11, 10, 10),
            kin(20, 5, 20),
            kin(21, 20, 20),
        ];
        assert_eq!(family(10, &all), [10, 11]);
        assert_eq!(family(20, &all), [20, 21]);
    }

    #[test]
    fn what_is_left_of_a_group_is_alive_and_not_its_leader() {
        let ended = Kin {
            is_ended: true,
            ..kin(12, 1, 10)
        };
        let all = [kin(10, 1, 10), kin(11, 1, 10), ended, kin(13, 1, 13)];
        assert_eq!(left_in_group(10, &all), [kin(11, 1, 10)]);
        assert!(left_in_group(13, &all).is_empty());
    }
}
