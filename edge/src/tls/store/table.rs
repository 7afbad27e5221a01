//! Which certificate answers which client: an immutable table.
//!
//! Room  pure: no file, no lock.
//! In    pairs in the order of the configuration; SNI and signature schemes of a client.
//! Out   a certified key, or none: the handshake is then refused.
//! Holds exact name, then wildcard, then (unless strict) the first certificate. Of several that fit, one whose key
//!       the client can verify; elliptic curves before RSA, whose signatures cost ten times as much.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use crate::tls::files::Pair;
use crate::tls::names::{self, NameIndex};

/// Built once for each set of certificates.
#[derive(Debug)]
pub(super) struct Table {
    by_name: NameIndex<Pair>,
    /// The first certificate, then those that share a name with it (for other kinds of key).
    fallback: Vec<Pair>,
}

impl Table {
    pub(super) fn new<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Self {
        let pairs: Vec<&Pair> = pairs.collect();
        let first = pairs.first();
        let mut fallback: Vec<Pair> = pairs
            .iter()
            .enumerate()
            .filter(|(at, pair)| *at == 0 || first.is_some_and(|first| share_a_name(first, pair)))
            .map(|(_at, pair)| Pair::clone(pair))
            .collect();
        fallback.sort_by_key(is_rsa);
        let mut sorted = pairs;
        sorted.sort_by_key(|pair| is_rsa(pair));
        let mut by_name = NameIndex::default();
        for pair in sorted {
            for name in &pair.facts.names {
                by_name.insert(name, pair.clone());
            }
        }
        Self { by_name, fallback }
    }

    /// `None`: no certificate for this client.
    pub(super) fn choose(
        &self,
        sni: Option<&str>,
        strict: bool,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(sni, strict);
        let verifiable = |pair: &&&Pair| pair.certified.key.choose_scheme(schemes).is_some();
        // When none is verifiable, rustls refuses the first one with the right alert.
        let chosen = match candidates.as_slice() {
            [only] => only,
            several => several
                .iter()
                .find(verifiable)
                .or_else(|| several.first())?,
        };
        Some(Arc::clone(&chosen.certified))
    }

    pub(super) fn covers(&self, sni: &str, strict: bool, host: &str) -> bool {
        let candidates = self.candidates(Some(sni), strict);
        let covered = |pair: &&Pair| names::covers(&pair.facts.names, host);
        !candidates.is_empty() && candidates.iter().all(covered)
    }

    fn candidates(&self, sni: Option<&str>, strict: bool) -> Vec<&Pair> {
        let named: Vec<&Pair> = sni
            .map(|name| self.by_name.lookup(name).collect())
            .unwrap_or_default();
        if named.is_empty() && !strict {
            return self.fallback.iter().collect();
        }
        named
    }
}

fn share_a_name(one: &Pair, other: &Pair) -> bool {
    let known = &one.facts.names;
    other.facts.names.iter().any(|name| known.contains(name))
}

fn is_rsa(pair: &Pair) -> bool {
    pair.certified.key.algorithm() == SignatureAlgorithm::RSA
}
