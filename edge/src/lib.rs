//! The data path of the edge proxy: a request in, an upstream out.
//!
//! ```text
//!   Workers ──orders──▶ worker thread (one per core)
//!                         ├─ accept   PROXY header, TLS, ALPN
//!                         ├─ h1       HTTP/1.1 towards clients, our own engine
//!                         ├─ h2       HTTP/2 towards clients and backends, hyper behind our deadlines
//!                         └─ backend  kept connections, attempts, budgets
//!   pure: http1 (messages), target (paths), policy (decisions), life (failures), end (reasons)
//! ```
//!
//! Room  sockets, threads and requests. No configuration file and no admin server: those live in the binary.
//! In    a `Site` (one configuration in force) and listening sockets. Out  answers; `Totals`; the access log.

pub mod access_log;
mod attempts;
pub mod backend;
mod buffer;
pub mod end;
pub mod field;
mod h1;
mod h2;
pub mod http1;
mod http2;
pub mod life;
mod linger;
pub mod moving;
mod outbound;
pub mod per_ip;
pub mod policy;
mod request;
pub mod settings;
pub mod site;
#[cfg(feature = "slowdown")]
mod slowdown;
pub mod stream;
pub mod target;
mod timers;
pub mod tls;
pub mod totals;
mod waiting;
mod worker;
pub mod workers;
