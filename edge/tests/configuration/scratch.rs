//! A directory in which `edge` is asked: certificates fresh from rcgen, and whatever a test writes.
//!
//! Room  files in a temporary directory, one child process at a time.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{CertifiedKey, generate_simple_self_signed};

/// The directory; it goes with the value.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    /// With `server.crt`, `server.key`, `other.crt`, `other.key`, `not.pem` and `large.html`.
    pub(crate) fn new() -> Self {
        let scratch = Self(tempfile::tempdir().expect("a directory"));
        for (name, host) in [
            ("server", "app.example.com"),
            ("other", "other.example.org"),
        ] {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed([host.to_owned()]).expect("a certificate");
            scratch.write(&format!("{name}.crt"), &cert.pem());
            scratch.write(&format!("{name}.key"), &signing_key.serialize_pem());
        }
        scratch.write("not.pem", "this is no PEM\n");
        scratch.write("large.html", &"x".repeat(64 * 1024 + 1));
        scratch
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("is written");
        path
    }

    /// `edge` in this directory, with this environment and no other.
    pub(crate) fn edge(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_edge"))
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .envs(environment.iter().copied())
            .output()
            .expect("edge starts")
    }

    /// Lines of mistakes that `check` finds in a configuration; none when it is right.
    pub(crate) fn mistakes_of(&self, text: &str, environment: &[(&str, &str)]) -> Vec<String> {
        self.write("edge.toml", text);
        let output = self.edge(&["check", "--config", "edge.toml"], environment);
        let lines: Vec<String> = stderr(&output).lines().map(str::to_owned).collect();
        assert_eq!(
            output.status.code(),
            Some(if lines.is_empty() { 0 } else { 64 }),
            "{lines:#?}"
        );
        lines
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One clear listener, one route, one upstream.
pub(crate) const RIGHT: &str = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:8000\"\n\
                                [[route]]\nupstream = \"app\"\n\
                                [upstream.app]\nbackends = [\"127.0.0.1:3000\"]\n";
