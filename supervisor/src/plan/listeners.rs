//! What becomes of each listener.
//!
//! Room  pure.
//! Holds a listener is its address: under another name it keeps its sockets, at another address it is removed
//!       and added; sockets that are held keep their number and options whatever a configuration says, only
//!       the queue's length is asked for anew by whoever accepts.

use std::net::SocketAddr;

use control::{ListenerChange, PlannedListener};
use handoff::wants::WantedListener;

use super::{Facts, Held};

pub(super) fn changes(facts: &Facts) -> Vec<PlannedListener> {
    let Some(wanted) = &facts.wanted else {
        let change = if facts.native {
            ListenerChange::Unknown
        } else {
            // It takes whatever LISTEN_FDS brings.
            ListenerChange::Kept
        };
        return facts
            .held
            .iter()
            .map(|held| of_held(held, change))
            .collect();
    };
    let mut left: Vec<&Held> = facts.held.iter().collect();
    let mut by_name = Vec::new();
    for listener in wanted {
        let same = |held: &&Held| held.name == listener.name && serves(held, listener);
        by_name.push(take(&mut left, same));
    }
    let mut planned = Vec::new();
    for (listener, found) in wanted.iter().zip(by_name) {
        let found = found.or_else(|| take(&mut left, |held| held.address == listener.address));
        planned.push(match found {
            Some(held) => kept(held, listener, before(facts, &held.name)),
            None => PlannedListener {
                name: listener.name.clone(),
                address: listener.address.clone(),
                change: ListenerChange::Added,
                sockets: listener.members.max(1),
                options: Vec::new(),
            },
        });
    }
    planned.extend(
        left.into_iter()
            .map(|held| of_held(held, ListenerChange::Removed)),
    );
    planned
}

fn take<'h>(left: &mut Vec<&'h Held>, is_it: impl Fn(&&Held) -> bool) -> Option<&'h Held> {
    let place = left.iter().position(is_it)?;
    Some(left.remove(place))
}

/// Port 0 takes whatever port was handed over.
fn serves(held: &Held, wanted: &WantedListener) -> bool {
    if held.address == wanted.address {
        return true;
    }
    let parsed = |text: &str| text.parse::<SocketAddr>().ok();
    match (parsed(&held.address), parsed(&wanted.address)) {
        (Some(held), Some(wanted)) => wanted.port() == 0 && held.ip() == wanted.ip(),
        _ => false,
    }
}

fn before<'f>(facts: &'f Facts, name: &str) -> Option<&'f WantedListener> {
    let mut wanted = facts.wanted_before.iter().flatten();
    wanted.find(|listener| listener.name == name)
}

fn of_held(held: &Held, change: ListenerChange) -> PlannedListener {
    PlannedListener {
        name: held.name.clone(),
        address: held.address.clone(),
        change,
        sockets: held.sockets,
        options: Vec::new(),
    }
}

fn kept(held: &Held, wanted: &WantedListener, before: Option<&WantedListener>) -> PlannedListener {
    let mut options = Vec::new();
    if held.name != wanted.name {
        options.push(format!("name {} → {}", held.name, wanted.name));
    }
    if held.sockets != wanted.members.max(1) {
        options.push(format!(
            "keeps its {} sockets, the configuration's {} count once it is bound anew",
            held.sockets,
            wanted.members.max(1)
        ));
    }
    if let Some(before) = before
        && before.backlog != wanted.backlog
        && before.backlog != 0
        && wanted.backlog != 0
    {
        options.push(format!("backlog {} → {}", before.backlog, wanted.backlog));
    }
    for (option, value) in &wanted.options {
        let now = held.options.iter().find(|(name, _)| name == option);
        if let Some((_, now)) = now
            && now != value
        {
            options.push(format!(
                "keeps {option} {now}, the new version wants {value}"
            ));
        }
    }
    PlannedListener {
        name: wanted.name.clone(),
        options,
        ..of_held(held, ListenerChange::Kept)
    }
}
