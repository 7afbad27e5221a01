//! A place among requests that are under way at once.
//!
//! Room  pure but for one shared counter.
//! Holds a counter that stood at its limit never passes it; what was taken is given back when the permit is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Given back by being dropped. The default one holds no place.
#[derive(Debug, Default)]
pub struct Permit {
    counter: Option<Arc<AtomicUsize>>,
}

impl Permit {
    /// `None`: no place is left. Without a limit nothing is counted, so that workers share no cache line for it.
    pub(super) fn take(counter: &Arc<AtomicUsize>, limit: Option<usize>) -> Option<Self> {
        let Some(limit) = limit else {
            return Some(Self::default());
        };
        counter
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |under_way| {
                (under_way < limit).then_some(under_way + 1)
            })
            .ok()?;
        Some(Self {
            counter: Some(Arc::clone(counter)),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(counter) = &self.counter {
            counter.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Permit;

    #[test]
    fn a_limit_holds_and_places_come_back() {
        let counter = Arc::new(AtomicUsize::new(0));
        let first = Permit::take(&counter, Some(2));
        let second = Permit::take(&counter, Some(2));
        assert!(first.is_some() && second.is_some());
        assert!(Permit::take(&counter, Some(2)).is_none());
        drop(first);
        let third = Permit::take(&counter, Some(2));
        assert!(third.is_some());
        drop((second, third));
        assert_eq!(counter.load(Ordering::Relaxed), 0);
        assert!(Permit::take(&counter, Some(0)).is_none());
        let unlimited = Permit::take(&counter, None);
        assert!(unlimited.is_some());
        assert_eq!(counter.load(Ordering::Relaxed), 0);
    }
}
