//! Reading what both proxies are told in the same words: `[admin]`, `[log]`, `[drain]`, `[discovery]`,
//! `[[listener]]`, `[upstream.NAME]`, and the environment that overrides them.
//!
//! Room  pure, on top of `settings`; what only one proxy knows it reads itself from the same sections.

pub mod listener;
pub mod overrides;
pub mod process;
pub mod upstream;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use overrides::Overrides;

/// Between two health checks or two questions to the operator.
pub const INTERVAL_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
/// Connections: two descriptors each, and Linux ends at about a thousand million.
pub const CONNECTIONS_MAX: usize = 100_000_000;
/// Worker threads; more than cores help nobody.
pub const WORKERS_MAX: usize = 256;
