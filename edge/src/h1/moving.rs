//! A connection leaves for another process, or goes on here that began in one.
//!
//! Holds  only what is a plain value leaves: between two requests, or a tunnel whose bytes are in its buffers.

use std::rc::Rc;

use super::tunnel::{self, Beginning, Outcome};
use super::{Connection, LeftTunnel};
use crate::moving::{Live, LiveTunnel};
use crate::request::Account;
use crate::site::Site;

impl Connection {
    /// Ends here; the worker passes it on.
    pub(super) fn leave(self, site: &Site, left_ms: u64, tunnel: Option<Box<LeftTunnel>>) {
        let listener = site.listeners.get(self.client.listener);
        let listener = listener.map(|one| one.name.clone()).unwrap_or_default();
        let began = self.timer.began();
        // Neither has TLS: only such a connection is asked.
        let Some(socket) = self.stream.into_socket() else {
            return;
        };
        let tunnel = match tunnel {
            Some(left) => match left.go() {
                Some(tunnel) => Some(Box::new(tunnel)),
                None => return,
            },
            None => None,
        };
        self.worker.leave(Live {
            socket,
            listener,
            client: self.client,
            began,
            served: self.served,
            sniffs: self.sniffs,
            left_ms,
            input: self.input.data().to_vec(),
            tunnel,
            refused: None,
        });
    }

    /// A tunnel from another process, until it ends or moves on.
    pub(crate) async fn serve_tunnel(mut self: Box<Self>, left: Box<LeftTunnel>) {
        let LeftTunnel {
            mut backend,
            upstream,
            is_shut,
            status,
            account,
        } = *left;
        let site = self.worker.site();
        let worker = Rc::clone(&self.worker);
        let mut account = Account::resume(&worker, &site, account);
        let beginning = Beginning {
            idle: site.settings.timeouts.tunnel_idle,
            left_ms: self.left_ms.take(),
            is_shut,
        };
        let client = (&mut self.stream, &mut self.input);
        let run = tunnel::run(
            &worker,
            &self.timer,
            beginning,
            client,
            &mut backend,
            &mut account,
        );
        match run.await {
            Outcome::Ended(end) => account.close(end, status),
            Outcome::Moves { is_shut, left_ms } => {
                let left = LeftTunnel {
                    backend,
                    upstream,
                    is_shut,
                    status,
                    account: account.leave(),
                };
                self.leave(&site, left_ms, Some(Box::new(left)));
            }
        }
    }
}

impl LeftTunnel {
    fn go(self) -> Option<LiveTunnel> {
        let input = self.backend.input.data().to_vec();
        Some(LiveTunnel {
            socket: self.backend.stream.into_socket()?,
            upstream: self.upstream,
            lease: self.backend.lease,
            input,
            is_shut: self.is_shut,
            status: self.status,
            account: self.account,
        })
    }
}
