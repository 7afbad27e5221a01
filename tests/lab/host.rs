//! One host: its own systemd as PID 1, journal, cgroups, network, and a disk that outlives a reboot.
//!
//! ```text
//!   root (shared, read only)  ◀─ product (`make install`) ◀─ disk (tmpfs)      overlay of the three
//!   boot ─▶ running ⇄ reboot (systemd-nspawn ends with 133) ─▶ power off
//! ```
//!
//! Holds only processes of this host's own control groups are ended; mounts and groups go with the value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::network::Network;

/// What systemd-nspawn ends with when its host wants to be started again.
const REBOOT: i32 = 133;

/// How long a boot may take. Sized: it takes about a second.
const BOOT_DEADLINE: Duration = Duration::from_secs(60);

/// Control group trees in which a host has a group of its own, or nspawn's groups of two hosts would be one.
const TREES: [&str; 3] = [
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/systemd",
    "/sys/fs/cgroup",
];

/// A host that runs.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
    scratch: TempDir,
    nspawn: Child,
    network: Network,
}

/// What a command on the host said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    /// Both streams, one after the other.
    pub(crate) text: String,
}

impl Host {
    /// Boots `root` with the files of `product` over it.
    ///
    /// # Panics
    /// When it does not run within [`BOOT_DEADLINE`].
    pub(crate) fn boot(name: &str, root: &Path, product: &Path, network: Network) -> Self {
        let scratch = scratch(name);
        let (disk, whole) = (scratch.path().join("disk"), scratch.path().join("root"));
        for folder in [&disk, &whole] {
            fs::create_dir(folder).expect("a folder");
        }
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1g,mode=755", name])
            .arg(&disk));
        let (upper, work) = (disk.join("upper"), disk.join("work"));
        for folder in [&upper, &work] {
            fs::create_dir(folder).expect("a folder");
        }
        let layers = format!(
            "lowerdir={}:{},upperdir={},workdir={}",
            product.display(),
            root.display(),
            upper.display(),
            work.display()
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "-o", &layers, name])
            .arg(&whole));
        fs::write(whole.join("etc/hostname"), format!("{name}\n")).expect("written");
        let nspawn = power_on(name, scratch.path(), &network);
        let host = Self {
            name: name.to_owned(),
            scratch,
            nspawn,
            network,
        };
        host.wait_until_running();
        host
    }

    /// A file on the host, as seen from outside of it.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.scratch
            .path()
            .join("root")
            .join(path.trim_start_matches('/'))
    }

    /// Runs a command on the host.
    ///
    /// # Panics
    /// When the host is off.
    pub(crate) fn run(&self, command: &[&str]) -> Said {
        let leader = self.leader().expect("the host runs");
        let output = Command::new("nsenter")
            .args(["--all", "--target", &leader.to_string(), "--"])
            .args(command)
            .output()
            .expect("nsenter(1) is installed");
        said(&output)
    }

    /// The same, and it must succeed.
    ///
    /// # Panics
    /// With what it said.
    pub(crate) fn succeed(&self, command: &[&str]) -> String {
        let said = self.run(command);
        assert_eq!(
            said.code,
            0,
            "{}: {}\n{}",
            command.join(" "),
            said.text,
            self.journal()
        );
        said.text
    }

    /// The end of the host's journal.
    pub(crate) fn journal(&self) -> String {
        self.run(&["journalctl", "--no-pager", "-n", "60"]).text
    }

    /// Reboots in order, and waits until it runs again.
    ///
    /// # Panics
    /// When it does not end, or does not come back.
    pub(crate) fn reboot(&mut self) {
        // Without `--force`, which would kill the services instead of stopping them.
        self.succeed(&["systemctl", "reboot"]);
        let deadline = Instant::now() + BOOT_DEADLINE;
        let status = loop {
            if let Some(status) = self.nspawn.try_wait().expect("our child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not go down");
            thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(REBOOT), "{}", self.console());
        self.nspawn = power_on(&self.name, self.scratch.path(), &self.network);
        self.wait_until_running();
    }

    fn wait_until_running(&self) {
        let deadline = Instant::now() + BOOT_DEADLINE;
        loop {
            let state = self
                .leader()
                .map(|_| self.run(&["systemctl", "is-system-running"]).text);
            match state.as_deref().map(str::trim) {
                Some("running") => return,
                Some("degraded") => panic!(
                    "{}",
                    self.run(&["systemctl", "--failed", "--no-pager"]).text
                ),
                _ => {}
            }
            assert!(Instant::now() < deadline, "{state:?}: {}", self.console());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn console(&self) -> String {
        fs::read_to_string(self.scratch.path().join("console.log")).unwrap_or_default()
    }

    /// The host's PID 1 as this machine numbers it: the one child of its nspawn.
    fn leader(&self) -> Option<u32> {
        let nspawn = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    fn groups(&self) -> impl Iterator<Item = PathBuf> {
        TREES
            .iter()
            .map(|tree| Path::new(tree).join("zeitwork-lab").join(&self.name))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // As if the plug were pulled: everything at once, and nothing else.
        for group in self.groups() {
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        for mount in ["root", "disk"] {
            let _ = Command::new("umount")
                .arg("--lazy")
                .arg(self.scratch.path().join(mount))
                .output();
        }
        for group in self.groups() {
            remove_group(&group);
        }
    }
}

/// A control group goes when everything in it has gone; its processes end within moments.
fn remove_group(group: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while group.exists() && Instant::now() < deadline {
        for folder in fs::read_dir(group).into_iter().flatten().flatten() {
            if folder.path().is_dir() {
                remove_group(&folder.path());
            }
        }
        if fs::remove_dir(group).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Starts the host's systemd on the disk as it is.
fn power_on(name: &str, scratch: &Path, network: &Network) -> Child {
    // A process joins its groups itself, before it becomes nspawn.
    let join: Vec<String> = TREES
        .iter()
        .filter(|tree| Path::new(tree).join("cgroup.procs").exists())
        .map(|tree| {
            let group = format!("{tree}/zeitwork-lab/{name}");
            format!("mkdir -p {group} && echo $$ >{group}/cgroup.procs")
        })
        .collect();
    let console = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(scratch.join("console.log"));
    let console = console.expect("a file");
    Command::new("/bin/sh")
        .args([
            "-c",
            &format!("{} && exec systemd-nspawn \"$@\"", join.join(" && ")),
            "lab",
        ])
        .args([
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--capability=all",
        ])
        .args([
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--console=pipe",
        ])
        .arg(format!("--machine={name}"))
        .arg(format!(
            "--network-namespace-path={}",
            network.path_of_host()
        ))
        .arg("--directory")
        .arg(scratch.join("root"))
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        .env("SYSTEMD_SECCOMP", "0")
        .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network")
        .stdin(Stdio::null())
        .stdout(console.try_clone().expect("a file"))
        .stderr(console)
        .spawn()
        .expect("sh(1) starts")
}

fn run(command: &mut Command) {
    let said = said(&command.output().expect("is installed"));
    assert_eq!(said.code, 0, "{command:?}: {}", said.text);
}

fn said(output: &Output) -> Said {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    Said {
        code: output.status.code().unwrap_or(-1),
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

/// A folder that says whose it is.
///
/// # Panics
/// When there is no room.
pub(crate) fn scratch(name: &str) -> TempDir {
    let prefix = format!("{name}-");
    let folder = tempfile::Builder::new().prefix(&prefix).tempdir();
    folder.expect("scratch")
}

/// Whether a name is of a run that is no more. A killed one may stay a zombie for as long as nobody waits for it, and its
/// number may be another program's by now: it runs as long as the number is a lab's.
fn is_left(name: &str) -> bool {
    let rest = name.strip_prefix("zwlab-");
    let Some(owner) = rest.and_then(|rest| rest.split('-').next()) else {
        return false;
    };
    let program = fs::read_link(Path::new("/proc").join(owner).join("exe")).unwrap_or_default();
    let program = program.file_name().unwrap_or_default().to_string_lossy();
    !program.starts_with("lab-")
}

/// Ends what a killed run of an earlier test has left: its hosts, mounts, namespaces and folders carry its number.
pub(crate) fn sweep() {
    for tree in TREES {
        let groups = fs::read_dir(Path::new(tree).join("zeitwork-lab"));
        for group in groups.into_iter().flatten().flatten() {
            if is_left(&group.file_name().to_string_lossy()) {
                let _ = fs::write(group.path().join("cgroup.kill"), "1");
                remove_group(&group.path());
            }
        }
    }
    for line in fs::read_to_string("/proc/self/mounts")
        .unwrap_or_default()
        .lines()
    {
        let mut words = line.split(' ');
        if let (Some(source), Some(place)) = (words.next(), words.next())
            && is_left(source)
        {
            let _ = Command::new("umount").args(["--lazy", place]).output();
        }
    }
    for namespace in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = namespace.file_name().to_string_lossy().into_owned();
        if is_left(&name) {
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
    }
    let folders = fs::read_dir(std::env::temp_dir());
    for folder in folders.into_iter().flatten().flatten() {
        if is_left(&folder.file_name().to_string_lossy()) {
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}
