//! One direction between two real socket pairs, turn by turn, with the flags that epoll would have set.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::{Bench, SCRATCH_SIZE, discard, pump};
use crate::connection::Side;
use crate::connection::flow::{Flow, Mode, Source};
use crate::pipes::Pipes;
use crate::totals::{Counters, Totals};

/// client ⇄ `from` → flow → `to` ⇄ backend
struct Stand {
    client: TcpStream,
    from: Side,
    to: Side,
    backend: TcpStream,
    flow: Flow,
    bench: Bench,
}

fn pair() -> (TcpStream, Side) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (far, Side::new(near.into(), true))
}

fn stand() -> Stand {
    let ((client, from), (backend, to)) = (pair(), pair());
    let counters = Arc::new(Counters::default());
    let scratch = vec![0; SCRATCH_SIZE].into_boxed_slice();
    let bench = Bench {
        scratch,
        pipes: Pipes::for_one_of(1),
        counters,
    };
    Stand {
        client,
        from,
        to,
        backend,
        flow: Flow::new(),
        bench,
    }
}

impl Stand {
    /// A turn after an edge of the source; loopback delivers before a write returns.
    fn turn_with_edge(&mut self) -> super::Turn {
        self.from.readable = true;
        self.turn()
    }

    fn turn(&mut self) -> super::Turn {
        pump(
            &mut self.flow,
            &mut self.from,
            &mut self.to,
            &mut self.bench,
        )
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::zero();
        self.bench.counters.add_to(&mut totals);
        totals
    }

    /// Sends until the destination is full and the source has more.
    fn stuff(&mut self) {
        self.client.set_nonblocking(true).unwrap();
        let block = vec![5; 256 * 1024];
        loop {
            let wrote = self.client.write(&block).is_ok();
            let turn = self.turn_with_edge();
            if !wrote && !turn.moved && !self.to.writable {
                return;
            }
        }
    }
}

#[test]
fn a_short_read_ends_reading_until_the_next_edge() {
    let mut stand = stand();
    stand.client.write_all(b"request").unwrap();
    let turn = stand.turn_with_edge();
    assert!(turn.moved && !turn.more);
    assert!(
        !stand.from.readable,
        "a further read would only say would-block"
    );
    let mut got = [0; 7];
    stand.backend.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"request");
    assert_eq!(stand.flow.held(), 0);
}

#[test]
fn after_a_hang_up_reading_goes_on_to_the_end_of_file() {
    let mut stand = stand();
    stand.client.write_all(b"last words").unwrap();
    stand.client.shutdown(Shutdown::Write).unwrap();
    stand.from.hung_up = true;
    stand.turn_with_edge();
    assert_eq!(stand.flow.source, Source::Ended);
    assert!(stand.flow.is_over());
    stand.backend.read_exact(&mut [0; 10]).unwrap();
}

#[test]
fn a_direction_that_holds_bytes_does_not_read() {
    let mut stand = stand();
    stand.stuff();
    let held = stand.flow.held();
    assert!(held > 0 && !stand.to.writable);
    assert_eq!(stand.totals().bytes_pending, held as u64);
    let turn = stand.turn_with_edge();
    assert!(!turn.moved && !turn.more);
    assert_eq!(stand.flow.held(), held);
}

#[test]
fn bulk_is_spliced_and_a_trickle_is_copied_again() {
    let mut stand = stand();
    stand.stuff();
    assert_eq!(stand.flow.mode, Mode::Splice);
    assert_eq!(stand.totals().pipes_lent, 1);
    // The backend takes everything, until the source is dry.
    stand.backend.set_nonblocking(true).unwrap();
    let mut sink = vec![0; 1024 * 1024];
    while stand.flow.held() > 0 || stand.from.readable || !stand.to.writable {
        while stand.backend.read(&mut sink).is_ok() {}
        stand.to.writable = true;
        stand.turn();
    }
    assert!(stand.totals().bytes_spliced > 0);
    assert_eq!(
        (stand.totals().pipes_lent, stand.totals().bytes_pending),
        (0, 0)
    );
    stand.client.write_all(b"a trickle").unwrap();
    stand.turn_with_edge();
    assert_eq!(stand.flow.mode, Mode::Copy { filled: 0 });
}

#[test]
fn without_a_pipe_bulk_is_copied() {
    let mut stand = stand();
    let lent: Vec<_> = std::iter::from_fn(|| stand.bench.pipes.take()).collect();
    stand.stuff();
    assert!(stand.flow.bytes > 2 * SCRATCH_SIZE as u64);
    assert!(stand.flow.held() <= SCRATCH_SIZE);
    assert_eq!(stand.totals().bytes_spliced, 0);
    drop(lent);
}

#[test]
fn a_turn_is_bounded_and_says_that_there_is_more() {
    let mut stand = stand();
    stand.client.set_nonblocking(true).unwrap();
    let block = vec![5; 256 * 1024];
    while stand.client.write(&block).is_ok() {}
    // Nobody reads at the other end, but its kernel takes more than a turn may move.
    let turn = stand.turn_with_edge();
    assert!(turn.more || !stand.to.writable);
    assert!(stand.flow.bytes <= super::BYTES_PER_TURN + 512 * 1024);
}

#[test]
fn a_destination_that_is_gone_breaks_the_flow_and_frees_what_it_held() {
    let mut stand = stand();
    stand.stuff();
    socket2::SockRef::from(&stand.backend)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stand.backend.try_clone().unwrap());
    let Stand {
        backend,
        mut flow,
        mut from,
        mut to,
        mut bench,
        client,
    } = stand;
    drop(backend);
    to.writable = true;
    pump(&mut flow, &mut from, &mut to, &mut bench);
    assert!(flow.broken && flow.is_over());
    assert!(
        to.failed && to.readable && to.hung_up,
        "its last words are read without waiting for an edge"
    );
    assert_eq!(flow.held(), 0);
    discard(&mut flow, &mut bench);
    drop(client);
    let mut totals = Totals::zero();
    bench.counters.add_to(&mut totals);
    assert_eq!((totals.bytes_pending, totals.pipes_lent), (0, 0));
}

#[test]
fn a_source_that_is_reset_is_told_from_one_that_ends() {
    let mut stand = stand();
    let Stand { client, .. } = stand;
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    stand.from.readable = true;
    pump(
        &mut stand.flow,
        &mut stand.from,
        &mut stand.to,
        &mut stand.bench,
    );
    assert_eq!(stand.flow.source, Source::Reset);
}
