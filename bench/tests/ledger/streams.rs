//! Long-lived streams: every block comes back, in order, until the polite end.

use bench::ledger::{Class, Phase};
use bench::load::{Load, Shape};

use crate::faulty::{Behaviour, Faulty};
use crate::{LIMITS, echo_load, expect_loss, run_until};

#[tokio::test]
async fn a_stream_that_is_carried_to_its_end_is_one_clean_connection() {
    let faulty = Faulty::always(Behaviour::Good).await;
    let load = echo_load(Shape::LongLived, faulty.address, 5);
    let ledger = run_until(load, |ledger| ledger.exchanges.count(Class::Ok) > 300).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    assert_eq!(ledger.connections.count(Class::Ok), 5);
    assert_eq!(ledger.bytes_sent, ledger.bytes_received);
}

#[tokio::test]
async fn a_stream_is_lost_in_the_class_of_what_happened() {
    let table = [
        (Behaviour::ResetAfter(20_000), Class::Reset),
        (Behaviour::EndAfter(20_000), Class::Cut),
        (Behaviour::ChangeByte(20_000), Class::WrongBytes),
        (Behaviour::Mute, Class::Hung),
    ];
    for (behaviour, class) in table {
        let faulty = Faulty::always(behaviour).await;
        let ledger = expect_loss(echo_load(Shape::LongLived, faulty.address, 3), class).await;
        assert!(
            ledger.exchanges.count(class) > 0,
            "the blocks under way share the connection's fate: {ledger:#?}"
        );
    }
}

#[tokio::test]
async fn a_stream_whose_end_is_not_answered_hangs() {
    let faulty = Faulty::always(Behaviour::NeverEnds).await;
    let load = Load {
        limits: LIMITS,
        ..echo_load(Shape::LongLived, faulty.address, 2)
    };
    let ledger = run_until(load, |ledger| ledger.exchanges.count(Class::Ok) > 20).await;
    assert_eq!(
        (ledger.connections.count(Class::Hung), ledger.unaccounted()),
        (2, 0),
        "{ledger:#?}"
    );
    assert_eq!(ledger.examples[0].phase, Phase::Ending);
}

#[tokio::test]
async fn a_lost_stream_is_replaced_so_that_the_load_stays_what_it_was() {
    let faulty = Faulty::start(|n| {
        if n < 2 {
            Behaviour::ResetAfter(5_000)
        } else {
            Behaviour::Good
        }
    })
    .await;
    let load = echo_load(Shape::LongLived, faulty.address, 2);
    let ledger = run_until(load, |ledger| {
        ledger.connections.lost() == 2 && ledger.exchanges.count(Class::Ok) > 200
    })
    .await;
    assert_eq!(
        (
            ledger.connections.count(Class::Reset),
            ledger.connections.count(Class::Ok)
        ),
        (2, 2),
        "{ledger:#?}"
    );
}
