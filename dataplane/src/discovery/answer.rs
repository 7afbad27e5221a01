//! The operator's answer: which backends there are.
//!
//! Room  pure: bytes in, a set out; also read back from disk by `cache`.
//! Holds all or nothing: one backend that is wrong refuses the whole answer, and the set in force stays. Fields
//!       that are not known are ignored, so that the operator may be newer than this process.
//!
//! ```json
//!   {"backends": [{"id": "i-7", "address": "10.0.0.7:80", "weight": 2, "upstream": "app"},
//!                 {"host": "app.internal", "port": 80, "max_connections": 500, "status": "draining"}]}
//! ```
//!
//! The array may also stand by itself. Where a backend is: `address`, else `ip` and `port`, else `host` and
//! `port`. A field that is `null` counts as absent.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::backend::WEIGHT_MAX;
use crate::settings::{Notes, argument};
use crate::upstream::BackendSpec;

/// Longest id of a backend, in bytes: it stands in logs, metrics and paths of the admin API.
const ID_BYTES_MAX: usize = 128;

/// A backend of the operator's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// The upstream it belongs to; `None`: the operator does not say.
    pub upstream: Option<String>,
    pub spec: BackendSpec,
}

/// Why an answer was refused as a whole: the operator is at fault. Backends are counted from 0.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    #[error("the operator's answer is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error(
        "the operator's answer is neither an array of backends nor an object with one in \"backends\""
    )]
    NoBackends,
    #[error("backend {index} of the operator's answer is not an object")]
    NotAnObject { index: usize },
    #[error("backend {index} of the operator's answer: {field} is not {wanted}")]
    Field {
        index: usize,
        field: &'static str,
        wanted: &'static str,
    },
    #[error(
        "backend {index} of the operator's answer has no address: it needs \"address\", or \"ip\" or \"host\" with \"port\""
    )]
    NoAddress { index: usize },
    #[error("backend {index} of the operator's answer: {problem}")]
    Address { index: usize, problem: String },
    #[error(
        "backend {index} of the operator's answer is listed twice: {id:?}, also backend {before}; an id is unique within its upstream"
    )]
    Twice {
        index: usize,
        before: usize,
        id: String,
    },
}

/// Reads an answer, or a set on disk.
///
/// An empty array is a set of no backends; an answer without an array is an error, not an empty set.
///
/// # Errors
///
/// [`DiscoveryError`] names the first backend and field that is wrong.
pub fn parse_backends(bytes: &[u8]) -> Result<Vec<Discovered>, DiscoveryError> {
    let answer: Value = serde_json::from_slice(bytes)?;
    let list = answer.get("backends").unwrap_or(&answer);
    let list = list.as_array().ok_or(DiscoveryError::NoBackends)?;
    let read = |(index, value): (usize, &Value)| {
        let map = value
            .as_object()
            .ok_or(DiscoveryError::NotAnObject { index })?;
        Entry { index, map }.backend()
    };
    let set = list
        .iter()
        .enumerate()
        .map(read)
        .collect::<Result<Vec<_>, _>>()?;
    refuse_doubles(&set)?;
    Ok(set)
}

/// An id is how a backend is checked, drained and counted: within an upstream it must mean one. A backend
/// without an upstream may belong to any, so its id is unique in the whole answer.
fn refuse_doubles(set: &[Discovered]) -> Result<(), DiscoveryError> {
    let mut by_id = HashMap::new();
    let mut by_upstream = HashMap::new();
    for (index, one) in set.iter().enumerate() {
        let id = one.spec.id.as_ref().unwrap_or(&one.spec.label).as_str();
        let upstream = one.upstream.as_deref();
        let double = match upstream {
            None => by_id.get(id),
            Some(_) => by_upstream
                .get(&(upstream, id))
                .or_else(|| by_upstream.get(&(None, id))),
        };
        if let Some(&before) = double {
            let id = id.to_owned();
            return Err(DiscoveryError::Twice { index, before, id });
        }
        by_id.entry(id).or_insert(index);
        by_upstream.insert((upstream, id), index);
    }
    Ok(())
}

