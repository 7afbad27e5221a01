//! `LOAD_BALANCER_URL`: everything that no route takes elsewhere goes there, whatever the file says.
//!
//! Room  pure.
//! Holds a file without any route or upstream is whole with it.

use dataplane::config::upstream::backend_spec;
use edge::settings::{Route, RouteAction, RouteMatch, Upstream};

use super::environment::EdgeOverrides;
use super::flags;

/// The upstream that the variable makes, or whose backends it replaces.
pub(super) const NAME: &str = "load-balancer";

/// Points routes that match everything to it; without such a route there is a further one.
pub(super) fn take_over(
    over: &EdgeOverrides<'_>,
    routes: &mut Vec<Route>,
    upstreams: &mut Vec<Upstream>,
) {
    let Some((label, found)) = &over.load_balancer else {
        return;
    };
    let backends = vec![backend_spec(label.clone())];
    match upstreams.iter_mut().find(|upstream| upstream.name == NAME) {
        Some(upstream) => upstream.backends = backends,
        None => upstreams.push(flags::upstream(NAME, backends, over)),
    }
    let everything = RouteMatch::default();
    let catch_all = routes.iter_mut().find(|route| route.matcher == everything);
    let Some(route) = catch_all else {
        let is_free = |name: &String| routes.iter().all(|route| route.name != *name);
        let further = (2_u32..).map(|number| format!("{NAME}-{number}"));
        let name = std::iter::once(NAME.to_owned())
            .chain(further)
            .find(is_free);
        routes.push(flags::everything_to(NAME, name.unwrap_or_default()));
        return;
    };
    if matches!(route.action, RouteAction::Forward(_)) {
        route.action = flags::forward_to(NAME);
    } else {
        found.mistake(
            format!(
                "has no effect: the route {:?} answers every request itself",
                route.name
            ),
            Some("remove one of them".to_owned()),
        );
    }
}
