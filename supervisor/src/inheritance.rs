//! What the predecessor in this process left behind, sorted.
//!
//! Holds  an inheritance that is not whole is none: this supervisor then begins as after a crash, and the workers
//!        return to it by themselves.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use handoff::Listeners;

use crate::carried::{Carried, Descriptor};
use crate::doors::Given;
use crate::image::ADOPT_VARIABLE;
use crate::parcel;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    pub(crate) carried: Option<Box<Carried>>,
    pub(crate) given: Given,
    pub(crate) listeners: Listeners,
    /// Notify sockets of level 1 programs by generation.
    pub(crate) ears: BTreeMap<u64, OwnedFd>,
}

impl Inheritance {
    /// Looks whether there is one; to be called before the process has a second thread.
    pub(crate) fn take(name: &str) -> Self {
        if std::env::var_os(ADOPT_VARIABLE).is_none() {
            return Self::default();
        }
        Self::unpack(name).unwrap_or_else(|error| {
            tracing::error!(
                "the predecessor's state is lost ({error}); beginning as after a crash"
            );
            Self::default()
        })
    }

    fn unpack(name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let channel = parcel::take_stdin()?;
        let (state, descriptors) = parcel::unpack(&channel)?;
        let carried = Carried::parse(&state, name)?;
        if carried.descriptors.len() != descriptors.len() {
            return Err("the state names other descriptors than there are".into());
        }
        let mut inheritance = Self::default();
        for (text, descriptor) in carried.descriptors.iter().zip(descriptors) {
            inheritance.sort(Descriptor::parse(text), descriptor);
        }
        inheritance.carried = Some(Box::new(carried));
        Ok(inheritance)
    }

    fn sort(&mut self, kind: Descriptor, descriptor: OwnedFd) {
        match kind {
            Descriptor::Lock => self.given.lock = Some(descriptor),
            Descriptor::Control => self.given.control = Some(descriptor),
            Descriptor::Rendezvous => self.given.rendezvous = Some(descriptor),
            Descriptor::Notify(generation) => {
                self.ears.insert(generation, descriptor);
            }
            Descriptor::Listener(name) => self.listeners.push(name, descriptor),
            Descriptor::Unknown => {}
        }
    }
}
