//! A service's state on its way from one generation to the next: bytes in memory that nobody can change any
//! more, passed as one descriptor.
//!
//! Room  makes, checks and reads sealed memory (memfd_create(2)); what the bytes mean is the service's business.
//! In    bytes; or what a peer sent: a declared length and descriptors.
//! Holds what is read has exactly the declared length and cannot change or shrink while it is read; nothing
//!       of it ever has a name in a file system.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FileType, MemfdFlags, SealFlags};
use rustix::io::Errno;

/// Longest state, in bytes. Sized: a million rate-limit buckets of 64 bytes.
pub const STATE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a state is not passed on.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    #[error("the state came with {0} descriptors instead of one")]
    Count(usize),
    #[error("the state's descriptor is no memory file")]
    NotMemory,
    #[error("the state's memory is not sealed against changes")]
    NotSealed,
    #[error("the state was declared with {declared} bytes and has {real}")]
    Length { declared: u64, real: u64 },
    #[error("a state of {0} bytes is too long (at most {STATE_BYTES_MAX})")]
    TooLong(u64),
    #[error("memory for the state: {0}")]
    Io(#[from] io::Error),
}

/// Sealed memory of a known length; never empty.
#[derive(Debug)]
pub struct Sealed {
    memory: OwnedFd,
    bytes: u64,
}

impl Sealed {
    /// Copies `bytes` into sealed memory.
    ///
    /// # Errors
    /// [`SealedError::TooLong`], or the host has no memory or descriptor left.
    pub fn seal(bytes: &[u8]) -> Result<Self, SealedError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if bytes.len() > STATE_BYTES_MAX {
            return Err(SealedError::TooLong(length));
        }
        let mut memory = File::from(memory()?);
        memory.write_all(bytes)?;
        rustix::fs::fcntl_add_seals(&memory, SEALS).map_err(io::Error::from)?;
        Ok(Self {
            memory: memory.into(),
            bytes: length,
        })
    }

    /// Takes what a peer sent; believes nothing of it.
    ///
    /// # Errors
    /// See [`SealedError`]; the descriptors are closed, nobody else is hurt.
    pub fn adopt(declared: u64, descriptors: Vec<OwnedFd>) -> Result<Self, SealedError> {
        let [memory] = <[OwnedFd; 1]>::try_from(descriptors)
            .map_err(|descriptors| SealedError::Count(descriptors.len()))?;
        if usize::try_from(declared).map_or(true, |bytes| bytes > STATE_BYTES_MAX) {
            return Err(SealedError::TooLong(declared));
        }
        let status = rustix::fs::fstat(&memory).map_err(io::Error::from)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(SealedError::NotMemory);
        }
        // EINVAL: a file system without seals, so a file with a name.
        let seals = rustix::fs::fcntl_get_seals(&memory).map_err(|_| SealedError::NotMemory)?;
        if !seals.contains(SEALS) {
            return Err(SealedError::NotSealed);
        }
        let real = u64::try_from(status.st_size).unwrap_or_default();
        if real != declared {
            return Err(SealedError::Length { declared, real });
        }
        Ok(Self {
            memory,
            bytes: declared,
        })
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A copy of the bytes.
    ///
    /// # Errors
    /// The host has no memory.
    pub fn read(self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.bytes).unwrap_or_default()];
        File::from(self.memory).read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

impl From<Sealed> for OwnedFd {
    fn from(sealed: Sealed) -> Self {
        sealed.memory
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

/// Nobody writes, nobody changes the length, nobody takes these seals away.
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

fn memory() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Hosts may demand memory that cannot be executed (vm.memfd_noexec=2); Linux before 6.3 does not know it.
    match rustix::fs::memfd_create("zeitwork-state", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => Ok(rustix::fs::memfd_create("zeitwork-state", flags)?),
        made => Ok(made?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::OwnedFd;

    use rustix::fs::{MemfdFlags, SealFlags};

    use super::{STATE_BYTES_MAX, Sealed, SealedError};

    fn memory(bytes: &[u8], seals: SealFlags) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut memory = File::from(rustix::fs::memfd_create("test", flags).expect("memory"));
        memory.write_all(bytes).expect("written");
        rustix::fs::fcntl_add_seals(&memory, seals).expect("sealed");
        memory.into()
    }

    #[test]
    fn what_is_sealed_arrives_and_cannot_be_changed() {
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let sealed = Sealed::seal(&bytes).expect("seals");
        let descriptor = OwnedFd::from(File::from(sealed.memory.try_clone().expect("duplicates")));
        let mut writer = File::from(descriptor.try_clone().expect("duplicates"));
        writer.write_all(b"x").expect_err("is sealed");
        writer.set_len(5).expect_err("is sealed");
        let adopted = Sealed::adopt(sealed.bytes(), vec![descriptor]).expect("is right");
        assert_eq!(adopted.read().expect("reads"), bytes);
    }

    #[test]
    fn what_is_not_one_sealed_memory_of_the_declared_length_is_refused() {
        let whole = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        let good = || memory(b"12345", whole);
        assert!(Sealed::adopt(5, vec![good()]).is_ok());
        let refused = |declared, descriptors| {
            Sealed::adopt(declared, descriptors).expect_err("is to be refused")
        };
        assert!(matches!(refused(5, vec![]), SealedError::Count(0)));
        assert!(matches!(
            refused(5, vec![good(), good()]),
            SealedError::Count(2)
        ));
        for declared in [0, 4, 6] {
            assert!(matches!(
                refused(declared, vec![good()]),
                SealedError::Length { real: 5, .. }
            ));
        }
        let too_long = u64::try_from(STATE_BYTES_MAX).expect("fits") + 1;
        assert!(matches!(
            refused(too_long, vec![good()]),
            SealedError::TooLong(_)
        ));
        for missing in [
            SealFlags::WRITE,
            SealFlags::GROW,
            SealFlags::SHRINK,
            SealFlags::SEAL,
        ] {
            let open = memory(b"12345", whole - missing);
            assert!(
                matches!(refused(5, vec![open]), SealedError::NotSealed),
                "{missing:?}"
            );
        }
        let file = File::open("/proc/self/exe").expect("a file");
        assert!(matches!(
            refused(5, vec![file.into()]),
            SealedError::NotMemory
        ));
        let pipe = rustix::pipe::pipe().expect("a pipe").0;
        assert!(matches!(refused(5, vec![pipe]), SealedError::NotMemory));
    }

    #[test]
    fn a_state_that_is_too_long_is_not_sealed() {
        let long = vec![0; STATE_BYTES_MAX + 1];
        assert!(matches!(Sealed::seal(&long), Err(SealedError::TooLong(_))));
    }
}
