//! Configurations of `edge` that are large.
//!
//! Room  pure: text.
//! Holds where one of many is asked for, it is in the middle or the last, so that a search from the front would show.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// Bytes of every answer: what the scenarios of `compare` ask for, `/bytes/1024`.
const ANSWER_BYTES: usize = 1024;

/// An idle client is not sent away while it is held.
pub(super) const PATIENCE: &str = "[timeouts]\nkeep_alive = \"1h\"\nfirst_byte = \"1h\"\n";

/// The name that the route at `place` is for.
pub(super) fn host(place: usize) -> String {
    format!("h{place}.test")
}

/// A route for each place, by host, all to the same upstream.
pub(super) fn routes_by_host(places: impl Iterator<Item = usize>) -> String {
    places.fold(String::new(), |mut text, place| {
        let host = host(place);
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "[[route]]\nhosts = [\"{host}\"]\nupstream = \"app\"\n"
        );
        text
    })
}

/// So many routes of any host, by path, all to the same upstream; the one that is asked for is the last.
pub(super) fn routes_by_path(count: usize) -> String {
    let others = (1..count).map(|place| ANSWER_BYTES + place);
    let mut text = String::new();
    for bytes in others.chain([ANSWER_BYTES]) {
        let _ = write!(
            text,
            "[[route]]\npath_prefix = \"/bytes/{bytes}\"\nupstream = \"app\"\n"
        );
    }
    text
}

/// One upstream, `app`.
pub(super) fn upstream(backends: &[SocketAddr]) -> String {
    named_upstream("app", backends)
}

/// An upstream for each place, each with all of these backends, and a route by host to it. Nobody checks their health.
pub(super) fn upstreams_with_routes(
    places: impl Iterator<Item = usize>,
    backends: &[SocketAddr],
) -> String {
    let mut text = String::new();
    for place in places {
        let (name, host) = (format!("u{place}"), host(place));
        let _ = write!(
            text,
            "[[route]]\nhosts = [\"{host}\"]\nupstream = \"{name}\"\n"
        );
        text.push_str(&named_upstream(&name, backends));
    }
    text
}

fn named_upstream(name: &str, backends: &[SocketAddr]) -> String {
    let quoted: Vec<String> = backends.iter().map(|one| format!("\"{one}\"")).collect();
    format!("[upstream.{name}]\nbackends = [{}]\n", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{routes_by_host, routes_by_path, upstream, upstreams_with_routes};

    #[test]
    fn every_place_has_its_route() {
        let text = routes_by_host(0..3);
        assert_eq!(text.matches("[[route]]").count(), 3);
        assert!(text.contains("\"h2.test\""));
    }

    #[test]
    fn the_route_that_is_asked_for_is_the_last_and_there_once() {
        for count in [1, 2, 1000] {
            let text = routes_by_path(count);
            assert_eq!(text.matches("[[route]]").count(), count);
            assert_eq!(text.matches("\"/bytes/1024\"").count(), 1);
            let last = text.rsplit("[[route]]").next().unwrap();
            assert!(last.contains("\"/bytes/1024\""));
        }
    }

    #[test]
    fn every_upstream_has_all_backends() {
        let backends: Vec<SocketAddr> = [1, 2]
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .to_vec();
        assert_eq!(
            upstream(&backends),
            "[upstream.app]\nbackends = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n"
        );
        let text = upstreams_with_routes(0..5, &backends);
        assert_eq!(text.matches("127.0.0.1:2").count(), 5);
        assert!(text.contains("[upstream.u4]") && text.contains("h4.test"));
    }
}
