//! What `edge` has that `lb` has not, over a replacement of the supervisor: ticket keys and tunnels.

use harness::clients::{Talk, python};
use harness::edge::Site;
use harness::host::Host;
use harness::successors::{another_edge, another_supervisor};

use crate::edge_resumption::openssl;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_and_tunnels_from_before_it_are_good_after_it() {
    let site = Site::start();
    let (ports, config) = site.config_on_own_ports("", "");
    let mut host = Host::with_edge(&config);
    host.set_supervisor_config("stop_timeout = \"1s\"\n");
    host.start().await;
    let authority = site.authority.file();
    let file = site.path().join("session").display().to_string();
    let first = openssl(ports[0], &authority, &["-tls1_3", "-sess_out", &file]);
    assert!(first.contains("\nNew, TLSv1."), "{first}");
    let mut client = python("websocket_client.py");
    client
        .args(["tunnel", &ports[0].to_string()])
        .arg(&authority);
    let mut tunnel = Talk::start(&mut client);
    tunnel.line_with("ready");
    let old = host.incumbent().await.pid;
    // Once with the tunnel in the incumbent, once with it in a draining process.
    let next = another_supervisor(host.path(), "next");
    let outcome = host.self_upgrade(&next).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    assert_eq!(host.incumbent().await.pid, old);
    let other = another_edge(host.path(), "other");
    let outcome = host.upgrade(&other, &["--bake", "300ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let outcome = host
        .self_upgrade(&harness::binaries::find("supervisor"))
        .await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    tunnel.say("through the old process\n");
    tunnel.line_with("ok");
    assert!(harness::proc::is_alive(old));
    // The keys went through two supervisors into a process that began between them.
    let again = openssl(ports[0], &authority, &["-tls1_3", "-sess_in", &file]);
    assert!(again.contains("\nReused, TLSv1."), "{again}");
    assert_eq!(host.stop().await, Some(0));
}
