//! The seam of docs/adr/0007-edge-engine.md: at an idle point the keys can be taken out of rustls, and whoever has them and the
//! socket goes on where rustls stopped.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::cipher::Nonce as TlsNonce;
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Authority, established, server, within};
use crate::tls::TlsStream;

const TRIPS: u64 = 17;

/// The TLS 1.3 record layer in one direction (RFC 8446, section 5.2).
struct Direction {
    key: LessSafeKey,
    iv: rustls::crypto::cipher::Iv,
    sequence: u64,
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("another cipher than the preferred one");
        };
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap();
        Self {
            key: LessSafeKey::new(key),
            iv,
            sequence,
        }
    }

    fn nonce(&mut self) -> Nonce {
        let nonce = TlsNonce::new(&self.iv, self.sequence);
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce.0)
    }

    async fn read(&mut self, tcp: &mut TcpStream) -> Vec<u8> {
        let mut header = [0; 5];
        tcp.read_exact(&mut header).await.unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        tcp.read_exact(&mut body).await.unwrap();
        let nonce = self.nonce();
        let plain = self.key.open_in_place(nonce, Aad::from(header), &mut body);
        let plain = plain.expect("the next sequence number");
        let (kind, plain) = plain.split_last().unwrap();
        assert_eq!(*kind, 23);
        plain.to_vec()
    }

    async fn write(&mut self, tcp: &mut TcpStream, plain: &[u8]) {
        let mut body = [plain, &[23]].concat();
        let length = u16::try_from(body.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let nonce = self.nonce();
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(header), &mut body)
            .unwrap();
        tcp.write_all(&[&header[..], &body].concat()).await.unwrap();
    }
}

async fn trip(asking: &mut TlsStream, answering: &mut TlsStream) {
    let mut got = [0; 7];
    asking.write_all(b"request").await.unwrap();
    answering.read_exact(&mut got).await.unwrap();
    answering.write_all(&got).await.unwrap();
    asking.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"request");
}

#[tokio::test]
async fn an_idle_connection_goes_on_without_rustls() {
    let authority = Authority::new();
    let (mut near, mut far) =
        established(&authority.client(), &server(&authority.listener())).await;
    assert_eq!(far.protocol_version(), Some(TLS13.version));
    let trips = async {
        for _ in 0..TRIPS {
            trip(&mut near, &mut far).await;
        }
    };
    within(trips).await;
    assert!(far.is_idle());
    let (connection, mut tcp) = far.into_parts();
    let secrets = connection.dangerous_extract_secrets().unwrap();
    // One record for each message; the two tickets left in one record before the first answer.
    assert_eq!(secrets.rx.0, TRIPS);
    assert_eq!(secrets.tx.0, TRIPS + 1);
    let (mut rx, mut tx) = (Direction::new(secrets.rx), Direction::new(secrets.tx));
    let taken_over = async {
        for trip in 0..100_u8 {
            near.write_all(&[trip; 7]).await.unwrap();
            assert_eq!(rx.read(&mut tcp).await, [trip; 7]);
            tx.write(&mut tcp, &[trip; 9]).await;
            let mut got = [0; 9];
            near.read_exact(&mut got).await.unwrap();
            assert_eq!(got, [trip; 9]);
        }
    };
    within(taken_over).await;
}

#[tokio::test]
async fn a_connection_with_half_a_record_is_not_idle() {
    let authority = Authority::new();
    let (mut near, mut far) =
        established(&authority.client(), &server(&authority.listener())).await;
    within(trip(&mut near, &mut far)).await;
    // A sealed record, sent by hand in two pieces.
    let (mut connection, mut tcp) = near.into_parts();
    std::io::Write::write_all(&mut connection.writer(), b"halves").unwrap();
    let mut record = Vec::new();
    connection.write_tls(&mut record).unwrap();
    assert!(far.is_idle());
    let whole = async {
        for (at, byte) in record.iter().enumerate() {
            tcp.write_all(&[*byte]).await.unwrap();
            far.tcp().readable().await.unwrap();
            let waker = std::task::Waker::noop();
            let mut cx = std::task::Context::from_waker(waker);
            let is_last = at + 1 == record.len();
            // Taken from the socket, but (until the last byte) nothing to read and nothing to hand over.
            assert_eq!(far.poll_readable(&mut cx).is_ready(), is_last, "byte {at}");
            assert!(!far.is_idle(), "byte {at}");
        }
        let mut got = [0; 6];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"halves");
    };
    within(whole).await;
    assert!(far.is_idle());
}
