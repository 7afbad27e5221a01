//! A reverse proxy to two backends in turn: `pingora-peer --conf FILE [--upgrade] [--daemon] LISTEN BACKEND BACKEND`.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::Opt;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Turns {
    backends: Vec<String>,
    next: AtomicUsize,
}

#[async_trait]
impl ProxyHttp for Turns {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _: &mut Session,
        _: &mut (),
    ) -> pingora_core::Result<Box<HttpPeer>> {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.backends.len();
        Ok(Box::new(HttpPeer::new(
            self.backends[place].as_str(),
            false,
            String::new(),
        )))
    }
}

fn main() {
    let mut options = Opt::default();
    let mut addresses = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--conf" => options.conf = args.next(),
            "--upgrade" => options.upgrade = true,
            "--daemon" => options.daemon = true,
            _ => addresses.push(arg),
        }
    }
    let listen = addresses.remove(0);
    let mut server = Server::new(Some(options)).expect("a server");
    server.bootstrap();
    let turns = Turns {
        backends: addresses,
        next: AtomicUsize::new(0),
    };
    let mut proxy = http_proxy_service(&server.configuration, turns);
    proxy.add_tcp(&listen);
    server.add_service(proxy);
    server.run_forever();
}
