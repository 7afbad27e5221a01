//! The command line, as typed.
//!
//! Room  flags and their defaults; nothing is started here.
//! In    arguments.
//! Out   one command with its settings.
//! Holds every default is said in the help.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Loads, origins and ledgers: measures proxies from outside and accounts for every connection.
#[derive(Debug, Parser)]
#[command(name = "bench", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The main job of the product: swap the proxies' binaries under load, with nothing lost.
    #[command(after_help = "Example:
  bench demo --swaps 6

Exit codes:
  0 nothing lost and every step as it must be   1 otherwise   2 usage, or a program is missing")]
    Demo(DemoArgs),
    /// A load with an account of every connection and exchange.
    #[command(after_help = "Examples:
  bench ledger --target tcp://127.0.0.1:7000 --duration 10s --connections 64 --shape mix
  bench ledger --target http://127.0.0.1:8000/bytes/1024 --shape keep-alive --rate 2000

Exit codes:
  0 clean   1 losses, or nothing was measured   2 usage")]
    Ledger(LedgerArgs),
    /// Our proxies beside HAProxy and nginx: CPU for each request, latency, memory, every answer checked.
    #[command(after_help = "Examples:
  bench compare                                 everything, on one processor (about 12 minutes)
  bench compare --scenarios h1,h2 --rounds 5    a part of it
  bench compare --peers envoy,traefik           others (scripts/setup peers installs them)
  bench compare --report compare.html           with plots, too
  bench compare --two-cores --json              for a program

Needs from Debian: haproxy, nginx-light, libnginx-mod-stream, strace (scripts/setup bench). As root it measures in a
network namespace of its own.

Exit codes:
  0 measured   1 a proxy gave a wrong answer, or could not be started   2 usage")]
    Compare(CompareArgs),
    /// May this build pass? CPU for each request against the best peer, with a control; inconclusive is not passed.
    #[command(after_help = "Examples:
  bench gate                                    all scenarios, on one processor (about 8 minutes)
  bench gate --scenarios h1 --edge PATH         one scenario with another build

A scenario passes when the median of the rounds' ratios is within its limit and five of seven rounds nearly are. It is
inconclusive when our own proxy, measured against itself, is off by more than 3 % or ranges over more than 10 % (without the
best and the worst of each seven rounds), and a doubt of that size could change the verdict. What has not passed is measured on, three times as long at most.

Exit codes:
  0 all passed   1 failed, inconclusive, or wrong answers   2 usage")]
    Gate(CompareArgs),
    /// How our proxies hold at scale: idle connections, upstreams, routes, workers.
    #[command(after_help = "Examples:
  bench scale                                   everything, on one processor (about 6 minutes)
  bench scale --only routes,upstreams           a part of it
  bench scale --only idle --idle 5000 --json    for a program

parts:
  routes      many routes against one, by host and by path: CPU for a request
  upstreams   many upstreams of ten backends against one: CPU for a request
  idle        idle connections through lb, edge in clear and edge with TLS: resident memory of each, and CPU for a request
              of 64 busy ones with and without them
  workers     two workers against one: CPU for a request, rate, and how 1,000 fresh connections spread over them

Ratios are of the same round, their median is judged. Everybody is on one processor, but for the workers. As root it
measures in a network namespace of its own.

