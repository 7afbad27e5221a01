//! How a supervisor behaves: defaults, `supervisor.toml`, flags, in rising order of precedence.
//!
//! Holds  a setting that is not understood is refused with its line, never ignored.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use control::Migrate;
use handoff::ListenerName;

use crate::health::url::{HealthUrl, health_url};
use crate::signature::SignatureSetting;
use crate::verdict::Thresholds;
use crate::webhook::WebhookSetting;

/// How long the incumbent stays parked by default: long enough for a crash loop or a wrong backend to
/// show in health checks (two intervals of 2 s and more), short enough to wait for at a prompt.
const BAKE: Duration = Duration::from_secs(10);

/// How long a step of a canary lasts by default.
const CANARY_STEP: Duration = Duration::from_secs(10);

/// How long a paused upgrade waits for a person before the incumbent returns.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long a successor may take from spawn to ready.
///
/// Covers: exec, configuration, adoption of listeners, first health checks (bounded at 3 s by `lb`).
/// If passed: the successor is stopped, the incumbent never noticed.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a generation may drain before what is left is cut.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a serving worker may say nothing. Sized: it speaks once a second; a host that swaps or a debugger
/// holds it up for some.
const HANG_TIMEOUT: Duration = Duration::from_secs(15);

/// How many generations may drain. Sized: eight upgrades within one drain timeout are a busy day.
const MAX_DRAINING: usize = 8;

/// What draining generations may hold, in percent of the host's memory.
const MAX_DRAINING_MEMORY_PERCENT: u8 = 25;

/// How long connections may go on when the whole service stops (below systemd's 90 s).
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How often there is a new key for TLS session tickets. Sized: three keys are kept, so a ticket is good for a
/// day and more, and a key that leaks opens no more than a day and a half of recorded resumptions.
const TICKET_ROTATION: Duration = Duration::from_secs(12 * 3600);

/// Shortest rotation: every generation is told each time.
const TICKET_ROTATION_MIN: Duration = Duration::from_secs(1);

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    #[serde(deserialize_with = "duration")]
    pub(crate) bake: Duration,
    /// Steps of the canary of every upgrade, in percent.
    pub(crate) canary: Vec<u8>,
    #[serde(deserialize_with = "duration")]
    pub(crate) canary_step: Duration,
    /// How long a paused upgrade waits for a person.
    #[serde(deserialize_with = "duration")]
    pub(crate) pause_timeout: Duration,
    /// Try a successor before clients reach it.
    pub(crate) self_test: bool,
    /// What a bake must keep.
    pub(crate) thresholds: Thresholds,
    #[serde(deserialize_with = "duration")]
    pub(crate) ready_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) drain_timeout: Duration,
    /// How long a serving worker may say nothing before it is replaced.
    #[serde(deserialize_with = "duration")]
    pub(crate) hang_timeout: Duration,
    /// How many old generations may drain; the oldest give way.
    pub(crate) max_draining: usize,
    /// What they may hold together, in percent of the host's memory.
    pub(crate) max_draining_memory_percent: u8,
    /// When live connections move to the successor.
    pub(crate) migrate: Migrate,
    #[serde(deserialize_with = "duration")]
    pub(crate) stop_timeout: Duration,
    #[serde(deserialize_with = "rotation")]
    pub(crate) ticket_rotation: Duration,
    /// Who is told about swaps.
    pub(crate) webhook: Option<WebhookSetting>,
    /// Where metrics are served.
    pub(crate) metrics: Option<MetricsSetting>,
    /// What a binary must be signed with.
    pub(crate) signature: Option<SignatureSetting>,
    /// Where a program without the native handoff says how it is.
    #[serde(deserialize_with = "health_url")]
    pub(crate) health_url: Option<HealthUrl>,
    /// Listeners that the supervisor binds itself, for programs that only know LISTEN_FDS.
    #[serde(rename = "listener")]
    pub(crate) listeners: Vec<ListenerSetting>,
}

/// A listener that the supervisor binds itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerSetting {
    pub(crate) name: ListenerName,
    pub(crate) address: SocketAddr,
}

