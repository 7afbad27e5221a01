//! Programs in other languages that know only the systemd conventions, in as many versions as wanted.
//!
//! All of them serve `/bytes/N?offset=O` (the pattern that `bench` checks), `/slow/MS`, `/version` and `/health`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::binaries;
use crate::successors::executable;

/// What is hot-swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// gunicorn with its default workers: one request each, no kept connections.
    Gunicorn,
    /// gunicorn with threads and kept connections.
    GunicornThreads,
    /// Node on descriptor 3; never says READY=1.
    Node,
    /// Rust with `listenfd` and `sd-notify`.
    Listenfd,
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the workspace").to_owned()
}

fn source(name: &str) -> String {
    let path = root().join("tests/programs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Program {
    /// An executable of this version, with a digest of its own.
    ///
    /// # Panics
    /// When something is missing: says what to run.
    pub fn version(self, dir: &Path, number: u32) -> PathBuf {
        match self {
            Self::Gunicorn | Self::GunicornThreads => gunicorn(dir, number),
            Self::Node => node(dir, &format!("node-{number}"), &number.to_string(), "good"),
            Self::Listenfd => {
                let mut bytes = fs::read(binaries::find("listenfd-server")).expect("it is built");
                bytes.extend_from_slice(number.to_string().as_bytes());
                executable(dir, &format!("listenfd-{number}"), &bytes)
            }
        }
    }

    /// The arguments of all versions.
    pub fn args(self) -> Vec<String> {
        let programs = root().join("tests/programs").display().to_string();
        let common = [
            "--no-control-socket",
            "--log-level",
            "warning",
            "--chdir",
            &programs,
        ];
        let kind: &[&str] = match self {
            Self::Gunicorn => &["--workers", "4"],
            Self::GunicornThreads => &[
                "--workers",
                "2",
                "--worker-class",
                "gthread",
                "--threads",
                "8",
            ],
            Self::Node | Self::Listenfd => return Vec::new(),
        };
        let all = common.iter().chain(kind).chain(&["wsgi_app:app"]);
        all.map(|arg| (*arg).to_owned()).collect()
    }

    /// Whether it keeps connections between requests.
    pub fn keeps_connections(self) -> bool {
        self != Self::Gunicorn
    }
}

/// `bin/gunicorn` of the environment that `scripts/setup` makes, with a version in its environment.
fn gunicorn(dir: &Path, number: u32) -> PathBuf {
    let path = root().join("target/clients-venv/bin/gunicorn");
    let launcher = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: run scripts/setup (make test does)",
            path.display()
        )
    });
    let (shebang, rest) = launcher.split_once('\n').expect("a script");
    let text = format!("{shebang}\nimport os\nos.environ[\"APP_VERSION\"] = \"{number}\"\n{rest}");
    executable(dir, &format!("gunicorn-{number}"), text.as_bytes())
}

/// The Node server in a mode: `good`, `500`, `hang` (accepts, never answers), `deaf` (never accepts), `sours` (500 after
/// three seconds), `slows` (slow after three seconds).
///
/// # Panics
/// When the source does not have its two lines any more.
pub fn node(dir: &Path, name: &str, version: &str, mode: &str) -> PathBuf {
    assert!(
        Path::new("/usr/bin/node").is_file(),
        "node is missing: run scripts/setup (make test does)"
    );
    let text = source("node_server.js");
    let set = |text: String, name: &str, was: &str, is: &str| {
        let line = format!("const {name} = '{was}';");
        assert!(text.contains(&line), "{line}");
        text.replace(&line, &format!("const {name} = '{is}';"))
    };
    let text = set(text, "VERSION", "0", version);
    let text = set(text, "MODE", "good", mode);
    executable(dir, name, text.as_bytes())
}
