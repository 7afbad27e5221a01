//! What a worker uses of the host: processor time, memory, descriptors, threads (proc(5)).
//!
//! Room  two pure parsers and one reader of three files.
//! In    the number of a process that the caller holds (by its pidfd). Out  its usage now.
//! Holds what the kernel does not say is `None`, never zero; a process that has ended uses nothing that
//!       could be compared.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// What one process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time since it started, user and system.
    pub(crate) cpu: Duration,
    pub(crate) rss_bytes: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

/// The usage of a living process; `None` when it is gone or may not be looked at.
pub(crate) fn of(pid: u32) -> Option<Usage> {
    let directory = Path::new("/proc").join(pid.to_string());
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    let statm = fs::read_to_string(directory.join("statm")).ok()?;
    let times = parse_stat(&stat)?;
    if times.is_zombie {
        return None;
    }
    let page = u64::try_from(rustix::param::page_size()).ok()?;
    Some(Usage {
        cpu: ticks(times.cpu_ticks, rustix::param::clock_ticks_per_second())?,
        rss_bytes: parse_resident_pages(&statm)?.checked_mul(page)?,
        descriptors: count_descriptors(&directory.join("fd"))?,
        threads: times.threads,
    })
}

/// Linux 6.2 and later tell the number as the folder's size; before, its entries are counted.
fn count_descriptors(folder: &Path) -> Option<u64> {
    let told = fs::metadata(folder).ok()?.len();
    // Older kernels say 0; a worker without any descriptor does not exist.
    if told > 0 {
        return Some(told);
    }
    u64::try_from(fs::read_dir(folder).ok()?.count()).ok()
}

fn ticks(count: u64, per_second: u64) -> Option<Duration> {
    let whole = count.checked_div(per_second)?;
    let rest = (count % per_second).checked_mul(1_000_000_000)? / per_second;
    Some(Duration::new(whole, u32::try_from(rest).ok()?))
}

/// What /proc/PID/stat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    cpu_ticks: u64,
    threads: u64,
    is_zombie: bool,
}

/// Fields 3 (state), 14 and 15 (utime, stime), 20 (threads).
fn parse_stat(stat: &str) -> Option<Times> {
    // The command name may hold anything; the fields begin after its last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
    let user = number(10)?;
    let system = number(0)?;
    let threads = number(4)?;
    Some(Times {
        cpu_ticks: user.checked_add(system)?,
        threads,
        is_zombie: matches!(state, "Z" | "X"),
    })
}

/// Second field of /proc/PID/statm.
fn parse_resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, Instant};

    use super::{Times, of, parse_resident_pages, parse_stat, ticks};

    /// proc(5): pid (comm) state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime
    /// stime cutime cstime priority nice num_threads itrealvalue starttime vsize rss …
    fn stat(comm: &str, state: &str, user: &str, threads: &str) -> String {
        format!(
            "42 ({comm}) {state} 1 42 42 0 -1 4194560 900 800 7 6 {user} 34 5 4 20 0 {threads} 0 777 9999 123 1"
        )
    }

    #[test]
    fn the_fields_of_stat_are_found_behind_any_name() {
        let times = |cpu_ticks, is_zombie| Times {
            cpu_ticks,
            threads: 3,
            is_zombie,
        };
        let table = [
            (stat("lb", "S", "1200", "3"), Some(times(1234, false))),
            (stat("a b) c (", "R", "0", "3"), Some(times(34, false))),
            (stat(") 1 2 3", "R", "0", "3"), Some(times(34, false))),
            (stat("lb", "Z", "1", "3"), Some(times(35, true))),
            (stat("lb", "S", "-1", "3"), None),
            (stat("lb", "S", "18446744073709551615", "3"), None),
            (stat("lb", "S", "1", "many"), None),
            ("42 (lb) S 1 42".to_owned(), None),
            ("42 lb S 1 42".to_owned(), None),
            (String::new(), None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_stat(&text), expected, "{text}");
        }
    }

    #[test]
    fn the_resident_pages_are_the_second_field() {
        let table = [
            ("5000 321 200 10 0 400 0\n", Some(321)),
            ("5000 0 0 0 0 0 0", Some(0)),
            ("5000", None),
            ("", None),
            ("5000 -3", None),
            ("5000 99999999999999999999999", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_resident_pages(text), expected, "{text}");
        }
    }

    #[test]
    fn ticks_are_a_time() {
        let table = [
            (0, 100, Some(Duration::ZERO)),
            (1, 100, Some(Duration::from_millis(10))),
            (12_345, 100, Some(Duration::from_millis(123_450))),
            (1_024, 1_024, Some(Duration::from_secs(1))),
            (7, 0, None),
        ];
        for (count, per_second, expected) in table {
            assert_eq!(ticks(count, per_second), expected, "{count}/{per_second}");
        }
    }

    #[test]
    fn our_own_usage_is_seen_and_grows() {
        let pid = std::process::id();
        let before = of(pid).expect("we live");
        assert!(before.rss_bytes > 100_000, "{before:?}");
        assert!(before.threads >= 1, "{before:?}");
        let files: Vec<File> = (0..40)
            .map(|_| File::open("/proc/self/stat").expect("opens"))
            .collect();
        let ballast = vec![1_u8; 32 << 20];
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut sum = 0_u64;
        let after = loop {
            sum = ballast.iter().fold(sum, |sum, byte| sum + u64::from(*byte));
            let after = of(pid).expect("we live");
            if after.cpu > before.cpu || Instant::now() > deadline {
                break after;
            }
        };
        assert!(after.cpu > before.cpu, "{before:?} {after:?} {sum}");
        assert!(after.descriptors >= before.descriptors + 30, "{after:?}");
        assert!(
            after.rss_bytes >= before.rss_bytes + (24 << 20),
            "{before:?} {after:?}"
        );
        drop(files);
    }

    #[test]
    fn whoever_is_gone_or_only_a_shadow_uses_nothing() {
        let mut child = std::process::Command::new("/bin/true")
            .spawn()
            .expect("starts");
        let deadline = Instant::now() + Duration::from_secs(20);
        // Ended and not yet reaped: a zombie has a line in stat and nothing else.
        while of(child.id()).is_some() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(of(child.id()), None);
        child.wait().expect("reaped");
        assert_eq!(of(child.id()), None);
    }
}
