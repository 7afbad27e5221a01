//! The shipped units on hosts with a real systemd, installed by `make install`; clients and origins are outside of the
//! host. Every event that an operator or a bad day brings happens under load, and no client may be refused.
//!
//! `make lab` builds the roots and runs this as root; the limits of what it shows are in docs/testing.md.

mod host;
mod network;
mod product;
mod site;

use std::io::Write as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use bench::ledger::{Class, Ledger};
use control::Status;

use host::Host;
use network::Network;
use site::{Clients, Kind, Report, Site};

/// A release of Debian, and the systemd it has.
#[derive(Clone, Copy, Debug)]
struct Release {
    name: &'static str,
    systemd: u32,
}

const BOOKWORM: Release = Release {
    name: "bookworm",
    systemd: 252,
};

const TRIXIE: Release = Release {
    name: "trixie",
    systemd: 257,
};

impl Release {
    /// What scripts/lab-roots has built.
    fn root(self) -> PathBuf {
        let roots =
            std::env::var_os("LAB_ROOTS").unwrap_or_else(|| "/var/cache/zeitwork-lab".into());
        let folders = std::fs::read_dir(&roots).into_iter().flatten().flatten();
        let mut built: Vec<PathBuf> = folders.map(|folder| folder.path()).collect();
        built.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.is_dir() && name.starts_with(&format!("{}-", self.name))
        });
        built.sort();
        built.pop().unwrap_or_else(|| {
            panic!(
                "no root of {} in {}: run scripts/lab-roots",
                self.name,
                roots.display()
            )
        })
    }
}

/// What systemd says of a service.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    main_pid: String,
    restarts: u32,
}

/// A host with one of the services, outside of which this test's runtime lives.
struct Lab {
    host: Host,
    site: Site,
    report: Report,
    kind: Kind,
}

/// Runs a test outside of a freshly booted host.
fn on_a_host<T: Future<Output = ()>>(release: Release, kind: Kind, test: impl FnOnce(Lab) -> T) {
    host::sweep();
    // One process may run several tests at once (cargo's own runner).
    let (process, kind_of, systemd) = (std::process::id(), kind.short(), release.systemd);
    let name = format!("zwlab-{process}-{kind_of}-{systemd}");
    let network = Network::new(&name);
    network.enter_outside();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let product = product::install(&name);
        let site = Site::start(kind, &product);
        let host = Host::boot(&name, &release.root(), product.path(), network);
        let version = host.succeed(&["systemctl", "--version"]);
        assert!(
            version.starts_with(&format!("systemd {}", release.systemd)),
            "{version}"
        );
        let report = Report::new(release.name, release.systemd, kind);
        let lab = Lab {
            host,
            site,
            report,
            kind,
        };
        test(lab).await;
    });
}

/// A test that fails shows what its host saw.
impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = writeln!(
                std::io::stderr(),
                "--- journal ---\n{}",
                self.host.journal()
            );
        }
    }
}

impl Lab {
    fn systemctl(&self, args: &[&str]) -> String {
        self.host.succeed(&[&["systemctl"], args].concat())
    }

    /// A property of the service's unit.
    fn show(&self, property: &str) -> String {
        let unit = self.kind.unit();
        let said = self.systemctl(&["show", "--value", "--property", property, unit]);
        said.trim().to_owned()
    }

    fn supervisor(&self, verb: &str, args: &[&str]) -> host::Said {
        let name = self.kind.name();
        let call = ["zeitwork-supervisor", verb, "--name", name];
        self.host.run(&[&call[..], args].concat())
    }

    fn status(&self) -> Status {
        let said = self.supervisor("status", &["--json"]);
        assert_eq!(said.code, 0, "{}\n{}", said.text, self.host.journal());
        serde_json::from_str(&said.text).unwrap_or_else(|error| panic!("{error}: {}", said.text))
    }

