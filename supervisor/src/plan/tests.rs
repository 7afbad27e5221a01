//! Tables of plans.

use control::ListenerChange::{self, Added, Kept, Removed, Unknown};
use control::{PlannedDescriptors, PlannedMemory};
use handoff::wants::WantedListener;

use super::{Facts, Held, Unbindable, plan, reasons};

const MIB: u64 = 1024 * 1024;

fn held(name: &str, address: &str) -> Held {
    Held {
        name: name.to_owned(),
        address: address.to_owned(),
        sockets: 16,
        options: vec![("SO_REUSEPORT".to_owned(), "1".to_owned())],
    }
}

fn wanted(name: &str, address: &str) -> WantedListener {
    WantedListener {
        name: name.to_owned(),
        address: address.to_owned(),
        members: 16,
        backlog: 4096,
        options: vec![("SO_REUSEPORT".to_owned(), "1".to_owned())],
    }
}

fn facts(wants: Vec<WantedListener>) -> Facts {
    Facts {
        native: true,
        held: vec![held("web", "0.0.0.0:80"), held("admin", "127.0.0.1:8082")],
        wanted: Some(wants),
        ..Facts::default()
    }
}

#[test]
fn a_listener_is_its_address() {
    let web = || wanted("web", "0.0.0.0:80");
    let admin = || wanted("admin", "127.0.0.1:8082");
    type Row = (
        Vec<WantedListener>,
        &'static [(&'static str, ListenerChange)],
    );
    let table: [Row; 6] = [
        (vec![web(), admin()], &[("web", Kept), ("admin", Kept)]),
        (
            vec![web(), admin(), wanted("more", "0.0.0.0:81")],
            &[("web", Kept), ("admin", Kept), ("more", Added)],
        ),
        (vec![web()], &[("web", Kept), ("admin", Removed)]),
        (
            vec![wanted("web", "0.0.0.0:8080"), admin()],
            &[("web", Added), ("admin", Kept), ("web", Removed)],
        ),
        (
            vec![wanted("shop", "0.0.0.0:80"), admin()],
            &[("shop", Kept), ("admin", Kept)],
        ),
        (
            vec![wanted("web", "0.0.0.0:0"), admin()],
            &[("web", Kept), ("admin", Kept)],
        ),
    ];
    for (wants, expected) in table {
        let told = format!("{wants:?}");
        let plan = plan(facts(wants));
        let changes: Vec<_> = plan
            .listeners
            .iter()
            .map(|listener| (listener.name.as_str(), listener.change))
            .collect();
        assert_eq!(changes, expected, "{told}");
        assert!(plan.is_allowed(), "{plan:?}");
        let removed = changes.iter().any(|(_, change)| *change == Removed);
        let said = plan
            .remarks
            .iter()
            .any(|remark| remark.contains("closed at the commit"));
        assert_eq!(removed, said, "{:?}", plan.remarks);
    }
}

#[test]
fn a_version_that_does_not_say_is_unknown_and_a_level_1_program_takes_all() {
    for (native, expected) in [(true, Unknown), (false, Kept)] {
        let plan = plan(Facts {
            native,
            wanted: None,
            ..facts(Vec::new())
        });
        assert!(plan.is_allowed());
        assert!(
            plan.listeners
                .iter()
                .all(|listener| listener.change == expected)
        );
        let said = plan
            .remarks
            .iter()
            .any(|remark| remark.contains("does not say"));
        assert_eq!(said, native);
    }
}

#[test]
fn options_that_change_are_told_and_others_are_not() {
    let mut web = wanted("web", "0.0.0.0:80");
    web.backlog = 128;
    web.members = 4;
    web.options = vec![("SO_REUSEPORT".to_owned(), "0".to_owned())];
    let plan = plan(Facts {
        wanted_before: Some(vec![wanted("web", "0.0.0.0:80")]),
        ..facts(vec![web, wanted("admin", "127.0.0.1:8082")])
    });
    assert_eq!(
        plan.listeners[0].options,
        [
            "keeps its 16 sockets, the configuration's 4 count once it is bound anew",
            "backlog 4096 → 128",
            "keeps SO_REUSEPORT 1, the new version wants 0",
        ]
    );
    assert!(plan.listeners[1].options.is_empty());
    assert_eq!(plan.listeners[0].sockets, 16);
}

