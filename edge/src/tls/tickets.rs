//! Session tickets: what a client keeps so that its next connection needs no full handshake, in whichever
//! process of this service it arrives.
//!
//! ```text
//!   ticket:  key id (16) │ nonce (12) │ AES-256-GCM( issued at (8) │ rustls's state ) │ tag (16)
//! ```
//!
//! Room  keys and their order. Who makes them known to other processes is the supervisor's matter.
//! In    keys by `install` (supervised) or `rotate` (alone).
//! Out   `ProducesTickets` for rustls.
//! Holds keys are in memory only and never shown. A ticket is accepted for `LIFETIME`, whatever the age of
//!       its key. Any bytes from a client end in `None` at worst.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, rand};
use rustls::server::ProducesTickets;

/// Keys that are known at once: one that encrypts, older ones that only decrypt.
///
/// Sized: when a key is added every four hours or more seldom, the oldest one outlives its last ticket. Nonces are
/// random: at 20,000 tickets a second a key of twelve hours encrypts 2^30 of them, below the 2^32 that
/// NIST SP 800-38D (section 8.3) allows.
const KEYS_MAX: usize = 4;

/// How long a ticket is good. TLS 1.3 allows seven days (RFC 8446, section 4.6.1); half a day bounds what a
/// stolen key opens.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

const ID_LEN: usize = 16;
const STAMP_LEN: usize = 8;

/// Separates a key's public name from every other hash of it.
const ID_DOMAIN: &[u8] = b"zeitwork edge ticket key id v1";

/// One secret key; shown as its public name only.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey(pub [u8; 32]);

impl TicketKey {
    /// The name that a ticket carries in clear: a hash, so that every process derives the same one.
    fn id(&self) -> [u8; ID_LEN] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(ID_DOMAIN);
        context.update(&self.0);
        let mut id = [0; ID_LEN];
        for (byte, hashed) in id.iter_mut().zip(context.finish().as_ref()) {
            *byte = *hashed;
        }
        id
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(redacted)")
    }
}

impl Drop for TicketKey {
    fn drop(&mut self) {
        self.0.fill(0);
        // Without a use afterwards the compiler may leave the writes out.
        std::hint::black_box(&self.0);
    }
}

/// A key ready for use.
struct Opened {
    secret: TicketKey,
    id: [u8; ID_LEN],
    cipher: LessSafeKey,
}

impl Opened {
    fn new(secret: TicketKey) -> Self {
        // The length is the algorithm's own: 32 bytes.
        let key = UnboundKey::new(&AES_256_GCM, &secret.0).expect("a key of 32 bytes");
        Self {
            id: secret.id(),
            cipher: LessSafeKey::new(key),
            secret,
        }
    }
}

/// Seals and opens tickets; shared by all listeners of a process.
pub struct Ticketer {
    /// Newest first; never empty.
    keys: ArcSwap<Vec<Arc<Opened>>>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Ticketer {
    /// One fresh key: for a process without a supervisor.
    ///
    /// # Errors
    /// The host gives no random bytes.
    pub fn random() -> Result<Arc<Self>, rustls::Error> {
        let key = Arc::new(Opened::new(fresh()?));
        Ok(Arc::new(Self {
            keys: ArcSwap::from_pointee(vec![key]),
            changing: Mutex::new(()),
        }))
    }

    /// Puts these keys in force instead of those before: the first one encrypts, at most `KEYS_MAX` are
    /// known. An empty list changes nothing.
    pub fn install(&self, newest_first: &[[u8; 32]]) {
        if newest_first.is_empty() {
            return;
        }
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = newest_first.iter().take(KEYS_MAX);
        let opened = known.map(|key| Arc::new(Opened::new(TicketKey(*key))));
        self.keys.store(Arc::new(opened.collect()));
    }

    /// Adds a fresh key in front and forgets the oldest one beyond `KEYS_MAX`.
    ///
    /// # Errors
    /// The host gives no random bytes; the keys before stay in force.
    pub fn rotate(&self) -> Result<(), rustls::Error> {
        let newest = Arc::new(Opened::new(fresh()?));
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.keys.load_full();
        let older = before.iter().take(KEYS_MAX - 1).cloned();
        self.keys
            .store(Arc::new([newest].into_iter().chain(older).collect()));
        Ok(())
    }

    /// The keys in force, newest first: for the supervisor, so that a successor knows them.
    pub fn keys(&self) -> Vec<[u8; 32]> {
        self.keys.load().iter().map(|key| key.secret.0).collect()
    }

    fn seal(&self, state: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let keys = self.keys.load();
        let key = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(STAMP_LEN + state.len());
        sealed.extend_from_slice(&seconds(now)?.to_be_bytes());
        sealed.extend_from_slice(state);
        let tag = key
            .cipher
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(key.id),
                &mut sealed,
            )
            .ok()?;
        Some([&key.id[..], &nonce, &sealed, tag.as_ref()].concat())
    }

