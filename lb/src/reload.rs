//! Reading the configuration again while running: all or nothing.
//!
//! Room  the control thread.
//! Holds a configuration with mistakes, or whose listeners cannot be bound, changes nothing; a listener
//!       that stays keeps its sockets, and no connection is closed by a reload.

use dataplane::life::{Changes, Service as _};
use dataplane::listeners::{self, Group};
use dataplane::posture::Posture;

use handoff::Share;

use crate::balancer::{Balancer, wanted};
use crate::cli::Settings;
use crate::config::Config;
use crate::running::Running;

impl Balancer {
    /// Reads the configuration again and puts it in force.
    ///
    /// # Errors
    /// Every mistake as a line; the configuration before stays in force.
    pub(crate) fn read_again(&mut self, settings: &Settings) -> Result<Changes, Vec<String>> {
        let before = self.shared.running();
        let mut config = Self::load(settings).map_err(|m| m.lines())?;
        keep_what_needs_a_restart(&mut config, &before.config);
        let claimed = listeners::claim(&wanted(&config), before.groups.clone())
            .map_err(|error| vec![error.to_string()])?;
        claimed.log_remarks();
        let is_fresh = |group: &&Group| claimed.fresh.contains(group.name());
        let fresh: Vec<Group> = claimed.groups.iter().filter(is_fresh).cloned().collect();
        let bound = listeners::duplicates(&fresh).map_err(|error| vec![error.to_string()])?;
        self.upstreams
            .reconfigure(&config.upstreams, config.discovery.as_ref());
        let next = Running {
            config,
            groups: claimed.groups,
            upstreams: self.upstreams.all(),
            discovery: self.upstreams.discovery(),
        };
        if let Err(error) = self.apply(&next) {
            self.go_back(&before);
            return Err(vec![format!(
                "the configuration could not be put in force: {error}"
            )]);
        }
        if self.shared.posture() == Posture::Accepting {
            listeners::log_accepting(&fresh, Share::ALL);
        }
        Ok(Changes {
            bound,
            released: claimed.unclaimed,
        })
    }

    fn go_back(&mut self, before: &Running) {
        let config = &before.config;
        self.upstreams
            .reconfigure(&config.upstreams, config.discovery.as_ref());
        let before = Running {
            upstreams: self.upstreams.all(),
            discovery: self.upstreams.discovery(),
            ..before.clone()
        };
        if let Err(error) = self.apply(&before) {
            tracing::error!(%error, "the configuration before the reload could not be restored; restart this process");
        }
    }
}

/// Threads and group sizes are made once; says so and goes on with those that run.
fn keep_what_needs_a_restart(config: &mut Config, before: &Config) {
    if config.workers != before.workers {
        tracing::warn!(
            running = before.workers,
            configured = config.workers,
            "`workers` changes with the next upgrade or restart"
        );
        config.workers = before.workers;
    }
    for listener in &mut config.listeners {
        let known = before
            .listeners
            .iter()
            .find(|known| known.name == listener.name);
        if let Some(known) = known.filter(|known| known.sockets != listener.sockets) {
            tracing::warn!(
                listener = %listener.name,
                running = known.sockets,
                configured = listener.sockets,
                "`sockets` changes with the next restart"
            );
            listener.sockets = known.sockets;
        }
    }
}