#[test]
fn an_address_of_somebody_else_refuses_with_the_next_step() {
    let plan = plan(Facts {
        unbindable: vec![Unbindable {
            name: "more".to_owned(),
            why: "0.0.0.0:81 is in use".to_owned(),
            next: "see ss".to_owned(),
        }],
        ..facts(vec![wanted("more", "0.0.0.0:81")])
    });
    assert!(!plan.is_allowed());
    assert_eq!(
        reasons(&plan),
        "listener more: 0.0.0.0:81 is in use; see ss"
    );
}

#[test]
fn descriptors_refuse_what_cannot_fit_and_remark_what_is_tight() {
    let plenty = PlannedDescriptors {
        incumbent: Some(1_000),
        limit: Some(10_000),
        supervisor: Some(50),
        supervisor_limit: Some(1_024),
        host: Some(5_000),
        host_limit: Some(100_000),
        ..PlannedDescriptors::default()
    };
    let nothing_known = PlannedDescriptors::default();
    let of = |limit: u64| PlannedDescriptors {
        limit: Some(limit),
        ..plenty.clone()
    };
    // Even without connections: 32 listening sockets and the rest.
    let small = PlannedDescriptors {
        incumbent: Some(3),
        ..of(95)
    };
    let supervisor = PlannedDescriptors {
        supervisor_limit: Some(81),
        ..plenty.clone()
    };
    let host = PlannedDescriptors {
        host_limit: Some(5_999),
        ..plenty.clone()
    };
    let table = [
        (plenty.clone(), 0, 0, "plenty"),
        (nothing_known, 0, 0, "nothing known"),
        // 1,000 of the incumbent: exactly at the limit, one above, and above 80 %.
        (of(1_000), 0, 1, "just fits"),
        (of(999), 1, 0, "one too many"),
        (of(1_249), 0, 1, "above 80 %"),
        (of(1_250), 0, 0, "80 %"),
        (small, 1, 0, "cannot even start"),
        (supervisor, 1, 0, "supervisor"),
        (host, 1, 0, "host"),
        (of(u64::MAX), 0, 0, "no limit"),
    ];
    for (descriptors, refusals, remarks, what) in table {
        let kept = vec![
            wanted("web", "0.0.0.0:80"),
            wanted("admin", "127.0.0.1:8082"),
        ];
        let mut facts = facts(kept);
        facts.to.sha256 = "new".to_owned();
        facts.descriptors = descriptors;
        let plan = plan(facts);
        let counts = (plan.refusals.len(), plan.remarks.len());
        assert_eq!(counts, (refusals, remarks), "{what}: {plan:?}");
        assert!(plan.refusals.iter().all(|refusal| !refusal.next.is_empty()));
    }
}

#[test]
fn memory_refuses_below_the_incumbent_and_remarks_below_twice_of_it() {
    let table = [
        (Some(100), Some(1_000), None, 0, 0),
        (Some(100), Some(200), None, 0, 0),
        (Some(100), Some(199), None, 0, 1),
        (Some(100), Some(100), None, 0, 1),
        (Some(100), Some(99), None, 1, 0),
        (Some(100), Some(1_000), Some(99), 1, 0),
        (Some(100), Some(1_000), Some(150), 0, 1),
        (Some(100), None, None, 0, 0),
        (None, Some(1), Some(1), 0, 0),
    ];
    for (incumbent, available, cgroup_left, refusals, remarks) in table {
        let kept = vec![
            wanted("web", "0.0.0.0:80"),
            wanted("admin", "127.0.0.1:8082"),
        ];
        let mut facts = facts(kept);
        facts.to.sha256 = "new".to_owned();
        facts.memory = PlannedMemory {
            incumbent: incumbent.map(|size| size * MIB),
            available: available.map(|size| size * MIB),
            cgroup_left: cgroup_left.map(|size| size * MIB),
        };
        let plan = plan(facts);
        let counts = (plan.refusals.len(), plan.remarks.len());
        assert_eq!(counts, (refusals, remarks), "{plan:?}");
    }
}