Exit codes:
  0 measured   1 wrong answers, a bound is broken, or a proxy could not be started   2 usage")]
    Scale(ScaleArgs),
    /// A listener at the far end of a measurement.
    Origin(OriginArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LedgerArgs {
    /// http://HOST:PORT/PATH, https://HOST:PORT/PATH or tcp://HOST:PORT. The path /bytes/N of `bench origin http` is checked byte by byte.
    #[arg(long)]
    pub(crate) target: String,
    /// https: the only authority that is trusted, a PEM file.
    #[arg(long, conflicts_with = "insecure")]
    pub(crate) ca: Option<PathBuf>,
    /// https: trust anybody.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// How long.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// How many clients, each with one connection at a time.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Open loop: exchanges per second with due times fixed in advance. Without it: as fast as answers come.
    #[arg(long)]
    pub(crate) rate: Option<NonZeroU32>,
    /// What the clients do.
    #[arg(long, value_enum, default_value_t = ShapeArg::Mix)]
    pub(crate) shape: ShapeArg,
    /// What the far end does. Default: echo for tcp://, pattern for http://…/bytes/N, else complete.
    #[arg(long, value_enum)]
    pub(crate) expect: Option<ExpectArg>,
    /// Long-lived: time between two blocks [default: 50ms]. Closed loop: pause between two exchanges [default: none].
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) interval: Option<Duration>,
    /// Echo: the largest payload in bytes (each has a random length from 1 on).
    #[arg(long, default_value_t = 16 * 1024)]
    pub(crate) payload: u64,
    /// Keep-alive: exchanges on one connection before it is ended.
    #[arg(long, default_value_t = 100)]
    pub(crate) per_connection: u64,
    /// HTTP/2: requests at the same time on each connection.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) streams: u64,
    /// Without a byte moving for this long an exchange hangs.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) stall: Duration,
    /// A kept connection that the far end closes between two exchanges is no loss (HTTP allows it).
    #[arg(long)]
    pub(crate) allow_idle_close: bool,
    /// Width of the slices of time in the JSON account.
    #[arg(long, default_value = "250ms", value_parser = humantime::parse_duration)]
    pub(crate) slice: Duration,
    /// JSON lines: progress each second, then the ledger.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The load balancer [default: `lb` beside this program].
    #[arg(long)]
    pub(crate) lb: Option<PathBuf>,
    /// The edge proxy [default: `edge` beside this program].
    #[arg(long)]
    pub(crate) edge: Option<PathBuf>,
    /// Only these, as in h1,h2 [default: all].
    #[arg(long, value_delimiter = ',', value_parser = parse_scenario)]
    pub(crate) scenarios: Vec<bench::compare::Scenario>,
    /// Whom to compare with: haproxy, nginx, envoy, caddy, traefik [default: those of the first two that are installed].
    #[arg(long, value_delimiter = ',', value_parser = parse_peer)]
    pub(crate) peers: Vec<bench::compare::Peer>,
    /// Turns of every proxy in each scenario.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// How long each turn is measured.
    #[arg(long, default_value = "1500ms", value_parser = humantime::parse_duration)]
    pub(crate) window: Duration,
    /// Clients and origin on a processor of their own, instead of all on one: for a report, noisier.
    #[arg(long)]
    pub(crate) two_cores: bool,
    /// Only the cost: no latency at a fixed rate, no system calls, no idle connections.
    #[arg(long)]
    pub(crate) cost_only: bool,
    /// With an access log: ours, HAProxy and nginx write each HTTP request into a file.
    #[arg(long)]
    pub(crate) access_log: bool,
    /// A page with plots, one file of HTML.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// JSON lines: each turn, then the results.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// The load balancer [default: `lb` beside this program].
    #[arg(long)]
    pub(crate) lb: Option<PathBuf>,
    /// The edge proxy [default: `edge` beside this program].
    #[arg(long)]
    pub(crate) edge: Option<PathBuf>,
    /// Only these, as in idle,workers [default: all].
    #[arg(long, value_delimiter = ',', value_parser = parse_part)]
    pub(crate) only: Vec<bench::scale::Part>,
    /// Idle connections, where descriptors suffice: `lb` and this process need two for each of `lb`'s.
    #[arg(long, default_value_t = 15_000, value_parser = parse_count)]
    pub(crate) idle: usize,
    /// Upstreams, each of ten backends.
    #[arg(long, default_value_t = 1_000, value_parser = parse_count)]
    pub(crate) upstreams: usize,
    /// Routes.
    #[arg(long, default_value_t = 10_000, value_parser = parse_count)]
    pub(crate) routes: usize,
    /// Turns of both sides of each pair.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// How long each turn is measured.
    #[arg(long, default_value = "1500ms", value_parser = humantime::parse_duration)]
    pub(crate) window: Duration,
    /// JSON lines: each turn, then the findings.
    #[arg(long)]
    pub(crate) json: bool,
}

/// One to a hundred thousand: more fits no machine of ours.
fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=100_000) => Ok(count),
        _ => Err("allowed is 1 to 100000".to_owned()),
    }
}

