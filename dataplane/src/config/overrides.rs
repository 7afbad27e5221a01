//! Environment variables and flags that override the file: `/etc/zeitwork/*.env`.
//!
//! Room  pure.
//! Holds a variable that is wrong is a mistake in the same list as the file's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::INTERVAL_RANGE;
use super::process::operator_url;
use super::upstream::{CONNECT_TIMEOUT_RANGE, algorithm};
use crate::balance::Algorithm;
use crate::discovery::OperatorUrl;
use crate::process::LogLevel;
use crate::settings::{Environment, Found, Notes, argument};

/// What the environment says.
#[derive(Debug, Default)]
pub struct Overrides<'n> {
    /// `PORT`: of the only listener.
    pub port: Option<(u16, Found<'n>)>,
    /// `--admin`, else `ADMIN_LISTEN`.
    pub admin: Option<(SocketAddr, Found<'n>)>,
    /// `LOG_LEVEL`.
    pub log_level: Option<LogLevel>,
    /// `ALGORITHM`: of every upstream.
    pub algorithm: Option<Algorithm>,
    /// `HEALTH_CHECK_INTERVAL`: of every upstream; turns checks on where there are none.
    pub check_interval: Option<(Duration, Found<'n>)>,
    /// `BACKEND_TIMEOUT`: to connect, of every upstream.
    pub connect_timeout: Option<Duration>,
    /// `OPERATOR_URL`.
    pub operator_url: Option<OperatorUrl>,
    /// Where systemd lets the service keep files (`StateDirectory=`).
    pub state_directory: Option<PathBuf>,
}

impl<'n> Overrides<'n> {
    /// Reads them; `admin_flag` goes before `ADMIN_LISTEN`.
    pub fn read(notes: &'n Notes, admin_flag: Option<&str>, environment: &Environment<'n>) -> Self {
        let admin = admin_flag
            .map(|text| argument(notes, "--admin", text))
            .or_else(|| environment.optional("ADMIN_LISTEN"));
        let level = environment.optional("LOG_LEVEL");
        let directory = environment.optional("STATE_DIRECTORY");
        let directory = directory.and_then(|found| found.string());
        Self {
            port: environment
                .optional("PORT")
                .and_then(|found| Some((found.integer(1..=u16::MAX)?, found))),
            admin: admin.and_then(|found| Some((found.listen_address()?, found))),
            log_level: level.and_then(|found| found.choice("log level", &LogLevel::WORDS)),
            algorithm: environment
                .optional("ALGORITHM")
                .and_then(|found| algorithm(&found)),
            check_interval: environment
                .optional("HEALTH_CHECK_INTERVAL")
                .and_then(|found| Some((found.duration(INTERVAL_RANGE)?, found))),
            connect_timeout: environment
                .optional("BACKEND_TIMEOUT")
                .and_then(|found| found.duration(CONNECT_TIMEOUT_RANGE)),
            operator_url: environment
                .optional("OPERATOR_URL")
                .and_then(|found| operator_url(&found)),
            // systemd separates several directories by a colon; the first is ours.
            state_directory: directory.and_then(|text| text.split(':').next().map(PathBuf::from)),
        }
    }
}
