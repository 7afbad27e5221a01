//! Live connections move to another process of the same service, and come from one.
//!
//! ```text
//!   give:  freeze some ─▶ offer ─▶ each one: taken: closed here, without a word │ refused, unanswered: served on
//!   take:  arrived ─▶ prepare, or refuse ─▶ acknowledge ─▶ adopt: served from now on
//! ```
//!
//! Room  the two loops and the budget of descriptors; what a connection is, the service knows ([`LiveConnections`]).
//! In    an end of a passage. Out  a report of what moved and what stays, and why.
//! Holds a connection is frozen only while its batch is on its way, and is in exactly one of the two engines before and
//!       after; whatever fails, it is served by whom both sides agree on (`handoff::passage`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::time::{Duration, Instant};

use handoff::link::Channel;
use handoff::passage::{Arrived, Fate, Giver, Item, Taker};
use handoff::worker::Moved;

use crate::process;

/// How long connections that cannot move yet are waited for.
///
/// Covers: a PROXY header, a connect, an answer that is on its way. If passed: they drain. Sized: what takes longer than
/// this takes as long as it likes.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// The reason of those that could have moved and were not wanted.
pub const NOT_ASKED: &str = "was not asked to move";

/// How often they are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How often a move says how far it has come.
const TELL_INTERVAL: Duration = Duration::from_millis(250);

/// What was taken out of an engine.
#[derive(Debug)]
pub struct Frozen<F> {
    pub connections: Vec<F>,
    /// There are others that cannot move now and may soon.
    pub others_wait: bool,
}

/// The connections of a service, as far as they can move.
pub trait LiveConnections: Send + Sync + 'static {
    /// A connection that nobody reads or writes.
    type Frozen: Send;
    /// A connection from elsewhere that nobody serves yet.
    type Prepared: Send;

    /// Connections held now, frozen ones included.
    fn held(&self) -> u64;

    /// Takes some out of the engine, with at most so many descriptors together.
    fn freeze(&self, descriptors: usize) -> impl Future<Output = Frozen<Self::Frozen>> + Send;

    /// What travels of it.
    fn item(frozen: &Self::Frozen) -> Item<'_>;

    /// Closes those that were taken, without a word to their peers; the others are served on.
    fn settle(&self, fates: Vec<(Self::Frozen, Fate)>) -> impl Future<Output = ()> + Send;

    /// Why connections are still here, by reason.
    fn kept(&self) -> impl Future<Output = BTreeMap<String, u64>> + Send;

    /// Builds a connection of what arrived.
    ///
    /// # Errors
    /// Why it cannot be served here; it stays where it is.
    fn prepare(&self, arrived: Arrived) -> Result<Self::Prepared, String>;

    /// Serves them from now on.
    fn adopt(&self, prepared: Vec<Self::Prepared>) -> impl Future<Output = ()> + Send;
}

/// Of a service whose connections cannot move: there is no value of it.
impl LiveConnections for Infallible {
    type Frozen = Self;
    type Prepared = Self;

    fn held(&self) -> u64 {
        match *self {}
    }

    async fn freeze(&self, _: usize) -> Frozen<Self> {
        match *self {}
    }

    fn item(frozen: &Self) -> Item<'_> {
        match *frozen {}
    }

    async fn settle(&self, _: Vec<(Self, Fate)>) {
        match *self {}
    }

    async fn kept(&self) -> BTreeMap<String, u64> {
        match *self {}
    }

    fn prepare(&self, _: Arrived) -> Result<Self, String> {
        match *self {}
    }

    async fn adopt(&self, _: Vec<Self>) {
        match *self {}
    }
}

/// Gives this part of the connections away, in percent; `tell` hears how far it has come, and once when it is over.
pub async fn give<L: LiveConnections>(
    live: &L,
    passage: Channel,
    percent: u8,
    tell: impl Fn(Moved),
) {
    let begun = Instant::now();
    let mut moved = Moved::default();
    let wanted = match percent {
        // Also those that come meanwhile.
        100.. => u64::MAX,
        _ => (live.held() * u64::from(percent)).div_ceil(100),
    };
    let failed = match Giver::open(passage).await {
        Ok(giver) => give_to(live, giver, wanted, begun, &mut moved, &tell).await,
        Err(error) => Some(broken(&error.to_string())),
    };
    moved.kept = live.kept().await;
    if percent < 100 {
        // A part was wanted: the others are where they belong.
        moved.kept.remove(NOT_ASKED);
    }
    moved.broken = failed.is_some();
    if let Some(why) = &failed {
        tracing::warn!(
            moved = moved.moved,
            why,
            "no more connections move; the rest is served on here"
        );
        let stay = moved.kept.values().sum();
        moved.kept = BTreeMap::from([(why.clone(), stay)]);
    }
    moved.took_us = microseconds(begun.elapsed());
    moved.over = true;
    tracing::info!(
        moved = moved.moved, kept = ?moved.kept, took = ?begun.elapsed(), stall_us = moved.stall_max_us, "connections moved"
    );
    tell(moved);
}

