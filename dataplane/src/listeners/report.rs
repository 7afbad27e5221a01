//! What a worker says about its listeners in its log.

use handoff::Share;

use super::{Claimed, Group};

/// Where clients are let in; people and tests find ports of the kernel's choice here.
pub fn log_accepting(groups: &[Group], share: Share) {
    if share.is_none() {
        return tracing::info!("paused: connections wait for whoever accepts next");
    }
    for group in groups {
        let (name, address) = (group.name(), group.address());
        let of = group.sockets().len();
        let sockets = share.places(of).len();
        if sockets == of {
            tracing::info!(listener = %name, %address, "accepting");
        } else {
            tracing::info!(listener = %name, %address, sockets, of, "accepting on a share");
        }
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
