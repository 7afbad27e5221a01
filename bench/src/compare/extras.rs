//! What one proxy shows beside its cost: latency at a fixed rate, system calls of a request, memory of an idle connection.

use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::contender::{Contender, Site};
use super::run::{self, Measured};
use super::statistics::spread;
use super::{CompareError, Scenario};

/// Idle connections that are held to weigh them.
const IDLE: usize = 2000;

/// How long the fixed rate lasts.
const FIXED: Duration = Duration::from_secs(3);

/// How long system calls are counted.
const TRACED: Duration = Duration::from_secs(1);

/// Everything beside the cost; what could not be had is absent.
#[derive(Clone, Debug, Default)]
pub(super) struct Extras {
    fixed: Option<Measured>,
    pub(super) syscalls: Option<f64>,
    /// Bytes of resident memory.
    pub(super) per_idle_connection: Option<f64>,
}

impl Extras {
    pub(super) fn fixed_rate(&self) -> Option<String> {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let fixed = self.fixed.as_ref()?;
        Some(format!(
            "{:.2} / {:.2} / {:.2}",
            ms(fixed.p50),
            ms(fixed.p99),
            ms(fixed.p999)
        ))
    }
}

/// Measures them; `turns` say what the proxy can do at most.
pub(super) async fn measure(
    site: &Site,
    scenario: Scenario,
    contender: &Contender,
    turns: &[Measured],
) -> Result<Extras, CompareError> {
    let mut extras = Extras::default();
    if scenario.keeps() {
        extras.fixed = match a_third(site.rate(), turns) {
            Some(rate) => Some(run::measure(site, scenario, contender, FIXED, Some(rate)).await?),
            None => None,
        };
    }
    if scenario == Scenario::L4KeepAlive || scenario == Scenario::H1 {
        extras.per_idle_connection = weigh(contender).await;
    }
    if !scenario.counts_bytes() {
        extras.syscalls = count_syscalls(site, scenario, contender).await;
    }
    Ok(extras)
}

/// The same rate for everybody in a scenario: a third of what the first of them (ours) did.
fn a_third(known: &std::cell::Cell<Option<NonZeroU32>>, turns: &[Measured]) -> Option<NonZeroU32> {
    if known.get().is_none() {
        let median = spread(turns.iter().map(Measured::per_second))?.median;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate of some thousands"
        )]
        let third = (median / 3.0) as u32;
        known.set(NonZeroU32::new(third));
    }
    known.get()
}

/// Resident memory of so many connections that had one answer and are kept.
async fn weigh(contender: &Contender) -> Option<f64> {
    let before = contender.process.resident()?;
    let mut held = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let mut client = TcpStream::connect(contender.clear).await.ok()?;
        client
            .write_all(b"GET /bytes/16 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .ok()?;
        let mut answer = [0; 2048];
        // One read: the answer is smaller than a segment.
        client
            .read(&mut answer)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        held.push(client);
    }
    let after = contender.process.resident()?;
    #[expect(clippy::cast_precision_loss, reason = "bytes for a person")]
    let each = after.saturating_sub(before) as f64 / IDLE as f64;
    Some(each)
}

/// strace(1) counts; being traced slows the proxy, so these are calls for each request and no times.
async fn count_syscalls(site: &Site, scenario: Scenario, contender: &Contender) -> Option<f64> {
    let counts = site.directory.join("strace.txt");
    let mut strace = Command::new("strace")
        .args(["-c", "-f", "-q", "-p"])
        .arg(contender.process.pid().to_string())
        .arg("-o")
        .arg(&counts)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    until_traced(contender.process.pid()).await?;
    let traced = run::measure(site, scenario, contender, TRACED, None).await;
    let pid = i32::try_from(strace.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)?;
    // It writes its account when it is interrupted.
    rustix::process::kill_process(pid, rustix::process::Signal::INT).ok()?;
    strace.wait().ok()?;
    let calls = total(&std::fs::read_to_string(Path::new(&counts)).ok()?)?;
    let requests = traced.ok()?.whole;
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let each = calls as f64 / requests.max(1) as f64;
    Some(each)
}

/// From now on every call is counted.
async fn until_traced(pid: u32) -> Option<()> {
    for _ in 0..200 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"))?;
        if tracer.trim() != "0" {
            return Some(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

/// The calls in the last line of strace's account: "100.00    0.123456           1     71234        12 total".
fn total(account: &str) -> Option<u64> {
    let line = account
        .lines()
        .rev()
        .find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_of_an_account_is_found() {
        let account = "% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- --------- --------- ----------------\n 51.02    0.410210           2    171234       100 recvfrom\n------ ----------- ----------- --------- --------- ----------------\n100.00    0.804010           2    350021       100 total\n";
        assert_eq!(total(account), Some(350_021));
        assert_eq!(total(""), None);
        assert_eq!(total("nothing total"), None);
    }
}
