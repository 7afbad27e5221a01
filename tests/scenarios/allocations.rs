//! Allocations of one request, counted exactly by glibc's own counter (memusage(1)): a number that no build may raise unseen.
//!
//! The counter speaks when its process ends, so each load has a process of its own; two loads of different length tell what a
//! request costs and what start and end of a process do.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bench::certificates::Certificates;
use bench::ledger::Class;
use bench::load::{Load, Shape};
use bench::origin::{Kind, Origin};
use bench::target::Target;
use bench::trust::Trust;
use harness::{binaries, ports, proc, wait};
use rustix::process::Signal;

/// Part of libc6.
const COUNTER: &str = "libmemusage.so";

/// Everything around one process.
struct Stand {
    origin: Origin,
    scratch: tempfile::TempDir,
    certificates: Certificates,
}

/// Who is asked, and how.
#[derive(Clone, Copy, Debug)]
enum Way {
    L4,
    Http1,
    Http1Tls,
    Http2,
}

impl Stand {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("scratch");
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            origin: Origin::start(Kind::Http, local).expect("an origin"),
            certificates: Certificates::write(scratch.path(), &["localhost"])
                .expect("certificates"),
            scratch,
        }
    }

    fn config(&self, way: Way, port: u16) -> String {
        let backend = self.origin.address();
        let upstream = format!("[upstream.app]\nbackends = [\"{backend}\"]\n");
        let listener =
            format!("workers = 1\n[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:{port}\"\n");
        let certificate = format!(
            "[[listener.certificate]]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            self.certificates.certificate.display(),
            self.certificates.key.display()
        );
        match way {
            Way::L4 => format!("{listener}upstream = \"app\"\n{upstream}"),
            Way::Http1 => format!("{listener}[[route]]\nupstream = \"app\"\n{upstream}"),
            Way::Http1Tls | Way::Http2 => {
                format!("{listener}{certificate}[[route]]\nupstream = \"app\"\n{upstream}")
            }
        }
    }

    fn load(&self, way: Way, port: u16) -> Load {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let (target, shape) = match way {
            Way::L4 | Way::Http1 => (Target::http(address, "/bytes/1024"), Shape::KeepAlive),
            Way::Http1Tls => (
                Target::https(address, "localhost", "/bytes/1024"),
                Shape::KeepAlive,
            ),
            Way::Http2 => (
                Target::https(address, "localhost", "/bytes/1024"),
                Shape::Http2,
            ),
        };
        let mut load = Load::new(target, shape, 1);
        load.exchanges_per_connection = u64::MAX;
        load.streams_per_connection = 1;
        load.trust = Some(Trust::authority(&self.certificates.authority).expect("an authority"));
        load
    }

    /// A process that answers so many requests: how many it was, and its allocations from start to end.
    async fn count(&self, way: Way, answers: u64) -> (f64, f64) {
        let port = ports::free_ports(1)[0];
        let file = self.scratch.path().join(format!("{way:?}.toml"));
        std::fs::write(&file, self.config(way, port)).expect("written");
        let account = self.scratch.path().join(format!("{way:?}.account"));
        let program = match way {
            Way::L4 => "lb",
            _ => "edge",
        };
        let mut worker = Command::new(binaries::find(program))
            .args(["run", "--config"])
            .arg(&file)
            .env("LD_PRELOAD", COUNTER)
            .stdout(Stdio::null())
            .stderr(File::create(&account).expect("made"))
            .spawn()
            .expect("it starts");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait::until("it accepts", Duration::from_secs(20), || async {
            std::net::TcpStream::connect(address).ok()
        })
        .await;
        let running = self.load(way, port).start().expect("the load starts");
        wait::until("answers", Duration::from_secs(60), || async {
            (running.snapshot().exchanges.count(Class::Ok) >= answers).then_some(())
        })
        .await;
        running.stop();
        let ledger = running.finish().await;
        assert!(ledger.is_clean(), "{:?}", ledger.examples);
        proc::signal(worker.id(), Signal::TERM);
        let ended = wait::until("it ends", Duration::from_secs(30), || {
            let ended = worker.try_wait().expect("a child");
            async move { ended }
        })
        .await;
        assert!(ended.success(), "{ended}");
        let requests = u32::try_from(ledger.exchanges.started()).expect("few");
        (f64::from(requests), allocations(&account))
    }
}

/// The calls in lines such as " malloc|      12345      678901 …".
fn allocations(account: &Path) -> f64 {
    let text = std::fs::read_to_string(account).expect("its account");
    // Between colours.
    let calls = |name: &str| -> Option<u32> {
        let line = text
            .lines()
            .find(|line| line.contains(&format!("{name}|")))?;
        let (_, numbers) = line.split_once('|')?;
        // Colours are words that are no numbers.
        numbers
            .split_whitespace()
            .find_map(|word| word.parse().ok())
    };
    let counted = ["malloc", "realloc", "calloc"]
        .map(|name| calls(name).unwrap_or_else(|| panic!("no {name} in {text}")));
    assert!(
        counted[0] > 100,
        "a process that allocates next to nothing: {text}"
    );
    counted.into_iter().map(f64::from).sum()
}

#[tokio::test]
async fn a_request_allocates_as_often_as_it_is_known_to() {
    let stand = Stand::new();
    // Whole numbers, and below one what the clock and other threads do besides; a slower machine has more of that for each
    // request. Of HTTP/2 some depend on what comes together.
    for (way, least, below) in [
        (Way::L4, 0.0, 0.9),
        (Way::Http1, 2.0, 2.9),
        (Way::Http1Tls, 4.0, 4.9),
        (Way::Http2, 15.5, 18.5),
    ] {
        let (few, before) = stand.count(way, 500).await;
        let (many, after) = stand.count(way, 3500).await;
        assert!(many > few + 1000.0, "{few} and {many} requests");
        let each = (after - before) / (many - few);
        println!("{way:?}: {each:.2} allocations a request");
        assert!(
            each > least - 0.2 && each < below,
            "{way:?}: {each:.2} allocations a request, known are {least} to {below}"
        );
    }
}
