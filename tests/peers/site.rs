//! Origins, ports and clients: the same for everybody.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use bench::load::{IdleClose, Load, Running, Shape};
use bench::origin::{Kind, Origin};
use bench::target::Target;
use harness::ports::free_ports;
use harness::traffic::Traffic;
use tempfile::TempDir;

/// What a proxy understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Byte streams: HTTP/1.1 and an echo pass through.
    Four,
    /// HTTP/1.1 with WebSockets.
    Seven,
}

/// Everything around a proxy.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) layer: Layer,
    ports: Vec<u16>,
    web: Vec<Origin>,
    echo: Vec<Origin>,
    scratch: TempDir,
}

impl Site {
    pub(crate) fn start(layer: Layer) -> Self {
        let start = |kind| {
            let any = "127.0.0.1:0".parse().expect("an address");
            Origin::start(kind, any).expect("an origin starts")
        };
        Self {
            layer,
            ports: free_ports(3),
            web: vec![start(Kind::Http), start(Kind::Http)],
            echo: vec![start(Kind::Echo), start(Kind::Echo)],
            scratch: tempfile::tempdir().expect("scratch"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Where HTTP is served.
    pub(crate) fn web(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[0]).into()
    }

    /// Where bytes are echoed (layer 4).
    pub(crate) fn echo(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[1]).into()
    }

    /// For whoever has an admin port.
    pub(crate) fn admin(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[2]).into()
    }

    pub(crate) fn web_origins(&self) -> Vec<SocketAddr> {
        self.web.iter().map(Origin::address).collect()
    }

    pub(crate) fn echo_origins(&self) -> Vec<SocketAddr> {
        self.echo.iter().map(Origin::address).collect()
    }

    /// Clients with a connection for each request, and clients that keep theirs for a hundred requests.
    pub(crate) fn passing_load(&self) -> Traffic {
        let clients = |shape| {
            let target = Target::http(self.web(), "/bytes/1024");
            let mut load = Load::new(target, shape, 20);
            load.pause = Duration::from_millis(20);
            // HTTP lets a server end a kept connection between two requests (RFC 9112 section 9.5); a client that
            // asks again has lost nothing. Layer 4 has no such right.
            if self.layer == Layer::Seven {
                load.idle_close = IdleClose::Allowed;
            }
            load.start().expect("the load starts")
        };
        Traffic::of(vec![clients(Shape::Short), clients(Shape::KeepAlive)])
    }

    /// Requests that are due at fixed moments: most on kept connections, some with one of their own. A fifth of what the machine
    /// gives, so that a wait is the proxy's.
    pub(crate) fn steady_load(&self) -> Traffic {
        let clients = |shape, rate: u32, connections| {
            let target = Target::http(self.web(), "/bytes/1024");
            let mut load = Load::new(target, shape, connections);
            load.rate = NonZeroU32::new(rate);
            load.slice = Duration::from_millis(100);
            load.exchanges_per_connection = 100;
            if self.layer == Layer::Seven {
                load.idle_close = IdleClose::Allowed;
            }
            load.start().expect("the load starts")
        };
        Traffic::of(vec![
            clients(Shape::KeepAlive, 1500, 32),
            clients(Shape::Short, 300, 16),
        ])
    }

    /// Connections that stay and say little: a block, or a message, in some seconds.
    pub(crate) fn live_load(&self, connections: usize) -> Traffic {
        let mut load = match self.layer {
            Layer::Four => Load::new(Target::tcp(self.echo()), Shape::LongLived, connections),
            Layer::Seven => {
                let target = Target::http(self.web(), "/websocket");
                Load::new(target, Shape::WebSocket, connections)
            }
        };
        load.trickle = Duration::from_secs(10);
        Traffic::of(vec![load.start().expect("the load starts")])
    }

    /// Streams from now to the end of the run: byte streams on layer 4, WebSockets on layer 7.
    pub(crate) fn lasting_load(&self, streams: usize) -> Running {
        let load = match self.layer {
            Layer::Four => Load::new(Target::tcp(self.echo()), Shape::LongLived, streams),
            Layer::Seven => {
                let target = Target::http(self.web(), "/websocket");
                Load::new(target, Shape::WebSocket, streams)
            }
        };
        load.start().expect("the load starts")
    }
}
