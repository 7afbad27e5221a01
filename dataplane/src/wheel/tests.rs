//! The wheel against a sorted list, and what the list does not show.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{DUE_KEPT, SLOT_ENTRIES_KEPT, SLOTS, TICK, Wheel};

fn drain<T>(wheel: &mut Wheel<T>, now: Instant) -> Vec<T> {
    std::iter::from_fn(|| wheel.pop_expired(now)).collect()
}

#[test]
fn an_item_leaves_at_its_time_and_not_before() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    assert_eq!(wheel.next_deadline(), None);
    wheel.insert(start + TICK * 3, "three ticks");
    assert_eq!(wheel.next_deadline(), Some(start + TICK * 3));
    assert_eq!(
        wheel.pop_expired(start + TICK * 3 - Duration::from_nanos(1)),
        None
    );
    assert_eq!(wheel.pop_expired(start + TICK * 3), Some("three ticks"));
    assert_eq!(wheel.pop_expired(start + TICK * 3), None);
    assert_eq!(wheel.next_deadline(), None);
}

#[test]
fn a_far_deadline_wakes_nobody_in_the_rounds_before() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let far = start + Duration::from_secs(24 * 60 * 60);
    wheel.insert(far, ());
    let next = wheel.next_deadline().expect("a deadline");
    assert!(next >= far && next < far + TICK);
    assert_eq!(wheel.pop_expired(far - TICK), None);
    assert_eq!(wheel.pop_expired(next), Some(()));
}

#[test]
fn rounds_share_slots_and_are_kept_apart() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let round = TICK * u32::try_from(SLOTS).expect("small");
    for rounds in (0..5).rev() {
        wheel.insert(start + TICK + round * rounds, rounds);
    }
    for rounds in 0..5 {
        let at = start + TICK + round * rounds;
        assert_eq!(wheel.next_deadline(), Some(at));
        assert_eq!(drain(&mut wheel, at), [rounds]);
    }
}

#[test]
fn within_a_round_items_leave_in_order() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let begin = start + TICK * 1000; // so that the slots wrap
    for ticks in [5, 400, 3, 60, 0, 1000] {
        wheel.insert(begin + TICK * ticks, ticks);
    }
    assert_eq!(
        drain(&mut wheel, begin + TICK * 2000),
        [0, 3, 5, 60, 400, 1000]
    );
}

#[test]
fn the_past_is_due_at_once_and_a_jump_of_hours_yields_everything() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start + Duration::from_secs(100));
    wheel.insert(start, 0_u64);
    assert!(wheel.next_deadline().expect("a deadline") <= start + Duration::from_secs(100));
    assert_eq!(wheel.pop_expired(start + Duration::from_secs(100)), Some(0));
    for seconds in 1..=10_000 {
        wheel.insert(start + Duration::from_secs(seconds), seconds);
    }
    let mut all = drain(&mut wheel, start + Duration::from_secs(9 * 60 * 60));
    all.sort_unstable();
    assert!(all.into_iter().eq(1..=10_000));
    assert_eq!(wheel.next_deadline(), None);
}

#[test]
fn what_is_taken_one_by_one_stays_due_meanwhile() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    wheel.insert(start, 1);
    wheel.insert(start, 2);
    assert_eq!(wheel.pop_expired(start), Some(1));
    assert_eq!(wheel.next_deadline(), Some(start), "one more waits");
    wheel.insert(start, 3);
    assert_eq!(drain(&mut wheel, start), [2, 3]);
}

#[test]
fn a_burst_leaves_no_memory_behind() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    for _ in 0..100_000 {
        wheel.insert(start + TICK, 0_u32);
    }
    assert_eq!(drain(&mut wheel, start + TICK).len(), 100_000);
    let kept: usize = wheel.slots.iter().map(|slot| slot.entries.capacity()).sum();
    assert!(kept <= SLOT_ENTRIES_KEPT, "{kept} entries");
    assert!(
        wheel.due.capacity() <= DUE_KEPT,
        "{} due",
        wheel.due.capacity()
    );
}

/// What is done to the wheel and the list.
#[derive(Clone, Debug)]
enum Act {
    /// Milliseconds from now; negative: ago.
    Insert(i64),
    /// Time goes by, in milliseconds; then everything due is taken.
    Pass(u64),
    /// Time goes to the announced deadline.
    Sleep,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (-500_i64..5_000).prop_map(Act::Insert),
        2 => (-500_i64..1_000_000).prop_map(Act::Insert),
        2 => (0_u64..1_000).prop_map(Act::Pass),
        1 => (0_u64..20_000_000).prop_map(Act::Pass),
        2 => Just(Act::Sleep),
    ]
}

proptest! {
    #[test]
    fn the_wheel_agrees_with_a_sorted_list(acts in proptest::collection::vec(act(), 0..200), offset in 0_u64..64) {
        let start = Instant::now();
        let mut now = start + Duration::from_secs(1_000) + Duration::from_millis(offset);
        let mut wheel = Wheel::new(start + Duration::from_secs(1_000));
        let mut list: BTreeSet<(Instant, usize)> = BTreeSet::new();
        for (name, act) in acts.into_iter().enumerate() {
            match act {
                Act::Insert(after) => {
                    let distance = Duration::from_millis(after.unsigned_abs());
                    let at = if after < 0 { now - distance } else { now + distance };
                    wheel.insert(at, (at, name));
                    list.insert((at, name));
                    continue;
                }
                Act::Pass(milliseconds) => now += Duration::from_millis(milliseconds),
                Act::Sleep => now = wheel.next_deadline().unwrap_or(now).max(now),
            }
            let expired = drain(&mut wheel, now);
            for item in &expired {
                prop_assert!(item.0 <= now, "before its time");
                prop_assert!(list.remove(item), "twice, or never filed");
            }
            if matches!(act, Act::Sleep) && !list.is_empty() {
                prop_assert!(!expired.is_empty(), "slept for nothing");
            }
            // What is still in the list is due later, or was due within this tick.
            let late = list.first().is_some_and(|first| first.0 + TICK <= now);
            prop_assert!(!late, "later than one tick");
            let next = wheel.next_deadline();
            let wanted = list.first().map(|first| first.0);
            prop_assert_eq!(next.is_some(), wanted.is_some());
            if let (Some(next), Some(wanted)) = (next, wanted) {
                prop_assert!(next >= wanted && next < wanted + TICK);
            }
        }
    }
}
