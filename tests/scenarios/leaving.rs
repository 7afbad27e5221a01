//! Workers that were already leaving when a supervisor finds them: they finish, and somebody else serves.

use harness::clients::{Talk, python};
use harness::edge::Site as EdgeSite;
use harness::host::{Host, incumbent};
use harness::proc;
use harness::traffic::Site;
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_got_sigterm_while_nobody_supervised_it_is_replaced() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let held = site.long_lived_load(4);
    held.flows(8).await;
    let old = host.incumbent().await;
    host.kill_supervisor();
    proc::signal(old.pid, Signal::TERM);
    host.start().await;
    host.status_where("another one serves", |status| {
        incumbent(status).is_some_and(|one| one.pid != old.pid && one.accepting)
    })
    .await;
    let traffic = site.passing_load(20);
    traffic.flows(40).await;
    traffic.finish_clean().await;
    held.flows(8).await;
    held.finish_clean().await;
    host.status_where("it left", |status| status.generations.len() == 1)
        .await;
    assert_eq!(host.status().await.crashes_total, 0);
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_killed_while_it_stops_is_followed_by_one_that_serves() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let held = site.long_lived_load(4);
    held.flows(8).await;
    let old = host.incumbent().await;
    let answer = host.client().ask("stop").await.expect("an answer");
    assert!(answer.ok, "{}", answer.message);
    host.status_where("it stops", |status| status.phase == "stopping")
        .await;
    host.kill_supervisor();
    host.start().await;
    host.status_where("another one serves", |status| {
        incumbent(status).is_some_and(|one| one.pid != old.pid && one.accepting)
    })
    .await;
    let traffic = site.passing_load(20);
    traffic.flows(40).await;
    traffic.finish_clean().await;
    held.flows(8).await;
    held.finish_clean().await;
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_got_sigterm_while_nobody_supervised_it_is_replaced_and_keeps_its_tunnel() {
    let site = EdgeSite::start();
    let (ports, config) = site.config_on_own_ports("", "");
    let mut host = Host::with_edge(&config);
    host.set_supervisor_config("stop_timeout = \"1s\"\n");
    host.start().await;
    let mut client = python("websocket_client.py");
    client
        .args(["tunnel", &ports[0].to_string()])
        .arg(site.authority.file());
    let mut tunnel = Talk::start(&mut client);
    tunnel.line_with("ready");
    let old = host.incumbent().await;
    host.kill_supervisor();
    proc::signal(old.pid, Signal::TERM);
    host.start().await;
    host.status_where("another one serves", |status| {
        incumbent(status).is_some_and(|one| one.pid != old.pid && one.accepting)
    })
    .await;
    tunnel.say("through the old process\n");
    tunnel.line_with("ok");
    assert!(proc::is_alive(old.pid));
    assert_eq!(host.stop().await, Some(0));
}