/// One object of the array.
#[derive(Clone, Copy)]
struct Entry<'a> {
    index: usize,
    map: &'a Map<String, Value>,
}

impl<'a> Entry<'a> {
    fn backend(self) -> Result<Discovered, DiscoveryError> {
        Ok(Discovered {
            upstream: self.name("upstream")?.map(str::to_owned),
            spec: BackendSpec {
                id: self.name("id")?.map(str::to_owned),
                label: self.label()?,
                weight: self.weight()?,
                max_connections: self.max_connections()?,
                drain: self.drain()?,
            },
        })
    }

    fn label(self) -> Result<String, DiscoveryError> {
        let written = match self.text("address")? {
            Some(address) => address.to_owned(),
            None => self.host_and_port()?,
        };
        // The same eyes that read a backend in a configuration.
        let notes = Notes::default();
        let label = argument(&notes, "address", &written).endpoint();
        label.ok_or_else(|| {
            let mistakes = notes.into_mistakes();
            let first = mistakes.iter().next();
            let problem = first.map_or_else(
                || format!("{written:?} is no address"),
                |mistake| mistake.problem.clone(),
            );
            DiscoveryError::Address {
                index: self.index,
                problem,
            }
        })
    }

    fn host_and_port(self) -> Result<String, DiscoveryError> {
        let host = match self.text("ip")? {
            Some(ip) => Some(ip),
            None => self.text("host")?,
        };
        let port = self.integer("port", 1, u64::from(u16::MAX), "a number from 1 to 65535")?;
        let (Some(host), Some(port)) = (host, port) else {
            return Err(DiscoveryError::NoAddress { index: self.index });
        };
        // An IPv6 address is written without brackets when its port stands apart.
        Ok(if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        })
    }

    fn weight(self) -> Result<u32, DiscoveryError> {
        let weight = self.integer("weight", 1, u64::from(WEIGHT_MAX), "a number from 1 to 256")?;
        Ok(weight
            .and_then(|weight| u32::try_from(weight).ok())
            .unwrap_or(1))
    }

    fn max_connections(self) -> Result<Option<usize>, DiscoveryError> {
        let most = u64::from(u32::MAX);
        let limit = self.integer("max_connections", 1, most, "a number from 1 to 4294967295")?;
        Ok(limit.and_then(|limit| usize::try_from(limit).ok()))
    }

    /// Draining by either word; any other status is the operator's own affair: health is checked here.
    fn drain(self) -> Result<bool, DiscoveryError> {
        let flag = match self.value("drain") {
            None => false,
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.wrong("drain", "true or false"))?,
        };
        Ok(flag
            || self
                .text("status")?
                .is_some_and(|status| status.eq_ignore_ascii_case("draining")))
    }

    /// An identifier: printable ASCII without spaces, at most [`ID_BYTES_MAX`] bytes.
    fn name(self, field: &'static str) -> Result<Option<&'a str>, DiscoveryError> {
        let Some(text) = self.text(field)? else {
            return Ok(None);
        };
        let fits = (1..=ID_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Some(text))
        } else {
            Err(self.wrong(field, "1 to 128 printable ASCII characters without spaces"))
        }
    }

    fn text(self, field: &'static str) -> Result<Option<&'a str>, DiscoveryError> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| self.wrong(field, "a string"))
    }

    fn integer(
        self,
        field: &'static str,
        min: u64,
        max: u64,
        wanted: &'static str,
    ) -> Result<Option<u64>, DiscoveryError> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        let number = value.as_u64().filter(|number| (min..=max).contains(number));
        number.map(Some).ok_or_else(|| self.wrong(field, wanted))
    }

    fn value(self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn wrong(self, field: &'static str, wanted: &'static str) -> DiscoveryError {
        DiscoveryError::Field {
            index: self.index,
            field,
            wanted,
        }
    }
}

#[cfg(test)]
mod tests;
