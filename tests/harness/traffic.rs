//! The load that every scenario runs under, and the account it must end with.

use std::time::Duration;

use bench::ledger::{Class, Ledger};
use bench::load::{Load, Running, Shape};
use bench::origin::{Kind, Origin};
use bench::target::Target;

use crate::ports;

/// Origins with an `lb` configuration in front of them: the listeners `echo` and `http`.
#[derive(Debug)]
pub struct Site {
    pub echo_port: u16,
    pub http_port: u16,
    pub admin_port: u16,
    echo: Vec<Origin>,
    http: Vec<Origin>,
}

impl Site {
    /// Two origins of each kind.
    ///
    /// # Panics
    /// When loopback cannot be bound.
    pub fn start() -> Self {
        let ports = ports::free_ports(3);
        let local = "127.0.0.1:0".parse().expect("an address");
        let start = |kind| Origin::start(kind, local).expect("an origin starts");
        Self {
            echo_port: ports[0],
            http_port: ports[1],
            admin_port: ports[2],
            echo: vec![start(Kind::Echo), start(Kind::Echo)],
            http: vec![start(Kind::Http), start(Kind::Http)],
        }
    }

    /// The configuration; `more` is appended.
    pub fn config(&self, more: &str) -> String {
        let list = |origins: &[Origin]| {
            let quoted: Vec<String> = origins
                .iter()
                .map(|origin| format!("\"{}\"", origin.address()))
                .collect();
            quoted.join(", ")
        };
        format!(
            "[admin]\nlisten = \"127.0.0.1:{}\"\n\
             [[listener]]\nname = \"echo\"\naddress = \"127.0.0.1:{}\"\nupstream = \"echo\"\n\
             [[listener]]\nname = \"http\"\naddress = \"127.0.0.1:{}\"\nupstream = \"http\"\n\
             [upstream.echo]\nbackends = [{}]\n\
             [upstream.http]\nbackends = [{}]\n{more}",
            self.admin_port,
            self.echo_port,
            self.http_port,
            list(&self.echo),
            list(&self.http),
        )
    }

    /// The addresses of the echo origins, as the configuration names them.
    pub fn echo_addresses(&self) -> Vec<String> {
        let origins = self.echo.iter();
        origins.map(|origin| origin.address().to_string()).collect()
    }

    /// Ends the first echo origin: its port refuses from now on.
    pub async fn lose_an_echo_origin(&mut self) {
        self.echo.remove(0).stop().await;
    }

    /// Short, keep-alive and long-lived connections, `connections` in all, paced so that the load leaves
    /// the two cores some room.
    ///
    /// # Panics
    /// When the load is wrongly described.
    pub fn load(&self, connections: usize) -> Traffic {
        let long_lived = connections / 4;
        Traffic(vec![
            self.shape(Shape::Short, self.echo_port, connections / 2),
            self.http_load(connections / 4),
            self.shape(Shape::LongLived, self.echo_port, long_lived),
        ])
    }

    /// Only connections that end by themselves within moments.
    ///
    /// # Panics
    /// When the load is wrongly described.
    pub fn passing_load(&self, connections: usize) -> Traffic {
        Traffic(vec![
            self.shape(Shape::Short, self.echo_port, connections / 2),
            self.http_load(connections / 2),
        ])
    }

    /// Only long-lived connections.
    ///
    /// # Panics
    /// When the load is wrongly described.
    pub fn long_lived_load(&self, connections: usize) -> Traffic {
        Traffic(vec![self.shape(
            Shape::LongLived,
            self.echo_port,
            connections,
        )])
    }

    /// As many connections in a second as the host gives, each with one exchange.
    ///
    /// # Panics
    /// When the load is wrongly described.
    pub fn rapid_load(&self, clients: usize) -> Traffic {
        let address = ([127, 0, 0, 1], self.echo_port).into();
        let mut load = Load::new(Target::tcp(address), Shape::Short, clients);
        load.pause = Duration::from_millis(2);
        Traffic(vec![load.start().expect("the load starts")])
    }

    fn http_load(&self, connections: usize) -> Running {
        let address = ([127, 0, 0, 1], self.http_port).into();
        let mut load = Load::new(
            Target::http(address, "/bytes/1024"),
            Shape::KeepAlive,
            connections,
        );
        load.pause = PAUSE;
        load.exchanges_per_connection = 30;
        load.start().expect("the load starts")
    }

    fn shape(&self, shape: Shape, port: u16, connections: usize) -> Running {
        let address = ([127, 0, 0, 1], port).into();
        let mut load = Load::new(Target::tcp(address), shape, connections);
        load.pause = PAUSE;
        load.start().expect("the load starts")
    }
}

/// A client's pause between two exchanges.
const PAUSE: Duration = Duration::from_millis(40);

/// A running load.
#[derive(Debug)]
pub struct Traffic(Vec<Running>);

impl Traffic {
    /// These loads as one.
    pub fn of(loads: Vec<Running>) -> Self {
        Self(loads)
    }

    /// The account so far.
    pub fn snapshot(&self) -> Ledger {
        merged(self.0.iter().map(Running::snapshot))
    }

    /// Exchanges that succeeded so far.
    pub fn exchanges(&self) -> u64 {
        self.snapshot().exchanges.count(Class::Ok)
    }

    /// Waits until `count` more exchanges succeeded: traffic really flows.
    ///
    /// # Panics
    /// When it does not within 20 s.
    pub async fn flows(&self, count: u64) {
        let target = self.exchanges() + count;
        crate::wait::until("traffic", Duration::from_secs(20), || async {
            (self.exchanges() >= target).then_some(())
        })
        .await;
    }

    /// Ends the load politely; the whole account.
    pub async fn finish(self) -> Ledger {
        for running in &self.0 {
            running.stop();
        }
        let mut ledgers = Vec::new();
        for running in self.0 {
            ledgers.push(running.finish().await);
        }
        merged(ledgers)
    }

    /// Ends the load; nothing may have been lost.
    ///
    /// # Panics
    /// With the first examples of what was lost.
    pub async fn finish_clean(self) -> Ledger {
        let ledger = self.finish().await;
        assert!(
            ledger.is_clean() && ledger.exchanges.count(Class::Ok) > 0,
            "{:?}\n{:?}\n{:#?}",
            ledger.connections,
            ledger.exchanges,
            ledger.examples
        );
        ledger
    }
}

fn merged(ledgers: impl IntoIterator<Item = Ledger>) -> Ledger {
    let mut ledgers = ledgers.into_iter();
    let mut whole = ledgers
        .next()
        .unwrap_or_else(|| Ledger::new(Duration::from_millis(250)));
    for ledger in ledgers {
        whole.merge(&ledger);
    }
    whole
}
