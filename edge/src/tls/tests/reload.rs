//! Certificates that change on disk while clients connect.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{PKCS_ECDSA_P256_SHA256, date_time_ymd};
use rustls::pki_types::CertificateDer;

use super::{Authority, Issued, SOON, listener, replace, shake, within};
use crate::settings::ListenerTls;
use crate::tls::{
    CertificateStatus, CertificateStore, ClientConfig, ServerConfig, Ticketer, Watcher,
    server_config,
};

/// Short, so that tests are; every wait below is for a condition.
const INTERVAL: Duration = Duration::from_millis(10);

struct Watched {
    authority: Authority,
    store: Arc<CertificateStore>,
    watcher: Watcher,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Watched {
    fn start(authority: Authority, tls: &ListenerTls) -> Self {
        let store = CertificateStore::load(tls).unwrap();
        let ticketer = Ticketer::random().unwrap();
        Self {
            // Every handshake is a full one, so that each shows a certificate.
            client: authority.client_with(|config| {
                config.resumption = rustls::client::Resumption::disabled();
            }),
            server: server_config(Arc::clone(&store), ticketer, tls, true).unwrap(),
            watcher: Watcher::start(vec![Arc::clone(&store)], INTERVAL),
            store,
            authority,
        }
    }

    fn one() -> Self {
        let authority = Authority::new();
        let tls = authority.listener();
        Self::start(authority, &tls)
    }

    fn status(&self) -> CertificateStatus {
        self.store.statuses().remove(0)
    }

    /// What one more client is shown; a handshake that fails fails the test.
    async fn shown(&self) -> CertificateDer<'static> {
        let (near, far) = shake(&self.client, &self.server, "localhost").await;
        far.unwrap();
        near.unwrap().connection().peer_certificates().unwrap()[0].clone()
    }

    /// Connects until the condition holds.
    async fn until(&self, what: &str, mut holds: impl FnMut(&CertificateStatus) -> bool) {
        let connecting = async {
            while !holds(&self.status()) {
                self.shown().await;
            }
        };
        let waited = tokio::time::timeout(SOON, connecting).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.status());
    }
}

fn fresh(watched: &Watched) -> Issued {
    watched.authority.issue(&["localhost"])
}

#[tokio::test]
async fn a_replacement_takes_over_without_a_failed_handshake() {
    let watched = Watched::one();
    let before = watched.shown().await;
    for round in 1..=5 {
        let next = fresh(&watched);
        watched.authority.write("localhost", &next);
        watched
            .until("reloaded", |status| status.reloads_total == round)
            .await;
        let shown = watched.shown().await;
        assert_eq!(shown, next.der);
        assert_ne!(shown, before);
    }
    assert_eq!(watched.status().last_error, None);
}

