//! What is recorded: whole conversations, as orders and facts of the supervisor and as what the worker is told.

/// One conversation between today's supervisor code and today's worker code.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) name: &'static str,
    pub(crate) plan: Plan,
    /// For each life of the supervisor: `> an order`, else the fact that is due.
    pub(crate) supervisor: &'static [&'static [&'static str]],
    /// What the worker is told, in order.
    pub(crate) told: &'static [&'static str],
}

/// What is special about the two sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Sockets that the supervisor hands over, by listener.
    pub(crate) handed: &'static [(&'static str, usize)],
    /// What the worker binds itself.
    pub(crate) bound: &'static [(&'static str, usize)],
    pub(crate) unclaimed: &'static [&'static str],
    /// The state that the worker shares.
    pub(crate) state: State,
    /// The worker cannot start.
    pub(crate) fails: Option<&'static str>,
    /// The supervisor wants nothing of this worker.
    pub(crate) refused: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    Nothing,
    Text(&'static str),
    TooLong,
}

const PLAN: Plan = Plan {
    handed: &[("echo", 2), ("http", 1)],
    bound: &[],
    unclaimed: &[],
    state: State::Nothing,
    fails: None,
    refused: None,
};

pub(crate) const ALL: [Conversation; 11] = [
    Conversation {
        name: "start",
        plan: Plan {
            bound: &[("new", 2), ("newer", 1)],
            unclaimed: &["http"],
            ..PLAN
        },
        supervisor: &[&[
            "bound new=2 newer=1",
            "ready http",
            "> resume",
            "accepting true",
            "stats 5 of 9",
            "> keys",
            "> shutdown",
            "lost: it closed the conversation",
        ]],
        told: &[
            "generation 7, 1 keys, echo=2 http=1",
            "resume",
            "2 keys",
            "shutdown",
        ],
    },
    Conversation {
        name: "start-with-nothing",
        plan: Plan {
            handed: &[],
            bound: &[("web", 1)],
            ..PLAN
        },
        supervisor: &[&[
            "bound web=1",
            "ready",
            "> resume",
            "accepting true",
            "stats 5 of 9",
            "> shutdown",
            "lost: it closed the conversation",
        ]],
        told: &["generation 7, 1 keys,", "resume", "shutdown"],
    },
    Conversation {
        name: "swap-incumbent",
        plan: Plan {
            state: State::Text("counts"),
            ..PLAN
        },
        supervisor: &[&[
            "ready",
            "> resume",
            "accepting true",
            "stats 5 of 9",
            "> share-state",
            "state counts",
            "> pause",
            "accepting false",
            "> drain",
            "drained 7 1",
            "lost: it closed the conversation",
        ]],
        told: &[
            "generation 7, 1 keys, echo=2 http=1",
            "resume",
            "share-state",
            "pause",
            "drain 90s",
        ],
    },
    Conversation {
        name: "swap-successor",
        plan: PLAN,
        supervisor: &[&[
            "ready",
            "> give-state",
            "> resume",
            "accepting true",
            "stats 5 of 9",
            "> drain",
            "drained 7 1",
            "lost: it closed the conversation",
        ]],
        told: &[
            "generation 7, 1 keys, echo=2 http=1",
            "state counts",
            "resume",
            "drain 90s",
        ],
    },
    Conversation {
        name: "rollback-incumbent",
        plan: PLAN,
        supervisor: &[&[
            "ready",
            "> resume",
            "accepting true",
            "stats 5 of 9",
            "> share-state",
            "state: nothing",
            "> pause",
            "accepting false",
            "> resume",
            "accepting true",
            "stats 5 of 9",
            "> drain",
            "drained 7 1",
            "lost: it closed the conversation",
        ]],
        told: &[
            "generation 7, 1 keys, echo=2 http=1",
            "resume",
            "share-state",
            "pause",
            "resume",
            "drain 90s",
        ],
    },
    Conversation {
        name: "parked-and-drained",
        plan: PLAN,
        supervisor: &[&[
            "ready",
            "> resume",
            "accepting true",
            "stats 5 of 9",
            "> pause",
            "accepting false",
            "> keys",
            "> drain",
            "drained 7 1",
            "lost: it closed the conversation",
        ]],
        told: &[
            "generation 7, 1 keys, echo=2 http=1",
            "resume",
            "pause",
            "2 keys",
            "drain 90s",
        ],
    },
    Conversation {
        name: "reload",
        plan: PLAN,
        supervisor: &[&[
            "ready",
            "> resume",
            "accepting true",
            "stats 5 of 9",
            "> reload",
            "bound added=1",
            "released http",
            "reloaded",
            "> reload",
            "reloaded line 3: no such upstream; line 5: no address",
            "> shutdown",
            "lost: it closed the conversation",
        ]],
        told: &[
            "generation 7, 1 keys, echo=2 http=1",
            "resume",
            "reload",
            "reload",
            "shutdown",
        ],
    },
    Conversation {
        name: "state-too-long",
        plan: Plan {
            state: State::TooLong,
            ..PLAN
        },
        supervisor: &[&[
            "ready",
            "> resume",
            "accepting true",
            "stats 5 of 9",
            "> share-state",
            "state missing: a state of 67108865 bytes is too long (at most 67108864)",
            "> shutdown",
            "lost: it closed the conversation",
        ]],
        told: &[
            "generation 7, 1 keys, echo=2 http=1",
            "resume",
            "share-state",
            "shutdown",
        ],
    },
    Conversation {
        name: "failed",
        plan: Plan {
            fails: Some("port 80 is taken"),
            ..PLAN
        },
        supervisor: &[&[
            "failed port 80 is taken",
            "lost: it closed the conversation",
        ]],
        told: &["generation 7, 1 keys, echo=2 http=1"],
    },
    Conversation {
        name: "refused",
        plan: Plan {
            refused: Some("this supervisor does not know you"),
            ..PLAN
        },
        supervisor: &[&[]],
        told: &["the supervisor refused this worker: this supervisor does not know you"],
    },
    Conversation {
        name: "return",
        plan: PLAN,
        supervisor: &[
            &["ready", "> resume", "accepting true", "stats 5 of 9"],
            &[
                "bound echo=2 http=1",
                "ready",
                "> resume",
                "accepting true",
                "stats 5 of 9",
                "> drain",
                "drained 7 1",
                "lost: it closed the conversation",
            ],
        ],
        told: &[
            "generation 7, 1 keys, echo=2 http=1",
            "resume",
            "resume",
            "drain 90s",
        ],
    },
];