/// `[metrics]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsSetting {
    pub(crate) listen: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bake: BAKE,
            canary: Vec::new(),
            canary_step: CANARY_STEP,
            pause_timeout: PAUSE_TIMEOUT,
            self_test: true,
            thresholds: Thresholds::default(),
            ready_timeout: READY_TIMEOUT,
            drain_timeout: DRAIN_TIMEOUT,
            hang_timeout: HANG_TIMEOUT,
            max_draining: MAX_DRAINING,
            max_draining_memory_percent: MAX_DRAINING_MEMORY_PERCENT,
            migrate: Migrate::default(),
            stop_timeout: STOP_TIMEOUT,
            ticket_rotation: TICKET_ROTATION,
            webhook: None,
            metrics: None,
            signature: None,
            health_url: None,
            listeners: Vec::new(),
        }
    }
}

/// A file that is not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("{path}: {source}")]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {reason}")]
    Wrong { path: PathBuf, reason: String },
}

/// Reads `supervisor.toml`; without a file, the defaults.
pub(crate) fn load(path: Option<&Path>) -> Result<Settings, SettingsError> {
    let Some(path) = path else {
        return Ok(Settings::default());
    };
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    toml_edit::de::from_str(&text).map_err(|error| SettingsError::Wrong {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        serde::de::Error::custom(format!("{text:?} is no duration such as \"10s\": {error}"))
    })
}

fn rotation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let rotation = duration(deserializer)?;
    if rotation < TICKET_ROTATION_MIN {
        return Err(serde::de::Error::custom(format!(
            "ticket_rotation is at least {TICKET_ROTATION_MIN:?}"
        )));
    }
    Ok(rotation)
}

/// `--listen [NAME=]ADDRESS`.
pub(crate) fn parse_listen(text: &str) -> Result<ListenerSetting, String> {
    let (name, address) = text.split_once('=').unwrap_or(("listener", text));
    Ok(ListenerSetting {
        name: name
            .parse()
            .map_err(|error: handoff::ListenerNameError| error.to_string())?,
        address: address
            .parse()
            .map_err(|_| format!("{address:?} is no address such as 0.0.0.0:8080"))?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Settings, load, parse_listen};

    #[test]
    fn a_file_overrides_defaults_and_its_mistakes_name_their_line() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("supervisor.toml");
        std::fs::write(&path, "bake = \"30s\"\n").expect("written");
        let settings = load(Some(&path)).expect("valid");
        assert_eq!(settings.bake, Duration::from_secs(30));
        assert_eq!(settings.drain_timeout, Settings::default().drain_timeout);
        for (wrong, expected) in [
            ("\nbake = \"soon\"\n", "line 2"),
            ("bak = \"3s\"\n", "bake"),
            (
                "[[listener]]\nname = \"A\"\naddress = \"1.2.3.4:5\"\n",
                "\"A\" cannot name",
            ),
            ("bake = 3\n", "string"),
            ("ticket_rotation = \"0s\"\n", "at least 1s"),
            ("\n[signature]\npublic_key = \"RW\"\n", "is no minisign key"),
            (
                "[webhook]\nurl = \"https://x/\"\n",
                "only http is spoken here",
            ),
            ("[signature]\nkey = \"RW\"\n", "public_key"),
            (
                "\nhealth_url = \"https://127.0.0.1/\"\n",
                "only http is spoken here",
            ),
        ] {
            std::fs::write(&path, wrong).expect("written");
            let error = load(Some(&path)).expect_err(wrong).to_string();
            assert!(error.contains(expected), "{wrong}: {error}");
        }
    }

    #[test]
    fn listen_takes_a_name_or_goes_without() {
        let named = parse_listen("web=127.0.0.1:80").expect("valid");
        assert_eq!(named.name.as_str(), "web");
        assert_eq!(
            parse_listen("[::1]:80").expect("valid").name.as_str(),
            "listener"
        );
        assert!(parse_listen("web=nowhere").is_err());
        assert!(parse_listen("W=127.0.0.1:80").is_err());
    }
}
