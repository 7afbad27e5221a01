//! Connections on their way to another process, and those that arrive from one, as the binary's main thread sees them.
//!
//! Room  hands between the shards and a passage; opaque to whoever holds them.
//! Holds a frozen connection is given back to its shard with its fate, whatever that is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use dataplane::moving::Frozen;
use dataplane::upstream::Upstream;
use handoff::passage::{Arrived, Fate, Item};

use crate::connection::{Boxed, record};
use crate::shard::ShardPool;

/// A connection out of its shard.
#[derive(Debug)]
pub struct FrozenConnection {
    shard: usize,
    connection: Boxed,
}

/// A connection from another process that nobody serves yet.
#[derive(Debug)]
pub struct ArrivedConnection(Boxed);

impl FrozenConnection {
    /// What travels of it.
    #[must_use]
    pub fn item(&self) -> Item<'_> {
        record::pack(&self.connection, Instant::now())
    }
}

impl ShardPool {
    /// Takes connections out, with at most so many descriptors together.
    pub fn freeze_some(&self, descriptors: usize) -> Frozen<FrozenConnection> {
        let (shard, batch) = self.freeze(descriptors);
        let connections = batch.connections.into_iter();
        let freeze = |connection| FrozenConnection {
            shard: shard.unwrap_or_default(),
            connection,
        };
        Frozen {
            connections: connections.map(freeze).collect(),
            others_wait: batch.others_wait,
        }
    }

    /// Closes those that were taken, serves on the others.
    pub fn settle_fates(&self, fates: Vec<(FrozenConnection, Fate)>) {
        let mut by_shard: BTreeMap<usize, (Vec<Boxed>, Vec<Boxed>)> = BTreeMap::new();
        for (frozen, fate) in fates {
            let mut connection = frozen.connection;
            let (taken, others) = by_shard.entry(frozen.shard).or_default();
            match fate {
                Fate::Taken => taken.push(connection),
                Fate::Unanswered => others.push(connection),
                Fate::Refused(reason) => {
                    connection.refused = Some(reason.into_boxed_str());
                    others.push(connection);
                }
            }
        }
        for (shard, (taken, others)) in by_shard {
            self.settle(shard, taken, others);
        }
    }

    /// Why connections are still here, by reason.
    #[must_use]
    pub fn kept_here(&self) -> BTreeMap<String, u64> {
        self.kept()
    }

    /// Builds a connection of what arrived; `upstreams` knows those of the running configuration by name.
    ///
    /// # Errors
    /// Why it cannot be served here.
    pub fn prepare(
        &self,
        arrived: Arrived,
        upstreams: impl Fn(&str) -> Option<Arc<Upstream>>,
    ) -> Result<ArrivedConnection, String> {
        let record = record::read(&arrived.record)?;
        let service = self.service(&record.listener).ok_or_else(|| {
            format!(
                "there is no listener \"{}\" in the new configuration",
                record.listener
            )
        })?;
        // An upstream that is gone leaves its backends' connections to that of the listener, where they are seen.
        let upstream =
            upstreams(&record.upstream).unwrap_or_else(|| Arc::clone(&service.settings().upstream));
        let lease = upstream.lease_of_arrived(&record.backend, &record.label);
        let rights = (service.admit_arrived(), lease);
        let what = (arrived.descriptors, arrived.held);
        let connection = record::unpack(record, what, rights, Instant::now())?;
        Ok(ArrivedConnection(Box::new(connection)))
    }

    /// Serves them from now on.
    pub fn adopt_arrived(&self, arrived: Vec<ArrivedConnection>) {
        if !arrived.is_empty() {
            self.adopt(arrived.into_iter().map(|one| one.0).collect());
        }
    }
}
