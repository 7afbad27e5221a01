//! TLS by rustls with aws-lc-rs: handshakes, certificates by name, tickets that outlive a process.
//!
//! ```text
//!   CertificateStore ◀── Watcher (files)        Ticketer ◀── keys of the supervisor
//!         └──────────────┬──────────────────────────┘
//!                  server_config ──▶ TlsStream (its rustls connection stays reachable)
//! ```
//!
//! Room  everything about TLS; what is said over it is the engines'.
//! Holds a certificate that cannot be used never replaces one that can; ticket keys are in memory only.

mod client;
mod files;
mod names;
mod server;
mod store;
mod stream;
mod tickets;
mod watch;

pub use client::{client_config, server_name};
pub use files::{CertificateFacts, check_pair};
pub use rustls::{ClientConfig, ServerConfig};
pub use server::server_config;
pub use store::{CertificateStatus, CertificateStore};
pub use stream::TlsStream;
pub use tickets::{TicketKey, Ticketer};
pub use watch::{WATCH_INTERVAL, Watcher};

#[cfg(test)]
mod tests;
