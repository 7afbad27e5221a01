//! Loads over TLS: what is good stays good, what is lost is seen, and whom to trust is a choice.
//!
//! Room  a TLS listener in this process that gives one behaviour to every connection.
//! Out   one test per promise.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bench::certificates::Certificates;
use bench::ledger::Class;
use bench::load::{IdleClose, Load, Shape, StartLoadError};
use bench::target::Target;
use bench::trust::Trust;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::{expect_loss, run_until};

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const SHORT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok";
const WRONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nnot the pattern!";

/// What the listener does on each connection.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    /// Answers everything.
    Answer(&'static str),
    /// Answers once, then throws the connection away.
    AnswerThenReset(&'static str),
    /// Answers so many requests, reads one more, and throws the connection away without a byte.
    AnswerThenSilence(usize),
}

struct Server {
    address: SocketAddr,
    directory: TempDir,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(behaviour: Behaviour) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = Certificates::write(directory.path(), &["localhost"]).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&files)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(behave(acceptor.clone(), stream, behaviour));
            }
        });
        Self {
            address,
            directory,
            _tasks: tasks,
        }
    }

    fn load(&self, shape: Shape, path: &str) -> Load {
        let target = Target::https(self.address, "localhost", path);
        Load {
            trust: Some(Trust::authority(&self.directory.path().join("authority.crt")).unwrap()),
            pause: Duration::from_millis(2),
            idle_close: IdleClose::Allowed,
            ..Load::new(target, shape, 2)
        }
    }
}

fn server_config(files: &Certificates) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap()
}

/// Errors end the connection: a client may leave at any time.
async fn behave(acceptor: TlsAcceptor, stream: TcpStream, behaviour: Behaviour) {
    let _ = try_behave(acceptor, stream, behaviour).await;
}

async fn try_behave(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    behaviour: Behaviour,
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let (answer, count, is_reset) = match behaviour {
        Behaviour::Answer(text) => (text, usize::MAX, false),
        Behaviour::AnswerThenReset(text) => (text, 1, true),
        Behaviour::AnswerThenSilence(count) => (GOOD, count, true),
    };
    for _ in 0..count {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                return stream.shutdown().await;
            };
            head.push(byte);
        }
        let is_last = head.windows(17).any(|part| part == b"Connection: close");
        let text = if is_last && answer == GOOD {
            LAST
        } else {
            answer
        };
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await?;
        if text.contains("Connection: close") {
            return stream.shutdown().await;
        }
    }
    if matches!(behaviour, Behaviour::AnswerThenSilence(_)) {
        stream.read_u8().await?;
    }
    if is_reset {
        let socket = socket2::SockRef::from(stream.get_ref().0);
        socket.set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}

#[tokio::test]
async fn kept_connections_and_new_ones_over_tls_are_clean_and_new_ones_resume() {
    let server = Server::start(Behaviour::Answer(GOOD)).await;
    let kept = server.load(Shape::KeepAlive, "/");
    let ledger = run_until(kept, |ledger| ledger.exchanges.count(Class::Ok) > 20).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    assert!(ledger.handshakes >= 1);
    let short = server.load(Shape::Short, "/");
    let ledger = run_until(short, |ledger| ledger.resumed > 5).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    assert!(
        ledger.handshakes > ledger.resumed,
        "the first is a full one"
    );
}

#[tokio::test]
async fn connection_close_at_an_answers_end_is_no_loss() {
    let server = Server::start(Behaviour::Answer(LAST)).await;
    let load = server.load(Shape::KeepAlive, "/");
    let ledger = run_until(load, |ledger| ledger.connections.count(Class::Ok) > 10).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    assert_eq!(ledger.retried, 0);
}

#[tokio::test]
async fn a_reset_in_the_middle_of_an_answer_is_a_loss() {
    let server = Server::start(Behaviour::AnswerThenReset(SHORT)).await;
    let ledger = expect_loss(server.load(Shape::KeepAlive, "/"), Class::Reset).await;
    assert_eq!(ledger.retried, 0, "a byte of the answer had come");
}

#[tokio::test]
async fn wrong_bytes_are_found_inside_tls() {
    let server = Server::start(Behaviour::Answer(WRONG)).await;
    expect_loss(
        server.load(Shape::KeepAlive, "/bytes/16"),
        Class::WrongBytes,
    )
    .await;
}

#[tokio::test]
async fn a_request_without_an_answer_is_asked_once_more_and_counted() {
    let server = Server::start(Behaviour::AnswerThenSilence(3)).await;
    let load = server.load(Shape::KeepAlive, "/");
    let ledger = run_until(load, |ledger| ledger.retried > 3).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
}

#[tokio::test]
async fn a_new_connection_that_gives_no_answer_is_a_loss_and_not_retried() {
    let server = Server::start(Behaviour::AnswerThenSilence(0)).await;
    let ledger = expect_loss(server.load(Shape::KeepAlive, "/"), Class::Reset).await;
    assert_eq!(ledger.retried, 0);
}

#[tokio::test]
async fn only_the_given_authority_is_trusted_unless_anybody_is() {
    let server = Server::start(Behaviour::Answer(GOOD)).await;
    let other = tempfile::tempdir().unwrap();
    let stranger = Certificates::write(other.path(), &["localhost"]).unwrap();
    let trusting = |file: &Path| Load {
        trust: Some(Trust::authority(file).unwrap()),
        ..server.load(Shape::Short, "/")
    };
    expect_loss(trusting(&stranger.authority), Class::Failed).await;
    let anybody = Load {
        trust: Some(Trust::anybody().unwrap()),
        ..server.load(Shape::Short, "/")
    };
    let ledger = run_until(anybody, |ledger| ledger.exchanges.count(Class::Ok) > 3).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    let nobody = Load {
        trust: None,
        ..server.load(Shape::Short, "/")
    };
    assert_eq!(nobody.start().err(), Some(StartLoadError::NoTrust));
}