    /// Whether the service serves: by its own word.
    fn until_serving(&self) {
        let serves = |lab: &Self| {
            let said = lab.supervisor("status", &["--json"]);
            let status: Option<Status> = serde_json::from_str(&said.text).ok();
            status.is_some_and(|status| {
                let mut all = status.generations.iter();
                all.any(|one| one.accepting && one.role == control::Role::Incumbent)
            })
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !serves(self) {
            assert!(Instant::now() < deadline, "{}", self.host.journal());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Lets something happen while clients come and go, and others stay: none of them may lose anything.
    async fn under_load(&mut self, event: &str, happens: impl FnOnce(&Self)) {
        let ledger = self.account(event, Clients::WithStreams, happens).await;
        assert!(ledger.is_clean(), "{event}: {:#?}", ledger.examples);
    }

    /// The same where the service stops, so that nobody can stay.
    async fn under_passing_load(&mut self, event: &str, happens: impl FnOnce(&Self)) {
        let ledger = self.account(event, Clients::Passing, happens).await;
        assert!(ledger.is_clean(), "{event}: {:#?}", ledger.examples);
    }

    async fn account(
        &mut self,
        event: &str,
        clients: Clients,
        happens: impl FnOnce(&Self),
    ) -> Ledger {
        let traffic = self.site.load(clients);
        traffic.flows(60).await;
        tokio::task::block_in_place(|| happens(self));
        traffic.flows(200).await;
        let ledger = traffic.finish().await;
        self.report.row(event, &ledger);
        ledger
    }

    /// The same process as before?
    fn main_pid(&self) -> String {
        self.show("MainPID")
    }

    fn expect_no_failure(&self) {
        let failed = self.systemctl(&["--failed", "--no-legend", "--plain"]);
        assert_eq!(failed.trim(), "", "{}", self.host.journal());
        let journal = self.host.succeed(&["journalctl", "--no-pager", "--boot"]);
        assert!(!journal.contains("panicked at"), "{journal}");
    }

    /// Bound by systemd before the service runs: the first clients start it.
    async fn starts_with_its_first_client(&mut self) {
        for unit in self.kind.sockets() {
            self.systemctl(&["enable", "--now", unit]);
        }
        self.systemctl(&["enable", self.kind.unit()]);
        assert_eq!(self.show("ActiveState"), "inactive");
        self.under_passing_load("start by its socket unit", Self::until_serving)
            .await;
        assert_eq!(self.show("Result"), "success");
    }

    async fn reloads(&mut self) {
        let unit = self.kind.unit();
        let (path, before) = (self.config_path(), self.process());
        let shipped = std::fs::read_to_string(&path).expect("its configuration");
        let good = self.site.with_spare(&shipped);
        std::fs::write(&path, &good).expect("written");
        assert_eq!(self.site.requests_of_spare(), 0);
        self.under_load("reload", |lab| {
            lab.systemctl(&["reload", unit]);
        })
        .await;
        assert!(self.site.requests_of_spare() > 0, "the backend it added");
        std::fs::write(&path, format!("{good}\n[nonsense]\n")).expect("written");
        self.under_load("reload of a wrong configuration", |lab| {
            let said = lab.host.run(&["systemctl", "reload", unit]);
            assert_ne!(said.code, 0, "{}", said.text);
            assert_eq!(lab.show("ActiveState"), "active");
        })
        .await;
        let journal = self.host.journal();
        assert!(
            journal.contains("nonsense"),
            "the mistake is told: {journal}"
        );
        std::fs::write(&path, good).expect("written");
        self.systemctl(&["reload", unit]);
        assert_eq!(self.process(), before, "a reload starts no process");
    }

    fn config_path(&self) -> PathBuf {
        let name = self.kind.name();
        self.host.file(&format!("/etc/zeitwork/{name}.toml"))
    }

    async fn restarts(&mut self) {
        let unit = self.kind.unit();
        let before = self.main_pid();
        self.under_passing_load("restart", |lab| {
            lab.systemctl(&["restart", unit]);
            lab.until_serving();
        })
        .await;
        assert_ne!(self.main_pid(), before);
        // It was asked for: nothing that systemd had to do by itself.
        assert_eq!(self.show("NRestarts"), "0");
    }

    async fn survives_a_kill(&mut self) {
        self.has_its_main_process_replaced("kill -9 of the main process", "-KILL")
            .await;
        let worker = self.worker().to_string();
        let kill = |lab: &Self| {
            lab.host.succeed(&["kill", "-9", &worker]);
            lab.until_serving();
        };
        // What it held is gone with it; nobody else notices more than a wait.
        let ledger = self.account("kill -9 of the worker", Clients::Passing, kill);
        let ledger = ledger.await;
        for class in [Class::Refused, Class::Hung, Class::TimedOut] {
            assert_eq!(ledger.count(class), 0, "{:#?}", ledger.examples);
        }
        assert_eq!(ledger.unaccounted(), 0);
    }

    /// systemd starts another main process; the worker serves on all the while.
    async fn has_its_main_process_replaced(&mut self, event: &str, signal: &str) {
        let (before, worker) = (self.process(), self.worker());
        self.under_load(event, |lab| {
            lab.host.succeed(&["kill", signal, &before.main_pid]);
            lab.until_replaced(&before.main_pid);
        })
        .await;
        assert_eq!(self.worker(), worker, "the worker served on");
        assert_eq!(self.process().restarts, before.restarts + 1);
    }

    fn worker(&self) -> u32 {
        let status = self.status();
        let incumbent = harness::host::incumbent(&status);
        incumbent.expect("somebody serves").pid
    }

    fn process(&self) -> Process {
        let restarts = self.show("NRestarts");
        Process {
            main_pid: self.main_pid(),
            restarts: restarts.parse().expect("a number"),
        }
    }

    fn until_replaced(&self, before: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let now = self.main_pid();
            if now != before && now != "0" {
                return self.until_serving();
            }
            assert!(Instant::now() < deadline, "{}", self.host.journal());
            thread::sleep(Duration::from_millis(50));
        }
    }

    async fn is_watched(&mut self) {
        // /run is the host's own: it is written from inside.
        let inside = format!("/run/systemd/system/{}.d", self.kind.unit());
        self.host.succeed(&["mkdir", "-p", &inside]);
        let text = "[Service]\nWatchdogSec=2\n";
        let write = format!("printf '{text}' >{inside}/watchdog.conf");
        self.host
            .succeed(&["sh", "-c", &write.replace('\n', "\\n")]);
        self.systemctl(&["daemon-reload"]);
        self.systemctl(&["restart", self.kind.unit()]);
        self.until_serving();
        self.has_its_main_process_replaced("a main process that hangs (watchdog)", "-STOP")
            .await;
        let journal = self.host.journal();
        assert!(journal.to_lowercase().contains("watchdog"), "{journal}");
        self.host.succeed(&["rm", "-r", &inside]);
        self.systemctl(&["daemon-reload"]);
    }

    /// Up, back, up again: the digest that is committed in the end.
    async fn upgrades(&mut self) -> String {
        let before = self.main_pid();
        let first = self.committed();
        let next = product::another(&self.host, self.kind.program(), "next");
        let upgrade = |lab: &Self| {
            let said = lab.supervisor("upgrade", &["--binary", &next, "--bake", "2s"]);
            assert_eq!(said.code, 0, "{}", said.text);
        };
        self.under_load("upgrade", upgrade).await;
        let second = self.committed();
        assert_ne!(second, first);
        self.under_load("rollback", |lab| {
            let said = lab.supervisor("rollback", &[]);
            assert_eq!(said.code, 0, "{}", said.text);
        })
        .await;
        assert_eq!(self.committed(), first);
        let broken = product::broken(&self.host);
        self.under_load("upgrade to a broken binary", |lab| {
            let said = lab.supervisor("upgrade", &["--binary", &broken]);
            assert_eq!(said.code, 7, "{}", said.text);
        })
        .await;
        self.under_load("upgrade with a canary", |lab| {
            let args = [
                "--binary", &next, "--canary", "25,50", "--step", "1s", "--bake", "1s",
            ];
            let said = lab.supervisor("upgrade", &args);
            assert_eq!(said.code, 0, "{}", said.text);
        })
        .await;
        let supervisor = product::another(&self.host, "zeitwork-supervisor", "next");
        self.under_load("upgrade of the supervisor itself", |lab| {
            let said = lab.supervisor("upgrade", &["--self", "--binary", &supervisor]);
            assert_eq!(said.code, 0, "{}", said.text);
            lab.until_serving();
        })
        .await;
        assert_eq!(self.main_pid(), before, "the main process never changes");
        assert_eq!(self.show("NRestarts"), "0");
        second
    }

    fn committed(&self) -> String {
        self.status()
            .committed
            .expect("a version is committed")
            .sha256
    }

    async fn stops_and_starts(&mut self, event: &str) {
        let unit = self.kind.unit();
        self.under_passing_load(event, |lab| {
            lab.systemctl(&["stop", unit]);
            // With its socket unit, a client has started it already.
            thread::sleep(Duration::from_secs(1));
            lab.systemctl(&["start", unit]);
            lab.until_serving();
        })
        .await;
    }

    /// A host that is down refuses; from the moment on when it serves again, nobody may lose anything.
    async fn comes_back_after_a_reboot(&mut self, committed: &str) {
        let begun = Instant::now();
        let traffic = self.site.load(Clients::Passing);
        traffic.flows(60).await;
        tokio::task::block_in_place(|| self.host.reboot());
        self.until_serving();
        let served_again = begun.elapsed();
        traffic.flows(200).await;
        let ledger = traffic.finish().await;
        let slices = ledger.slices.iter();
        let late = slices.filter(|(at, _)| *at > served_again);
        let late: u64 = late.map(|(_, slice)| slice.lost).sum();
        assert_eq!(
            (late, ledger.unaccounted()),
            (0, 0),
            "{:#?}",
            ledger.examples
        );
        // Resets are of those who came while the service stopped: they wait in the accept queue, as for a restart,
        // and the queue ends with the host.
        for class in Class::ALL.into_iter().filter(|class| class.is_loss()) {
            let is_told = matches!(class, Class::Refused | Class::Reset);
            assert!(
                is_told || ledger.count(class) == 0,
                "{:#?}",
                ledger.examples
            );
        }
        self.report.row("reboot", &ledger);
        assert_eq!(self.committed(), committed, "what was committed runs");
        let running = self.status().generations[0].sha256.clone();
        assert_eq!(running, committed);
        self.under_load("after a reboot", |_| {}).await;
    }
}

async fn every_event(mut lab: Lab, release: Release) {
    lab.starts_with_its_first_client().await;
    let committed = lab.upgrades().await;
    lab.reloads().await;
    lab.restarts().await;
    lab.survives_a_kill().await;
    lab.is_watched().await;
    lab.stops_and_starts("stop, 1 s, start (socket unit)").await;
    lab.expect_no_failure();
    lab.comes_back_after_a_reboot(&committed).await;
    if release.systemd >= 254 {
        for unit in lab.kind.sockets() {
            lab.systemctl(&["disable", "--now", unit]);
        }
        lab.systemctl(&["restart", lab.kind.unit()]);
        lab.until_serving();
        lab.stops_and_starts("stop, 1 s, start (descriptor store preserved)")
            .await;
    }
    lab.expect_no_failure();
    lab.systemctl(&["stop", lab.kind.unit()]);
    lab.report.write();
}

#[test]
fn lb_on_systemd_252() {
    on_a_host(BOOKWORM, Kind::Lb, |lab| every_event(lab, BOOKWORM));
}

#[test]
fn lb_on_systemd_257() {
    on_a_host(TRIXIE, Kind::Lb, |lab| every_event(lab, TRIXIE));
}

#[test]
fn edge_on_systemd_252() {
    on_a_host(BOOKWORM, Kind::Edge, |lab| every_event(lab, BOOKWORM));
}

#[test]
fn edge_on_systemd_257() {
    on_a_host(TRIXIE, Kind::Edge, |lab| every_event(lab, TRIXIE));
}
