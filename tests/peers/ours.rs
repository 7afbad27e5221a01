//! `lb` and `edge` under their supervisor: `supervisor upgrade`, as a person types it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use harness::host::Host;
use harness::successors::{another_edge, another_lb};
use harness::{binaries, proc};

use crate::Contender;
use crate::site::{Layer, Site};

pub(crate) struct Ours {
    layer: Layer,
    host: Host,
    versions: [PathBuf; 2],
    swaps: usize,
}

impl Ours {
    pub(crate) async fn start(site: &Site) -> Self {
        let config = config(site);
        let (mut host, program) = match site.layer {
            Layer::Four => (Host::with_lb(&config), "lb"),
            Layer::Seven => (Host::with_edge(&config), "edge"),
        };
        // The others have no bound for old processes, so ours is out of the way, too.
        host.set_supervisor_config("bake = \"0s\"\ndrain_timeout = \"1h\"\nmax_draining = 100\nmax_draining_memory_percent = 100\n");
        host.start().await;
        let other = match site.layer {
            Layer::Four => another_lb(host.path(), "other"),
            Layer::Seven => another_edge(host.path(), "other"),
        };
        Self {
            layer: site.layer,
            host,
            versions: [binaries::find(program), other],
            swaps: 0,
        }
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    let quoted: Vec<String> = addresses.iter().map(|one| format!("\"{one}\"")).collect();
    quoted.join(", ")
}

fn config(site: &Site) -> String {
    let mut text = format!("[admin]\nlisten = \"{}\"\n", site.admin());
    let (web, backends) = (site.web(), list(&site.web_origins()));
    let _ = match site.layer {
        Layer::Four => write!(
            text,
            "[[listener]]\nname = \"web\"\naddress = \"{web}\"\nupstream = \"web\"\n\
             [[listener]]\nname = \"echo\"\naddress = \"{}\"\nupstream = \"echo\"\n\
             [upstream.web]\nbackends = [{backends}]\n[upstream.echo]\nbackends = [{}]\n",
            site.echo(),
            list(&site.echo_origins())
        ),
        Layer::Seven => write!(
            text,
            "[[listener]]\nname = \"web\"\naddress = \"{web}\"\n[[route]]\nupstream = \"web\"\n\
             [upstream.web]\nbackends = [{backends}]\n"
        ),
    };
    text
}

impl Contender for Ours {
    fn name(&self) -> String {
        match self.layer {
            Layer::Four => "lb, `supervisor upgrade`".to_owned(),
            Layer::Seven => "edge, `supervisor upgrade`".to_owned(),
        }
    }

    async fn swap(&mut self) -> bool {
        self.swaps += 1;
        let next = self.versions[self.swaps % 2].clone();
        let outcome = self.host.upgrade(&next, &[]).await;
        assert_eq!(outcome.code, 0, "{}", outcome.output);
        true
    }

    fn processes(&self) -> Vec<u32> {
        let supervisor = self.host.supervisor_pid();
        let workers = proc::children(supervisor).into_iter();
        let living = workers
            .filter(|(_, is_zombie)| !is_zombie)
            .map(|(pid, _)| pid);
        living.chain([supervisor]).collect()
    }

    fn expected(&self) -> usize {
        2
    }

    async fn stop(mut self) {
        self.host.stop().await;
    }
}
