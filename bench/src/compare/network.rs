//! A network of its own for a comparison: nobody else's traffic, ports or congestion control.
//!
//! Room  the process starts itself again inside (unshare(1)); without root it stays where it is and says so.

use std::io;
use std::process::{Command, ExitCode};

use crate::output::complain;

/// Set inside.
const INSIDE: &str = "ZEITWORK_COMPARE_INSIDE";

/// Settings of the inside (ip(7), tcp(7)): everybody gets the same, and short connections do not use the ports up.
const SYSCTLS: [(&str, &str); 3] = [
    ("net/ipv4/tcp_tw_reuse", "1"),
    ("net/ipv4/ip_local_port_range", "20000 65000"),
    ("net/ipv4/tcp_max_tw_buckets", "200000"),
];

/// `Some`: this process has run inside, and that is its exit code. `None`: go on here.
#[must_use]
pub fn enter_own_network() -> Option<ExitCode> {
    if std::env::var_os(INSIDE).is_some() {
        if let Err(error) = prepare() {
            complain(&format!(
                "the network of its own is not as it should be: {error}"
            ));
        }
        return None;
    }
    if !rustix::process::geteuid().is_root() {
        complain("not root: measuring in this machine's own network, with its congestion control");
        return None;
    }
    let program = std::env::current_exe().ok()?;
    let mut command = Command::new("unshare");
    command
        .arg("--net")
        .arg("--")
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1");
    match command.status() {
        Ok(status) => {
            let code = status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1);
            Some(ExitCode::from(code))
        }
        Err(error) => {
            complain(&format!(
                "unshare(1) cannot be run ({error}): measuring in this machine's own network"
            ));
            None
        }
    }
}

fn prepare() -> io::Result<()> {
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    if !up.success() {
        return Err(io::Error::other("ip(8) could not bring lo up"));
    }
    // A namespace may not choose its default (only the machine may), and a route may say it for itself.
    for route in ["127.0.0.0/8", "127.0.0.1"] {
        let change = [
            "route", "change", "table", "local", "local", route, "dev", "lo",
        ];
        let cubic = [
            "proto",
            "kernel",
            "scope",
            "host",
            "src",
            "127.0.0.1",
            "congctl",
            "cubic",
        ];
        let changed = Command::new("ip").args(change).args(cubic).status()?;
        if !changed.success() {
            return Err(io::Error::other(
                "ip(8) could not set the congestion control",
            ));
        }
    }
    for (name, value) in SYSCTLS {
        let path = format!("/proc/sys/{name}");
        std::fs::write(&path, value)
            .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    }
    Ok(())
}
