//! Two network namespaces and a cable between them: the host's, and the one in which this test lives.
//!
//! Room  ip(8) and setns(2); nothing is added to the machine's own namespace.
//! Holds whoever enters first has all of its later threads inside; both namespaces end with the value.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The test's end of the cable: its clients and origins.
pub(crate) const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 1));

/// The host's end.
pub(crate) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 2));

/// Both namespaces.
#[derive(Debug)]
pub(crate) struct Network {
    outside: String,
    host: String,
}

impl Network {
    /// Lays the cable.
    ///
    /// # Panics
    /// Without root, or when `name` exists.
    pub(crate) fn new(name: &str) -> Self {
        let network = Self {
            outside: format!("{name}-out"),
            host: format!("{name}-host"),
        };
        let (outside, host) = (&network.outside, &network.host);
        for namespace in [outside, host] {
            ip(&["netns", "add", namespace]);
        }
        ip(&[
            "-n", outside, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
            host,
        ]);
        for (namespace, address) in [(outside, OUTSIDE), (host, HOST)] {
            ip(&[
                "-n",
                namespace,
                "address",
                "add",
                &format!("{address}/24"),
                "dev",
                "eth0",
            ]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
            ip(&["-n", namespace, "link", "set", "eth0", "up"]);
        }
        network
    }

    /// Moves this thread outside of the host, and every thread that it starts from now on.
    ///
    /// # Panics
    /// Without root.
    pub(crate) fn enter_outside(&self) {
        let namespace = File::open(format!("/run/netns/{}", self.outside)).expect("is there");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("setns(2): is this root?");
    }

    /// Where the host's namespace is bound.
    pub(crate) fn path_of_host(&self) -> String {
        format!("/run/netns/{}", self.host)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [&self.outside, &self.host] {
            let _ = Command::new("ip")
                .args(["netns", "delete", namespace])
                .output();
        }
    }
}

fn ip(args: &[&str]) {
    let output = Command::new("ip")
        .args(args)
        .output()
        .expect("ip(8) is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", args.join(" "));
}
