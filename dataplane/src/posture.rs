//! What a process does with its listeners, for everybody who only looks.
//!
//! Room  one word, shared between the control thread and the admin routes.

use std::sync::atomic::{AtomicU8, Ordering};

use handoff::Share;

/// What this process does with its listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Posture {
    /// Ready, never accepted yet.
    #[default]
    Standby,
    Accepting,
    /// Stopped accepting, may begin again.
    Paused,
    /// Stopped accepting for good.
    Draining,
}

impl Posture {
    const ALL: [Self; 4] = [Self::Standby, Self::Accepting, Self::Paused, Self::Draining];

    /// What accepting on this share is called; [`Posture::Paused`] when it is none.
    pub fn of(share: Share) -> Self {
        if share.is_none() {
            Self::Paused
        } else {
            Self::Accepting
        }
    }

    /// The word for it in admin answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Accepting => "accepting",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

/// The posture of this process now; begins with [`Posture::Standby`].
#[derive(Debug, Default)]
pub struct PostureCell(AtomicU8);

impl PostureCell {
    /// What it is now.
    pub fn get(&self) -> Posture {
        let number = usize::from(self.0.load(Ordering::Relaxed));
        Posture::ALL.get(number).copied().unwrap_or_default()
    }

    /// From now on.
    pub fn set(&self, posture: Posture) {
        self.0.store(posture as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Posture, PostureCell};

    #[test]
    fn what_was_set_is_read_and_the_first_is_standby() {
        let cell = PostureCell::default();
        assert_eq!(cell.get(), Posture::Standby);
        for posture in Posture::ALL {
            cell.set(posture);
            assert_eq!(cell.get(), posture, "{}", posture.as_str());
        }
    }
}
