//! Everything that can arrive in the place of a connection: records of versions beside this one, and wrong ones.

use std::net::TcpStream;
use std::os::fd::OwnedFd;

use handoff::passage::Fate;
use lb::totals::End;
use serde_json::json;

use crate::harness::{Plan, assert_echoes, echo_origin, is_reset, until};
use crate::moving::{ROOM, Two, What, arrived, prepare};

/// A good connection, and what is done to it before it arrives.
fn tampered(change: impl FnOnce(&mut What)) -> Result<(), String> {
    let two = Two::before(echo_origin(), &Plan::default());
    let mut client = two.rig.client();
    assert_echoes(&mut client);
    let frozen = two.rig.pool.freeze_some(ROOM).connections;
    let mut what = arrived(&frozen[0]);
    change(&mut what);
    let outcome = prepare(&two.other, &two.others_upstream, what);
    let outcome = outcome.map(|prepared| {
        two.other.adopt_arrived(vec![prepared]);
    });
    let fate = match &outcome {
        Ok(()) => Fate::Taken,
        Err(reason) => Fate::Refused(reason.clone()),
    };
    two.rig
        .pool
        .settle_fates(frozen.into_iter().map(|one| (one, fate.clone())).collect());
    // Whatever arrived, the client is served on.
    assert_echoes(&mut client);
    drop(client);
    two.until_empty();
    outcome
}

#[test]
fn a_record_of_a_version_beside_this_one_is_understood() {
    tampered(|_| {}).unwrap();
    tampered(|what| {
        what.record["colour"] = json!("red");
        what.record["times"]["zone"] = json!(1);
        what.record["to_client"]["future"] = json!({ "a": 1 });
    })
    .unwrap();
    // An older version that says less.
    tampered(|what| {
        what.record["to_client"] = json!({});
        what.record["to_backend"] = json!({ "bytes": 14 });
        what.record["times"]
            .as_object_mut()
            .unwrap()
            .remove("settled");
    })
    .unwrap();
}

#[test]
fn a_record_that_cannot_be_honoured_is_refused_with_its_reason() {
    let socket = || OwnedFd::from(TcpStream::connect(echo_origin()).unwrap());
    let pipe = || rustix::pipe::pipe().unwrap();
    let refused = |change: &dyn Fn(&mut What), why: &str| {
        let reason = tampered(|what| change(what)).expect_err(why);
        assert!(reason.contains(why), "{reason:?} does not say {why:?}");
    };
    refused(&|what| what.record["form"] = json!(9), "form 9");
    refused(
        &|what| what.record["listener"] = json!("gone"),
        "no listener \"gone\"",
    );
    refused(&|what| what.record = json!([1, 2]), "cannot be read");
    refused(
        &|what| what.record["client"] = json!("nowhere"),
        "cannot be read",
    );
    refused(&|what| what.descriptors.truncate(1), "did not arrive");
    refused(&|what| what.descriptors.push(socket()), "more arrived");
    refused(&|what| what.held = b"surplus".to_vec(), "more arrived");
    refused(
        &|what| what.record["to_client"]["kept"] = json!(5),
        "more held bytes",
    );
    refused(&|what| what.descriptors[1] = pipe().0, "no TCP socket");
    refused(
        &|what| what.record["to_client"]["piped"] = json!(5),
        "pipe did not arrive",
    );
    refused(
        &|what| {
            what.record["to_client"]["piped"] = json!(5);
            let (read_end, write_end) = pipe();
            what.descriptors.extend([read_end, write_end]);
        },
        "holds 0 bytes",
    );
    refused(
        &|what| {
            what.record["to_client"]["piped"] = json!(5);
            what.descriptors.extend([socket(), socket()]);
        },
        "no pipe",
    );
}

/// Numbers beyond any clock or counter are no reason to panic: a connection of such an age is over.
#[test]
fn absurd_numbers_are_only_numbers() {
    tampered(|what| what.record["to_client"]["bytes"] = json!(u64::MAX)).unwrap();
    let two = Two::before(echo_origin(), &Plan::default());
    let mut client = two.rig.client();
    assert_echoes(&mut client);
    let frozen = two.rig.pool.freeze_some(ROOM).connections;
    let mut what = arrived(&frozen[0]);
    what.record["times"]["accepted"] = json!(u64::MAX);
    what.record["times"]["connected"] = json!(u64::MAX);
    let prepared = prepare(&two.other, &two.others_upstream, what).unwrap();
    two.other.adopt_arrived(vec![prepared]);
    two.rig
        .pool
        .settle_fates(frozen.into_iter().map(|one| (one, Fate::Taken)).collect());
    assert!(is_reset(&mut client));
    until("it is counted", || {
        two.other.totals().ended(End::Lifetime) == 1
    });
    assert_eq!(two.rig.totals().active, 0);
}