    fn open(&self, ticket: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let (id, rest) = ticket.split_first_chunk::<ID_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.load();
        // The name is public: comparing it in variable time tells nothing.
        let key = keys.iter().find(|key| key.id == *id)?;
        let mut opened = sealed.to_vec();
        let plain = key
            .cipher
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(*id),
                &mut opened,
            )
            .ok()?;
        let (issued, state) = plain.split_first_chunk::<STAMP_LEN>()?;
        // A clock that was set back makes the age zero, not an error.
        let age = seconds(now)?.saturating_sub(u64::from_be_bytes(*issued));
        (age <= LIFETIME.as_secs()).then(|| state.to_vec())
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticketer")
            .field("keys", &self.keys.load().len())
            .finish_non_exhaustive()
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, SystemTime::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, SystemTime::now())
    }
}

fn fresh() -> Result<TicketKey, rustls::Error> {
    let mut key = TicketKey([0; 32]);
    rand::fill(&mut key.0).map_err(|_unspecified| rustls::Error::FailedToGetRandomBytes)?;
    Ok(key)
}

fn seconds(at: SystemTime) -> Option<u64> {
    Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;
    use rustls::server::ProducesTickets as _;

    use super::{KEYS_MAX, LIFETIME, TicketKey, Ticketer};

    #[test]
    fn a_ticket_lives_through_rotations_and_other_processes_and_not_for_ever() {
        let first = Ticketer::random().unwrap();
        let ticket = first.encrypt(b"state").unwrap();
        let second = Ticketer::random().unwrap();
        assert_eq!(second.decrypt(&ticket), None);
        second.install(&first.keys());
        assert_eq!(second.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        for _ in 1..KEYS_MAX {
            second.rotate().unwrap();
        }
        assert!(second.decrypt(&ticket).is_some());
        second.rotate().unwrap();
        assert!(second.decrypt(&ticket).is_none());
        assert_eq!(second.keys().len(), KEYS_MAX);
    }

    #[test]
    fn a_ticket_expires_though_its_key_stays() {
        let ticketer = Ticketer::random().unwrap();
        let now = SystemTime::now();
        let ticket = ticketer.seal(b"state", now).unwrap();
        let second = Duration::from_secs(1);
        for (at, is_good) in [
            (now, true),
            (now + LIFETIME, true),
            (now + LIFETIME + second, false),
            (now - second, true),
        ] {
            assert_eq!(ticketer.open(&ticket, at).is_some(), is_good, "{at:?}");
        }
        assert_eq!(u64::from(ticketer.lifetime()), LIFETIME.as_secs());
    }

    #[test]
    fn what_was_changed_or_cut_is_refused() {
        let ticketer = Ticketer::random().unwrap();
        let ticket = ticketer.encrypt(b"state").unwrap();
        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(ticketer.decrypt(&changed), None, "byte {place}");
            assert_eq!(ticketer.decrypt(&ticket[..place]), None);
        }
    }

    #[test]
    fn keys_are_installed_in_order_and_an_empty_list_changes_nothing() {
        let ticketer = Ticketer::random().unwrap();
        let keys: Vec<[u8; 32]> = (0..6).map(|byte| [byte; 32]).collect();
        ticketer.install(&keys);
        assert_eq!(ticketer.keys(), keys[..KEYS_MAX]);
        ticketer.install(&[]);
        assert_eq!(ticketer.keys(), keys[..KEYS_MAX]);
    }

    #[test]
    fn keys_are_not_shown() {
        let ticketer = Ticketer::random().unwrap();
        ticketer.install(&[[0xab; 32]]);
        for shown in [
            format!("{ticketer:?}"),
            format!("{:?}", TicketKey([0xab; 32])),
        ] {
            assert!(!shown.contains("171") && !shown.contains("ab,"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), known: bool) {
            let ticketer = Ticketer::random().unwrap();
            let mut ticket = bytes;
            if known {
                let id = TicketKey(ticketer.keys()[0]).id();
                ticket.splice(..0, id);
            }
            prop_assert_eq!(ticketer.decrypt(&ticket), None);
        }
    }
}
