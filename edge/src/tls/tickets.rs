//! Session tickets whose keys are shared by every generation of a service (RFC 8446 section 4.6.1, RFC 5077).
//!
//! ```text
//!   ticket = key id (8) ‖ nonce (12) ‖ AES-256-GCM(state)
//! ```
//!
//! Room  keys and ciphertext; where keys come from is the supervisor's matter, or chance without one.
//! Holds keys are in memory only and never printed; the newest one encrypts, all of them decrypt.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Keys that are kept: a ticket lives through so many rotations.
const KEYS_MAX: usize = 4;

/// How long a client may use a ticket, in seconds. Sized: below the default rotation of 12 h times the kept keys.
const LIFETIME_SECONDS: u32 = 12 * 3600;

const ID_BYTES: usize = 8;

/// See the module.
pub struct Ticketer {
    keys: ArcSwap<Vec<Key>>,
}

struct Key {
    id: [u8; ID_BYTES],
    secret: [u8; KEY_BYTES],
    cipher: LessSafeKey,
}

impl Key {
    fn new(secret: [u8; KEY_BYTES]) -> Option<Self> {
        let mut id = [0; ID_BYTES];
        let named = [b"zeitwork ticket key id".as_slice(), &secret].concat();
        let hash = digest(&SHA256, &named);
        id.copy_from_slice(hash.as_ref().get(..ID_BYTES)?);
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret).ok()?);
        Some(Self { id, secret, cipher })
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.keys.load().len();
        f.debug_struct("Ticketer").field("keys", &count).finish()
    }
}

impl Ticketer {
    /// One key of chance: for a process that nobody supervises.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn random() -> Result<Arc<Self>, rustls::Error> {
        let ticketer = Arc::new(Self {
            keys: ArcSwap::from_pointee(Vec::new()),
        });
        ticketer.rotate()?;
        Ok(ticketer)
    }

    /// A new key in front of the others; the oldest is forgotten.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn rotate(&self) -> Result<(), rustls::Error> {
        let mut secret = [0; KEY_BYTES];
        rand::fill(&mut secret).map_err(|_| rustls::Error::FailedToGetRandomBytes)?;
        let mut secrets = vec![secret];
        secrets.extend(self.keys());
        self.install(&secrets);
        Ok(())
    }

    /// These keys, the newest first, and no others. None at all changes nothing.
    pub fn install(&self, newest_first: &[[u8; KEY_BYTES]]) {
        let secrets = newest_first.iter().take(KEYS_MAX);
        let keys: Vec<Key> = secrets.filter_map(|secret| Key::new(*secret)).collect();
        if !keys.is_empty() {
            self.keys.store(Arc::new(keys));
        }
    }

    /// The keys in force, the newest first.
    #[must_use]
    pub fn keys(&self) -> Vec<[u8; KEY_BYTES]> {
        self.keys.load().iter().map(|key| key.secret).collect()
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.load();
        let key = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(ID_BYTES + NONCE_LEN + plain.len() + 16);
        ticket.extend_from_slice(&key.id);
        ticket.extend_from_slice(&nonce);
        let mut sealed = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.cipher
            .seal_in_place_append_tag(nonce, Aad::from(&key.id), &mut sealed)
            .ok()?;
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (id, rest) = ticket.split_at_checked(ID_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys.load();
        let key = keys.iter().find(|key| key.id == id)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let length = key
            .cipher
            .open_in_place(nonce, Aad::from(&key.id), &mut sealed)
            .ok()?
            .len();
        sealed.truncate(length);
        Some(sealed)
    }
}

#[cfg(test)]
mod tests {
    use rustls::server::ProducesTickets as _;

    use super::{KEYS_MAX, Ticketer};

    #[test]
    fn a_ticket_lives_through_rotations_and_other_processes_and_not_for_ever() {
        let first = Ticketer::random().expect("random");
        let ticket = first.encrypt(b"state").expect("encrypts");
        let second = Ticketer::random().expect("random");
        assert_eq!(second.decrypt(&ticket), None);
        second.install(&first.keys());
        assert_eq!(second.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        for _ in 1..KEYS_MAX {
            second.rotate().expect("random");
        }
        assert!(second.decrypt(&ticket).is_some());
        second.rotate().expect("random");
        assert!(second.decrypt(&ticket).is_none());
    }

    #[test]
    fn what_was_changed_or_is_none_is_refused() {
        let ticketer = Ticketer::random().expect("random");
        let ticket = ticketer.encrypt(b"state").expect("encrypts");
        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(ticketer.decrypt(&changed), None, "byte {place}");
            assert_eq!(ticketer.decrypt(&ticket[..place]), None);
        }
        assert!(!format!("{ticketer:?}").contains(&format!("{:?}", ticketer.keys()[0])));
    }
}
