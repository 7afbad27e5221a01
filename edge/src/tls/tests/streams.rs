//! Bytes through `TlsStream`: all of them, in order, whatever the sockets do; and how it ends.

use std::io;
use std::task::{Context, Poll, Waker};

use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::{Authority, established, server, shake_over, sockets, within};
use crate::tls::TlsStream;

async fn pair() -> (TlsStream, TlsStream) {
    let authority = Authority::new();
    established(&authority.client(), &server(&authority.listener())).await
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8], piece: usize) {
    for bytes in bytes.chunks(piece) {
        stream.write_all(bytes).await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

async fn receive(stream: &mut (impl AsyncRead + Unpin), piece: usize) -> Vec<u8> {
    let (mut all, mut room) = (Vec::new(), vec![0; piece]);
    loop {
        match stream.read(&mut room).await.unwrap() {
            0 => return all,
            count => all.extend_from_slice(&room[..count]),
        }
    }
}

#[tokio::test]
async fn both_directions_at_once_lose_nothing_through_small_sockets() {
    let authority = Authority::new();
    let mut tls = authority.listener();
    let bytes = pattern(1024 * 1024);
    for (tls12, write, read) in [
        (false, 1024 * 1024, 64 * 1024),
        (false, 100_000, 1000),
        (true, 16 * 1024, 16 * 1024),
        (false, 3000, 100_000),
    ] {
        tls.tls12 = tls12;
        let ends = sockets(true).await;
        let (near, far) = shake_over(ends, &authority.client(), &server(&tls), "localhost").await;
        let (mut near_in, mut near_out) = tokio::io::split(near.unwrap());
        let (mut far_in, mut far_out) = tokio::io::split(far.unwrap());
        let all = async {
            tokio::join!(
                send(&mut near_out, &bytes, write),
                send(&mut far_out, &bytes, write),
                receive(&mut near_in, read),
                receive(&mut far_in, read),
            )
        };
        let ((), (), at_near, at_far) = within(all).await;
        assert!(at_near == bytes && at_far == bytes, "{write} {read}");
    }
}

/// The halves in tasks of their own: a reader must not take the writer's place in the queue for the socket.
#[tokio::test]
async fn halves_in_tasks_of_their_own_do_not_lose_each_others_wakeups() {
    let authority = Authority::new();
    let ends = sockets(true).await;
    let server = server(&authority.listener());
    let (near, far) = shake_over(ends, &authority.client(), &server, "localhost").await;
    let bytes = pattern(1024 * 1024);
    let mut tasks = Vec::new();
    for stream in [near.unwrap(), far.unwrap()] {
        let (mut input, mut output) = tokio::io::split(stream);
        let (sent, expected) = (bytes.clone(), bytes.clone());
        tasks.push(tokio::spawn(async move {
            send(&mut output, &sent, 50_000).await
        }));
        tasks.push(tokio::spawn(async move {
            assert!(receive(&mut input, 7000).await == expected);
        }));
    }
    for task in tasks {
        within(task).await.unwrap();
    }
}

#[tokio::test]
async fn a_writer_waits_when_64_kib_wait() {
    let authority = Authority::new();
    let ends = sockets(true).await;
    let server = server(&authority.listener());
    let (near, far) = shake_over(ends, &authority.client(), &server, "localhost").await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    let mut cx = Context::from_waker(Waker::noop());
    let mut taken = 0;
    while let Poll::Ready(count) = std::pin::Pin::new(&mut near).poll_write(&mut cx, &[7; 10_000]) {
        taken += count.unwrap();
        assert!(taken < 1024 * 1024, "nobody reads, and everything is taken");
    }
    assert!(taken >= 64 * 1024, "{taken}");
    assert!(!near.is_idle());
    let mut got = vec![0; taken];
    let (flushed, read) =
        within(async { tokio::join!(near.flush(), far.read_exact(&mut got)) }).await;
    flushed.unwrap();
    read.unwrap();
    assert!(got.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn several_slices_leave_in_one_record() {
    let (mut near, far) = pair().await;
    assert!(near.is_write_vectored());
    let slices = [&b"head"[..], b"", b"body"].map(io::IoSlice::new);
    assert_eq!(within(near.write_vectored(&slices)).await.unwrap(), 8);
    let (mut connection, mut tcp) = far.into_parts();
    let mut record = [0; 100];
    let count = within(tcp.read(&mut record)).await.unwrap();
    // Header, both slices, the type and the tag: no second header.
    assert_eq!(count, 5 + 8 + 1 + 16);
    connection.read_tls(&mut &record[..count]).unwrap();
    assert_eq!(
        connection
            .process_new_packets()
            .unwrap()
            .plaintext_bytes_to_read(),
        8
    );
}

#[tokio::test]
async fn an_end_without_close_notify_is_no_clean_end() {
    for version in [&TLS12, &TLS13] {
        let authority = Authority::new();
        let mut tls = authority.listener();
        tls.tls12 = version.version == TLS12.version;
        for clean in [true, false] {
            let mut open = None;
            let (mut near, mut far) = established(&authority.client(), &server(&tls)).await;
            within(near.write_all(b"last words")).await.unwrap();
            if clean {
                within(near.shutdown()).await.unwrap();
            } else {
                // The socket's end alone. Closing it instead would reset it: there are tickets to be read.
                let (_connection, mut tcp) = near.into_parts();
                within(tcp.shutdown()).await.unwrap();
                open = Some(tcp);
            }
            let mut got = Vec::new();
            let ended = within(far.read_to_end(&mut got)).await;
            // What came before the end is there either way.
            assert_eq!(got, b"last words");
            let ended = ended.map_err(|error| error.kind());
            let expected = if clean {
                Ok(10)
            } else {
                Err(io::ErrorKind::UnexpectedEof)
            };
            assert_eq!(ended, expected);
            // And so it stays.
            let again = within(far.read(&mut [0; 8]))
                .await
                .map_err(|error| error.kind());
            assert_eq!(again, expected.map(|_| 0));
            assert!(!far.is_idle());
            drop(open);
        }
    }
}

#[tokio::test]
async fn after_our_close_notify_the_other_direction_goes_on() {
    let (mut near, mut far) = pair().await;
    within(near.shutdown()).await.unwrap();
    assert_eq!(within(far.read(&mut [0; 8])).await.unwrap(), 0);
    within(far.write_all(b"answer")).await.unwrap();
    within(far.shutdown()).await.unwrap();
    let mut got = Vec::new();
    within(near.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"answer");
    let late = within(near.write(b"late")).await.unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn readable_means_that_a_read_does_not_wait() {
    let (mut near, mut far) = pair().await;
    let mut cx = Context::from_waker(Waker::noop());
    // The server's tickets are in the client's socket: nothing to read for anybody.
    within(near.tcp().readable()).await.unwrap();
    assert!(near.poll_readable(&mut cx).is_pending());
    assert!(near.is_idle());
    within(far.write_all(b"abc")).await.unwrap();
    within(std::future::poll_fn(|cx| near.poll_readable(cx)))
        .await
        .unwrap();
    let mut one = [0; 1];
    for expected in b"abc" {
        // Plain bytes that are here already, whatever the socket says.
        assert!(near.poll_readable(&mut cx).is_ready());
        assert!(!near.is_idle());
        let mut room = ReadBuf::new(&mut one);
        assert!(
            std::pin::Pin::new(&mut near)
                .poll_read(&mut cx, &mut room)
                .is_ready()
        );
        assert_eq!(room.filled(), [*expected]);
    }
    assert!(near.poll_readable(&mut cx).is_pending());
    assert!(near.is_idle());
    // A close_notify alone, without the socket's end.
    let (mut connection, mut tcp) = far.into_parts();
    connection.send_close_notify();
    let mut alert = Vec::new();
    connection.write_tls(&mut alert).unwrap();
    within(tcp.write_all(&alert)).await.unwrap();
    within(std::future::poll_fn(|cx| near.poll_readable(cx)))
        .await
        .unwrap();
    assert!(near.poll_readable(&mut cx).is_ready(), "and it stays so");
    assert_eq!(within(near.read(&mut one)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_reader_that_waits_is_woken() {
    let (mut near, mut far) = pair().await;
    let reading = tokio::spawn(async move {
        std::future::poll_fn(|cx| near.poll_readable(cx))
            .await
            .unwrap();
        let mut got = [0; 5];
        near.read_exact(&mut got).await.unwrap();
        got
    });
    within(far.write_all(b"hello")).await.unwrap();
    assert_eq!(&within(reading).await.unwrap(), b"hello");
}

#[tokio::test]
async fn what_is_no_record_is_an_error_once_and_an_end_from_then_on() {
    let (near, mut far) = pair().await;
    let (_connection, mut tcp) = near.into_parts();
    let mut forged = vec![23, 3, 3, 0, 32];
    forged.resize(37, 0);
    within(tcp.write_all(&forged)).await.unwrap();
    let error = within(far.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    // The peer is still there and says nothing: a second read must not wait for it.
    let error = within(far.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(within(far.write(b"x")).await.is_err());
    // The alert has left (RFC 8446, section 6.2).
    let mut alert = [0; 100];
    assert!(within(tcp.read(&mut alert)).await.unwrap() > 0);
}

#[tokio::test]
async fn a_key_update_is_answered_and_bytes_go_on() {
    let (near, mut far) = pair().await;
    let (mut connection, mut tcp) = near.into_parts();
    connection.refresh_traffic_keys().unwrap();
    io::Write::write_all(&mut connection.writer(), b"after").unwrap();
    let mut records = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut records).unwrap();
    }
    within(tcp.write_all(&records)).await.unwrap();
    let mut got = [0; 5];
    within(far.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"after");
    // rustls sends its own key update with its next record.
    within(far.write_all(b"answer")).await.unwrap();
    let mut plain = Vec::new();
    while plain.len() < 6 {
        let mut room = [0; 4096];
        let count = within(tcp.read(&mut room)).await.unwrap();
        connection.read_tls(&mut &room[..count]).unwrap();
        connection.process_new_packets().unwrap();
        let mut part = [0; 64];
        if let Ok(count) = io::Read::read(&mut connection.reader(), &mut part) {
            plain.extend_from_slice(&part[..count]);
        }
    }
    assert_eq!(plain, b"answer");
}
