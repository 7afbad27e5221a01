//! What both proxies share: settings, listeners, upstreams, health, balance, discovery, admin, a
//! process's life.
//!
//! Arrows: uses `handoff`; used by `lb` and `edge`.

pub mod admin;
pub mod backend;
pub mod balance;
pub mod config;
pub mod discovery;
mod entry;
pub mod health;
pub mod life;
pub mod listeners;
pub mod metrics;
pub mod moving;
mod orders;
pub mod posture;
pub mod probe;
pub mod process;
pub mod proxy_protocol;
pub mod retry_budget;
pub mod settings;
pub mod upstream;
pub mod upstreams;
pub mod wheel;
