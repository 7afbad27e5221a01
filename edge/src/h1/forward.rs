//! A request on its way: a backend is found, the exchange runs, failures are met as `life` says.
//!
//! Room  the loop over attempts; carries verdicts out.

use std::rc::Rc;
use std::time::Instant;

use super::exchange::{Exchange, Interrupted, Parties, Replied};
use super::tunnel::{Beginning, Outcome};
use super::{Answered, Connection, Facts, Incoming, LeftTunnel, Next, admit::Outbound, tunnel};
use crate::attempts::Attempts;
use crate::backend::BackendConnection;
use crate::end::End;
use crate::life::{Stage, Verdict};
use crate::request::Request;

impl Connection {
    pub(super) async fn forward(&mut self, incoming: Incoming<'_>) -> Next {
        let Incoming {
            mut request,
            facts,
            outbound,
        } = incoming;
        let Some(upstream) = request.upstream() else {
            return self.give_up(request, facts, End::Internal, 500).await;
        };
        let head = match outbound {
            Outbound::Http1(head) => head,
            Outbound::Http2(parts) => {
                // Rare and large: not part of every connection's memory.
                return Box::pin(self.forward_over_http2(request, facts, *parts)).await;
            }
        };
        let worker = Rc::clone(&self.worker);
        let mut attempts = Attempts::new(&worker, upstream, request.forwarding.client_ip);
        let next = loop {
            let mut backend = match attempts.connection(&self.timer).await {
                Ok(backend) => backend,
                Err(end) => {
                    request.account.attempts = attempts.count;
                    let status = end.status().unwrap_or(502);
                    break self.give_up(request, facts, end, status).await;
                }
            };
            request.account.attempts = attempts.count;
            if let Some(record) = &mut request.account.record {
                record.backend = Some(backend.lease.backend().label().to_owned());
            }
            match self
                .exchange(&mut request, facts, &mut backend, &head)
                .await
            {
                Ok(replied) => {
                    attempts.answered(backend.lease.backend(), replied.status);
                    break self.delivered(request, replied, backend).await;
                }
                Err(interrupted) => {
                    let mut verdict = attempts.judge(&backend, request.idempotent, &interrupted);
                    worker.buffers.take_back(&mut backend.input);
                    drop(backend);
                    if verdict == Verdict::Again {
                        if attempts.may_go_again() {
                            continue;
                        }
                        verdict = Verdict::Answer(502);
                    }
                    break self.interrupted(request, facts, interrupted, verdict).await;
                }
            }
        };
        worker.heads.take_back(head);
        next
    }

    async fn exchange(
        &mut self,
        request: &mut Request<'_>,
        facts: Facts,
        backend: &mut BackendConnection,
        head: &[u8],
    ) -> Result<Replied, Interrupted> {
        let mut staged = self.worker.heads.lend();
        staged.extend_from_slice(head);
        let stays = self.may_stay(request.site, &facts);
        let exchange = Exchange::new(
            Parties {
                worker: &self.worker,
                timer: &self.timer,
                request,
                client_facts: &self.client,
                facts,
                client: &mut self.stream,
                input: &mut self.input,
                backend,
                stays,
            },
            staged,
        );
        let (result, staged) = exchange.run().await;
        self.worker.heads.take_back(staged);
        result
    }

    /// The answer has reached the client.
    async fn delivered(
        &mut self,
        mut request: Request<'_>,
        replied: Replied,
        mut backend: BackendConnection,
    ) -> Next {
        request.account.received = replied.received;
        request.account.sent = replied.sent;
        if replied.is_tunnel {
            return Box::pin(self.tunnel(request, replied.status, backend)).await;
        }
        request.account.close(End::Done, replied.status);
        self.worker.buffers.take_back(&mut backend.input);
        if replied.backend_stays && !self.worker.is_draining() {
            let keep = request.site.settings.timeouts.upstream_keep_alive;
            self.worker
                .backends
                .keep(backend, self.timer.now_ms(), keep);
        }
        if replied.client_stays {
            Next::Again
        } else {
            Next::Close
        }
    }

    /// The answer was a 101.
    async fn tunnel(
        &mut self,
        mut request: Request<'_>,
        status: u16,
        mut backend: BackendConnection,
    ) -> Next {
        let beginning = Beginning {
            idle: request.site.settings.timeouts.tunnel_idle,
            left_ms: None,
            is_shut: (false, false),
        };
        let client = (&mut self.stream, &mut self.input);
        let (worker, timer) = (&self.worker, &self.timer);
        let account = &mut request.account;
        match tunnel::run(worker, timer, beginning, client, &mut backend, account).await {
            Outcome::Ended(end) => {
                request.account.close(end, status);
                Next::Drop
            }
            Outcome::Moves { is_shut, left_ms } => {
                let upstream = request
                    .upstream()
                    .map(|known| known.upstream.name().to_owned());
                let left = LeftTunnel {
                    backend,
                    upstream: upstream.unwrap_or_default(),
                    is_shut,
                    status,
                    account: request.account.leave(),
                };
                Next::Moves(left_ms, Some(Box::new(left)))
            }
        }
    }

    async fn interrupted(
        &mut self,
        mut request: Request<'_>,
        facts: Facts,
        interrupted: Interrupted,
        verdict: Verdict,
    ) -> Next {
        request.account.received = interrupted.received;
        request.account.sent = interrupted.sent;
        match verdict {
            Verdict::Answer(status) if interrupted.stage != Stage::Answering => {
                self.give_up(request, facts, interrupted.end, status).await
            }
            _ => {
                request.account.close(interrupted.end, interrupted.status);
                // What the client has is visibly unfinished: no orderly end.
                Next::Drop
            }
        }
    }

    /// An error of our own instead of the backend's answer.
    pub(super) async fn give_up(
        &mut self,
        request: Request<'_>,
        mut facts: Facts,
        end: End,
        status: u16,
    ) -> Next {
        let id = request.forwarding.request_id;
        let answer = request
            .site
            .policy
            .error(status, end.as_str(), request.accept, &id);
        // How much of a body was read is not known any more, unless there was none.
        facts.keep_alive &= facts.has_no_body();
        let answered = Answered {
            answer,
            is_head: request.is_head,
            origin: request.origin,
            account: request.account,
            facts,
        };
        let begun = Instant::now();
        let next = self.answer(answered).await;
        tracing::debug!(end = end.as_str(), status, took = ?begun.elapsed(), "a request got an error");
        next
    }
}
