//! Waiting for a condition, to a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition is looked at: a poll of processes or files, which cannot wake us.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `condition` yields something.
///
/// # Panics
/// After `within`, with what was awaited.
pub async fn until<T, F>(what: &str, within: Duration, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        tokio::time::sleep(LOOK).await;
    }
}
