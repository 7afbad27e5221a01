//! A listener that misbehaves on purpose.
//!
//! Room  one accept loop, one behaviour per connection.
//! In    a behaviour for each connection, by its number.
//! Out   an address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

/// What becomes of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Echoes to the end.
    Good,
    /// Throws the connection away after echoing so many bytes.
    ResetAfter(usize),
    /// Ends politely after echoing so many bytes.
    EndAfter(usize),
    /// Echoes, with the byte at this position changed.
    ChangeByte(usize),
    /// Echoes, then says one byte more than it was told.
    OneMore,
    /// Reads and says nothing.
    Mute,
    /// Echoes, and does not end when the client has ended.
    NeverEnds,
    /// Echoes one byte now and then.
    Slow(Duration),
    /// Echoes, but not until this moment.
    StallUntil(Instant),
    /// Reads one request's head and answers with exactly these bytes, again and again.
    Answer(&'static str),
    /// Like `Answer`, once; then ends politely.
    AnswerOnce(&'static str),
    /// Reads to the end, says nothing, ends.
    Discard,
}

/// A running listener; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Faulty {
    /// Every connection behaves like this.
    pub(crate) async fn always(behaviour: Behaviour) -> Self {
        Self::start(move |_| behaviour.clone()).await
    }

    /// The `n`th connection behaves as `behaviour(n)`.
    pub(crate) async fn start(
        behaviour: impl Fn(usize) -> Behaviour + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behaviour = Arc::new(behaviour);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let behaviour = behaviour(number);
                connections.spawn(async move { behave(stream, behaviour).await });
            }
        });
        Self {
            address,
            _tasks: tasks,
        }
    }
}

/// Errors end the connection: that is what a faulty listener is for.
async fn behave(mut stream: TcpStream, behaviour: Behaviour) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    match behaviour {
        Behaviour::Good => echo(&mut stream, usize::MAX, |_, _| {}).await?,
        Behaviour::ResetAfter(bytes) => {
            echo(&mut stream, bytes, |_, _| {}).await?;
            socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .ok()?;
            return Some(());
        }
        Behaviour::EndAfter(bytes) => {
            echo(&mut stream, bytes, |_, _| {}).await?;
            stream.shutdown().await.ok()?;
            // Closing with unread bytes would be a reset: this one ends politely.
            return swallow(&mut stream).await;
        }
        Behaviour::ChangeByte(wrong) => {
            let change = |at: usize, bytes: &mut [u8]| {
                if let Some(byte) = wrong.checked_sub(at).and_then(|index| bytes.get_mut(index)) {
                    *byte ^= 1;
                }
            };
            echo(&mut stream, usize::MAX, change).await?;
        }
        Behaviour::OneMore => {
            echo(&mut stream, usize::MAX, |_, _| {}).await?;
            stream.write_all(b"x").await.ok()?;
        }
        Behaviour::Mute => {
            swallow(&mut stream).await?;
            return std::future::pending().await;
        }
        Behaviour::NeverEnds => {
            echo(&mut stream, usize::MAX, |_, _| {}).await?;
            return std::future::pending().await;
        }
        Behaviour::Slow(pause) => loop {
            let byte = stream.read_u8().await.ok()?;
            sleep(pause).await;
            stream.write_u8(byte).await.ok()?;
        },
        Behaviour::StallUntil(moment) => {
            sleep_until(moment.into()).await;
            echo(&mut stream, usize::MAX, |_, _| {}).await?;
        }
        Behaviour::Answer(text) => loop {
            read_head(&mut stream).await?;
            stream.write_all(text.as_bytes()).await.ok()?;
        },
        Behaviour::AnswerOnce(text) => {
            read_head(&mut stream).await?;
            stream.write_all(text.as_bytes()).await.ok()?;
        }
        Behaviour::Discard => swallow(&mut stream).await?,
    }
    stream.shutdown().await.ok()?;
    swallow(&mut stream).await
}

/// Echoes at most `limit` bytes, each block first given to `change` with its position.
async fn echo(
    stream: &mut TcpStream,
    limit: usize,
    change: impl Fn(usize, &mut [u8]),
) -> Option<()> {
    let mut buffer = [0; 4_096];
    let mut at = 0;
    while at < limit {
        let length = stream.read(&mut buffer).await.ok()?.min(limit - at);
        if length == 0 {
            break;
        }
        change(at, &mut buffer[..length]);
        stream.write_all(&buffer[..length]).await.ok()?;
        at += length;
    }
    Some(())
}

async fn swallow(stream: &mut TcpStream) -> Option<()> {
    let mut buffer = [0; 4_096];
    while stream.read(&mut buffer).await.ok()? > 0 {}
    Some(())
}

async fn read_head(stream: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(())
}
