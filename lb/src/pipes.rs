//! The pipes of one shard, through which bulk bytes pass from socket to socket without being copied.
//!
//! Room  a capped store of pipes. What goes through them is `relay`'s matter.
//! In    a direction that moves bulk asks for a pipe.
//! Out   a pipe, or none when all are lent or the kernel gives none: the direction then copies.
//! Holds a pipe in the store is empty; one that is given back with bytes in it is closed instead.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

/// Pipes of all shards of a process together.
///
/// Covers: two descriptors and up to [`PIPE_SIZE`] bytes each. Sized: 96 x 256 KiB = 24 MiB, so that two
/// generations of this process and others of the same user stay below the kernel's soft limit of 64 MiB
/// for a user's pipes (`fs.pipe-user-pages-soft`), beyond which every new pipe has two pages.
const PIPES_PER_PROCESS: usize = 96;

/// What a pipe should hold, in bytes. Sized: four times the kernel's default, so that a full pipe is worth
/// its two system calls.
const PIPE_SIZE: usize = 256 * 1024;

/// A pipe that holds less than this, in bytes, is slower than copying: the user is over the kernel's limit.
const PIPE_SIZE_MIN: usize = 64 * 1024;

/// Requests that are answered "none" without asking the kernel, after it refused a pipe. Sized: asking costs
/// five system calls; a shortage of descriptors passes, so it is asked again.
const REQUESTS_AFTER_REFUSAL: u32 = 1000;

/// One pipe and how much is in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    read_end: OwnedFd,
    write_end: OwnedFd,
    size: usize,
    /// Bytes that came in and did not go out yet.
    held: usize,
}

impl Pipe {
    fn open() -> Option<Self> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Refused when the user is over the kernel's soft limit: the default size may still do.
        let _ = fcntl_setpipe_size(&write_end, PIPE_SIZE);
        let size = fcntl_getpipe_size(&write_end).ok()?;
        (size >= PIPE_SIZE_MIN).then_some(Self {
            read_end,
            write_end,
            size,
            held: 0,
        })
    }

    /// A pipe of another process with so many bytes in it.
    ///
    /// # Errors
    /// It is no pipe, or holds something else.
    pub(crate) fn arrived(
        read_end: OwnedFd,
        write_end: OwnedFd,
        held: u64,
    ) -> Result<Self, String> {
        let is_pipe = |end: &OwnedFd| {
            let status = rustix::fs::fstat(end);
            status.is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Fifo)
        };
        if !is_pipe(&read_end) || !is_pipe(&write_end) {
            return Err("a descriptor is no pipe".to_owned());
        }
        let size = fcntl_getpipe_size(&write_end)
            .map_err(|errno| format!("its pipe has no size: {errno}"))?;
        let really = rustix::io::ioctl_fionread(&read_end)
            .map_err(|errno| format!("its pipe cannot be read: {errno}"))?;
        if really != held {
            return Err(format!(
                "its pipe holds {really} bytes, its record says {held}"
            ));
        }
        Ok(Self {
            read_end,
            write_end,
            size,
            held: usize::try_from(held).unwrap_or(usize::MAX),
        })
    }

    /// Both ends: first the one that is read.
    pub(crate) fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.read_end.as_fd(), self.write_end.as_fd()]
    }

    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Moves what fits from the socket into the pipe. 0 is the socket's end of file.
    ///
    /// Call it only when the pipe is empty: then "would block" can only mean that the socket has nothing.
    pub(crate) fn fill(&mut self, from: &OwnedFd) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let count = rustix::io::retry_on_intr(|| {
            splice(from, None, &self.write_end, None, self.size, flags)
        })?;
        self.held += count;
        Ok(count)
    }

    /// Moves what fits from the pipe to the socket.
    ///
    /// Call it only when the pipe holds bytes: then "would block" can only mean that the socket is full.
    pub(crate) fn empty_into(&mut self, to: &OwnedFd) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let count =
            rustix::io::retry_on_intr(|| splice(&self.read_end, None, to, None, self.held, flags))?;
        self.held = self.held.saturating_sub(count);
        Ok(count)
    }
}

/// The pipes that one shard may lend.
#[derive(Debug)]
pub(crate) struct Pipes {
    idle: Vec<Pipe>,
    lent: usize,
    limit: usize,
    /// Requests still to be answered without asking the kernel.
    hopeless: u32,
}

impl Pipes {
    /// A store for one of so many shards. Pipes are opened when first needed.
    pub(crate) fn for_one_of(shards: usize) -> Self {
        Self {
            idle: Vec::new(),
            lent: 0,
            limit: (PIPES_PER_PROCESS / shards.max(1)).max(2),
            hopeless: 0,
        }
    }

    /// Lends an empty pipe.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        let pipe = match self.idle.pop() {
            Some(pipe) => pipe,
            None if self.lent < self.limit => self.open()?,
            None => return None,
        };
        self.lent += 1;
        Some(pipe)
    }

    fn open(&mut self) -> Option<Pipe> {
        if self.hopeless > 0 {
            self.hopeless -= 1;
            return None;
        }
        let pipe = Pipe::open();
        if pipe.is_none() {
            self.hopeless = REQUESTS_AFTER_REFUSAL;
        }
        pipe
    }

    /// A direction came with a pipe of its own; it counts as lent, above the limit if it must.
    pub(crate) fn note_arrived(&mut self) {
        self.lent += 1;
    }

    /// Takes a pipe back; it is closed when bytes are left in it, which belong to nobody else.
    pub(crate) fn give_back(&mut self, pipe: Pipe) {
        self.lent = self.lent.saturating_sub(1);
        // More than the limit are there only where some came from another process.
        if pipe.held == 0 && self.lent + self.idle.len() < self.limit {
            self.idle.push(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PIPES_PER_PROCESS, Pipes};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_store_lends_no_more_than_its_share() {
        let mut pipes = Pipes::for_one_of(PIPES_PER_PROCESS / 4);
        let lent: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(lent.len(), 4);
        lent.into_iter().for_each(|pipe| pipes.give_back(pipe));
        assert_eq!(std::iter::from_fn(|| pipes.take()).count(), 4);
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_never_lent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        near.write_all(b"someone's secret").unwrap();
        let mut pipes = Pipes::for_one_of(1);
        let mut pipe = pipes.take().unwrap();
        pipe.fill(&far.into()).unwrap();
        assert_eq!(pipe.held(), 16);
        pipes.give_back(pipe);
        assert_eq!(pipes.take().unwrap().held(), 0);
    }
}