fn parse_part(text: &str) -> Result<bench::scale::Part, String> {
    let mut all = bench::scale::Part::ALL.into_iter();
    all.find(|one| one.name() == text).ok_or_else(|| {
        let names = bench::scale::Part::ALL.map(bench::scale::Part::name);
        format!("known are {}", names.join(", "))
    })
}

fn parse_peer(text: &str) -> Result<bench::compare::Peer, String> {
    let mut all = bench::compare::Peer::ALL.into_iter();
    all.find(|one| one.name() == text).ok_or_else(|| {
        let names = bench::compare::Peer::ALL.map(bench::compare::Peer::name);
        format!("known are {}", names.join(", "))
    })
}

fn parse_scenario(text: &str) -> Result<bench::compare::Scenario, String> {
    let mut all = bench::compare::Scenario::ALL.into_iter();
    all.find(|one| one.name() == text).ok_or_else(|| {
        let names: Vec<&str> = bench::compare::Scenario::ALL
            .iter()
            .map(|one| one.name())
            .collect();
        format!("known are {}", names.join(", "))
    })
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ShapeArg {
    /// One TCP connection per exchange.
    Short,
    /// Many exchanges on one connection.
    KeepAlive,
    /// One connection for the whole run with numbered blocks both ways (tcp:// echo).
    LongLived,
    /// Several HTTP/2 requests at the same time on each connection (https://, or http:// with prior knowledge).
    Http2,
    /// One WebSocket for the whole run with numbered messages both ways (an echo, such as /websocket of `bench origin http`).
    WebSocket,
    /// Half short, a quarter keep-alive, a quarter long-lived (http://: half short, half keep-alive).
    Mix,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ExpectArg {
    /// tcp://: every byte comes back.
    Echo,
    /// tcp://: nothing comes back, and the far end ends when we end (with --shape short).
    Discard,
    /// http://…/bytes/N: the bytes of `bench origin http`.
    Pattern,
    /// http://: status 2xx and a complete body of any content.
    Complete,
}

#[derive(Debug, Args)]
pub(crate) struct OriginArgs {
    /// What it says.
    #[arg(value_enum)]
    pub(crate) kind: KindArg,
    /// Where it listens; port 0: the kernel chooses, and it is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KindArg {
    /// Returns every byte.
    Echo,
    /// GET /bytes/N gives N fixed bytes, POST /echo gives the body back, /websocket echoes messages.
    Http,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProgramArg {
    /// The L4 load balancer.
    Lb,
    /// The L7 edge proxy.
    Edge,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The load balancer [default: `lb` beside this program].
    #[arg(long)]
    pub(crate) lb: Option<PathBuf>,
    /// The edge proxy [default: `edge` beside this program].
    #[arg(long)]
    pub(crate) edge: Option<PathBuf>,
    /// The supervisor [default: `supervisor` beside this program].
    #[arg(long)]
    pub(crate) supervisor: Option<PathBuf>,
    /// The other load balancer to swap with [default: a copy of the first with a trailing comment: another artifact].
    #[arg(long)]
    pub(crate) successor: Option<PathBuf>,
    /// The other edge proxy to swap with [default: as for the load balancer].
    #[arg(long)]
    pub(crate) edge_successor: Option<PathBuf>,
    /// Swap this program only [default: first lb, then edge].
    #[arg(long, value_enum)]
    pub(crate) only: Option<ProgramArg>,
    /// How many swaps, one after the other.
    #[arg(long, default_value_t = 6)]
    pub(crate) swaps: u32,
    /// How long the incumbent stays ready to return in each swap.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) bake: Duration,
    /// Load for at least this long, even when the swaps are done earlier.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Clients over all loads of a program: some short, some keep-alive, some long-lived.
    #[arg(long, default_value_t = 260)]
    pub(crate) connections: usize,
    /// Kill the serving process once: the ledger must notice. A test of the ledger; exits non-zero.
    #[arg(long)]
    pub(crate) inject_loss: bool,
    /// JSON lines: events, progress each second, then the ledger.
    #[arg(long)]
    pub(crate) json: bool,
}