/// The loop; the reason if it ended before its time.
async fn give_to<L: LiveConnections>(
    live: &L,
    mut giver: Giver,
    wanted: u64,
    begun: Instant,
    moved: &mut Moved,
    tell: &impl Fn(Moved),
) -> Option<String> {
    let mut told = begun;
    let mut progress = begun;
    while moved.moved < wanted {
        if giver.room() < DESCRIPTORS_MIN {
            giver.over().await;
            return Some("the other process has no descriptors left for more".to_owned());
        }
        let frozen_at = Instant::now();
        let room = giver.room().min(descriptors_for(wanted - moved.moved));
        let Frozen {
            connections,
            others_wait,
        } = live.freeze(room).await;
        if connections.is_empty() {
            if !others_wait || progress.elapsed() > WAIT_MAX {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        let items: Vec<Item<'_>> = connections.iter().map(L::item).collect();
        let fates = giver.offer(&items).await;
        drop(items);
        let taken = fates.iter().filter(|fate| **fate == Fate::Taken).count();
        moved.moved += u64::try_from(taken).unwrap_or_default();
        moved.stall_max_us = moved.stall_max_us.max(microseconds(frozen_at.elapsed()));
        live.settle(connections.into_iter().zip(fates).collect())
            .await;
        if let Some(why) = giver.broken() {
            return Some(broken(why));
        }
        progress = Instant::now();
        if told.elapsed() > TELL_INTERVAL {
            told = Instant::now();
            moved.took_us = microseconds(begun.elapsed());
            tell(moved.clone());
        }
    }
    giver.over().await;
    None
}

fn broken(why: &str) -> String {
    format!("the passage broke: {why}")
}

/// Enough for so many connections, whatever they bring.
fn descriptors_for(connections: u64) -> usize {
    usize::try_from(connections).map_or(usize::MAX, |count| count.saturating_mul(DESCRIPTORS_MIN))
}

/// What every connection has at least: two sockets.
const DESCRIPTORS_MIN: usize = 2;

/// Takes connections until no more come.
pub async fn take<L: LiveConnections>(live: &L, passage: Channel) {
    let mut room = Room::look();
    let (mut taken, mut left) = (0_u64, 0_u64);
    let outcome = async {
        let mut taker = Taker::open(passage, room.left()).await?;
        while let Some(delivery) = taker.next().await? {
            let batch = delivery.batch();
            let mut prepared = Vec::with_capacity(delivery.connections.len());
            let mut refused = Vec::new();
            for (place, arrived) in delivery.connections.into_iter().enumerate() {
                let descriptors = arrived.descriptors.len();
                match live.prepare(arrived) {
                    Ok(connection) => {
                        prepared.push(connection);
                        room.fill(descriptors);
                    }
                    Err(reason) => refused.push((place, reason)),
                }
            }
            left += u64::try_from(refused.len()).unwrap_or_default();
            taker.take(batch, refused, room.left()).await?;
            // From here on they are ours.
            taken += u64::try_from(prepared.len()).unwrap_or_default();
            live.adopt(prepared).await;
        }
        Ok::<(), handoff::link::LinkError>(())
    };
    match outcome.await {
        Ok(()) => tracing::info!(taken, refused = left, "connections arrived"),
        Err(error) => tracing::warn!(taken, refused = left, %error, "no more connections arrive"),
    }
}

/// Descriptors that may still come. Counted once, before anybody waits: it reads a directory as long as what it counts. What
/// clients take meanwhile is in the reserve; where that is too little the kernel cuts a batch short, and all of it stays.
struct Room(usize);

/// Share of the limit that is kept free for clients and backends, in percent.
const RESERVE_PERCENT: u64 = 5;

impl Room {
    fn look() -> Self {
        let room = match process::descriptors() {
            Some((used, Some(limit))) => {
                let reserve = limit / 100 * RESERVE_PERCENT;
                limit.saturating_sub(reserve).saturating_sub(used)
            }
            // No limit, or /proc cannot be read.
            _ => u64::from(u32::MAX),
        };
        Self(usize::try_from(room).unwrap_or(usize::MAX))
    }

    fn fill(&mut self, descriptors: usize) {
        self.0 = self.0.saturating_sub(descriptors);
    }

    fn left(&self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
