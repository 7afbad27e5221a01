//! The data path of the L4 load balancer: a TCP connection in, a backend out.
//!
//! Room  sockets, epoll loops and connections as plain values. No runtime, no configuration file, no HTTP:
//!       those live in the binary's main thread.
//! In    listening sockets with their upstreams, and rare commands, through [`shard::ShardPool`].
//! Out   bytes between clients and backends; [`totals::Totals`] for whoever publishes them.
//!
//! ```text
//!   ShardPool ──commands + eventfd──> shard thread (one per core)
//!                                       ├─ poll      epoll, tokens, readiness
//!                                       ├─ accept    listening sockets, limits, out-of-descriptor pauses
//!                                       ├─ turn      what one connection does next, a bounded amount of it
//!                                       │    ├─ connect    a backend, another one if it fails
//!                                       │    └─ relay      one direction: copy, or splice through a pipe
//!                                       └─ deadline  connect, idle, half-close, lifetime, PROXY header
//! ```

mod connect;
mod connection;
pub mod moving;
mod pipes;
mod relay;
pub mod shard;
mod socket;
pub mod totals;