#[tokio::test]
async fn a_bad_replacement_changes_nothing_and_is_told_until_a_good_one_comes() {
    let watched = Watched::one();
    let before = watched.shown().await;
    let files = watched.authority.files("localhost");
    type Put<'a> = Box<dyn Fn() + 'a>;
    let bad: [(&str, Put<'_>); 3] = [
        (
            "no valid PEM",
            Box::new(|| replace(&files.certificate, "-----BEGIN CERTIFICATE-----\n")),
        ),
        (
            "another key",
            Box::new(|| {
                let (one, other) = (fresh(&watched), fresh(&watched));
                replace(&files.certificate, &one.certificate);
                replace(&files.key, &other.key);
            }),
        ),
        (
            "no file",
            Box::new(|| std::fs::remove_file(&files.certificate).unwrap()),
        ),
    ];
    for (what, put) in bad {
        let failures = watched.status().failures_total;
        put();
        watched
            .until(what, |status| status.failures_total > failures)
            .await;
        assert!(watched.status().last_error.is_some());
        assert_eq!(watched.shown().await, before, "{what}");
    }
    assert_eq!(watched.status().reloads_total, 0);
    let good = fresh(&watched);
    watched.authority.write("localhost", &good);
    watched
        .until("good", |status| status.reloads_total == 1)
        .await;
    assert_eq!(watched.status().last_error, None);
    assert_eq!(watched.shown().await, good.der);
}

#[tokio::test]
async fn going_back_to_the_old_files_ends_a_refusal() {
    let watched = Watched::one();
    let files = watched.authority.files("localhost");
    let old = std::fs::read_to_string(&files.certificate).unwrap();
    replace(&files.certificate, "nothing");
    watched
        .until("refused", |status| status.last_error.is_some())
        .await;
    replace(&files.certificate, &old);
    watched
        .until("good again", |status| status.last_error.is_none())
        .await;
    let status = watched.status();
    assert_eq!((status.reloads_total, status.failures_total), (0, 1));
}

#[tokio::test]
async fn links_that_point_elsewhere_are_noticed() {
    let authority = Authority::new();
    let (old, new) = (
        authority.issue(&["localhost"]),
        authority.issue(&["localhost"]),
    );
    // As secrets are mounted: file -> data/file, and data -> version; only the latter link changes.
    for (version, issued) in [("v1", &old), ("v2", &new)] {
        std::fs::create_dir(authority.path(version)).unwrap();
        authority.write(&format!("{version}/tls"), issued);
    }
    symlink("v1", authority.path("data")).unwrap();
    for file in ["tls.pem", "tls.key"] {
        symlink(format!("data/{file}"), authority.path(file)).unwrap();
    }
    let tls = listener(vec![authority.files("tls")]);
    let watched = Watched::start(authority, &tls);
    assert_eq!(watched.shown().await, old.der);
    symlink("v2", watched.authority.path("data.new")).unwrap();
    std::fs::rename(
        watched.authority.path("data.new"),
        watched.authority.path("data"),
    )
    .unwrap();
    watched
        .until("reloaded", |status| status.reloads_total == 1)
        .await;
    assert_eq!(watched.shown().await, new.der);
}

#[tokio::test]
async fn an_order_to_reload_judges_at_once() {
    let authority = Authority::new();
    let tls = authority.listener();
    let mut watched = Watched::start(authority, &tls);
    // This one never looks of its own accord after its start.
    watched.watcher = Watcher::start(vec![Arc::clone(&watched.store)], Duration::from_secs(3600));
    let files = watched.authority.files("localhost");
    replace(&files.key, &fresh(&watched).key);
    let status = within(watched.watcher.reload_now()).await.remove(0);
    assert!(status.last_error.unwrap().contains("does not match"));
    assert!(
        watched
            .store
            .reload(&files)
            .unwrap_err()
            .contains("does not match")
    );
    let next = fresh(&watched);
    watched.authority.write("localhost", &next);
    let status = within(watched.watcher.reload_now()).await.remove(0);
    assert_eq!((status.reloads_total, status.last_error), (1, None));
    assert_eq!(watched.store.reload(&files), Ok(()));
    assert_eq!(watched.shown().await, next.der);
}

mod one_look_at_a_time {
    //! The same without a task: each look is called, so that what happens between two of them is certain.

    use std::time::SystemTime;

    use super::{Authority, Issued, PKCS_ECDSA_P256_SHA256, date_time_ymd, replace};
    use crate::tls::CertificateStore;
    use crate::tls::store::{Look, Outcome};

    fn look(store: &CertificateStore) -> Outcome {
        store.refresh(Look::Changed, SystemTime::now()).remove(0)
    }

    fn valid(authority: &Authority, from: i32, to: i32) -> Issued {
        authority.issue_with(&["localhost"], &PKCS_ECDSA_P256_SHA256, |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        })
    }

    #[test]
    fn a_certificate_whose_key_comes_later_is_no_failure() {
        let authority = Authority::new();
        let store = CertificateStore::load(&authority.listener()).unwrap();
        assert_eq!(look(&store), Outcome::Unchanged);
        let (files, next) = (
            authority.files("localhost"),
            authority.issue(&["localhost"]),
        );
        replace(&files.certificate, &next.certificate);
        assert_eq!(look(&store), Outcome::Pending);
        replace(&files.key, &next.key);
        assert_eq!(look(&store), Outcome::Replaced);
        assert_eq!(look(&store), Outcome::Unchanged);
        assert_eq!(store.statuses()[0].failures_total, 0);
    }

    #[test]
    fn a_refusal_counts_once_for_each_change() {
        let authority = Authority::new();
        let store = CertificateStore::load(&authority.listener()).unwrap();
        let files = authority.files("localhost");
        replace(&files.key, "nothing");
        let found: Vec<Outcome> = (0..4).map(|_| look(&store)).collect();
        use Outcome::{Pending, Refused, Unchanged};
        assert_eq!(found, [Pending, Refused, Unchanged, Unchanged]);
        replace(&files.key, "nothing else");
        let found: Vec<Outcome> = (0..3).map(|_| look(&store)).collect();
        assert_eq!(found, [Pending, Refused, Unchanged]);
        assert_eq!(store.statuses()[0].failures_total, 2);
    }

    #[test]
    fn a_valid_certificate_is_not_replaced_by_one_that_no_client_accepts() {
        let authority = Authority::new();
        let store = CertificateStore::load(&authority.listener()).unwrap();
        authority.write("localhost", &valid(&authority, 2000, 2001));
        assert_eq!(
            (look(&store), look(&store)),
            (Outcome::Pending, Outcome::Refused)
        );
        let why = store.statuses()[0].last_error.clone().unwrap();
        assert!(why.contains("expired since"), "{why}");
        authority.write("localhost", &valid(&authority, 2090, 2100));
        assert_eq!(
            (look(&store), look(&store)),
            (Outcome::Pending, Outcome::Refused)
        );
        assert_eq!(look(&store), Outcome::Unchanged);
        // Nothing changes on disk, and its day comes (2090-01-02).
        let day = std::time::Duration::from_secs(3_787_000_000);
        let then = SystemTime::UNIX_EPOCH + day;
        assert_eq!(store.refresh(Look::Changed, then), [Outcome::Replaced]);
    }

    #[test]
    fn an_expired_certificate_is_replaced_by_whatever_fits() {
        let authority = Authority::new();
        let files = authority.write("localhost", &valid(&authority, 2000, 2001));
        let store = CertificateStore::load(&super::listener(vec![files])).unwrap();
        assert!(store.statuses()[0].expires_in_seconds < 0);
        authority.write("localhost", &valid(&authority, 2000, 2002));
        assert_eq!(look(&store), Outcome::Replaced);
        assert_eq!(store.statuses()[0].expires_at_unix(), 1_009_843_200);
    }
}
