//! gRPC through `edge`: TLS in front, h2c behind; every kind of call, errors in trailers, ends by the client.

use harness::clients::{python, succeed};
use harness::edge::Site;

#[test]
fn every_kind_of_grpc_call_passes() {
    let site = Site::start();
    let mut edge = site.edge("", "");
    let port = edge.port("https").to_string();
    let said = succeed(
        python("grpc_client.py")
            .arg(&port)
            .arg(site.authority.file()),
    );
    assert!(said.contains("7 kinds of calls"), "{said}");
}
