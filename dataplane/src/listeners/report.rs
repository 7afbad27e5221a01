//! What a worker says about its listeners in its log.

use super::{Claimed, Group};

/// Where clients are let in; people and tests find ports of the kernel's choice here.
pub fn log_accepting(groups: &[Group]) {
    for group in groups {
        tracing::info!(listener = %group.name(), address = %group.address(), "accepting");
    }
}

impl Claimed {
    /// Says what a person should know.
    pub fn log_remarks(&self) {
        for remark in &self.remarks {
            tracing::warn!("{remark}");
        }
    }
}
