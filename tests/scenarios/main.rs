//! The promises of the design (section 8), each with a test that can fail: built binaries, real traffic,
//! a ledger that accounts for every connection.

mod any_language;
mod bad_input;
mod bad_successors;
mod bake;
mod canary;
mod carried;
mod crash;
mod crash_matrix;
mod edge_browser;
mod edge_certificates;
mod edge_clients;
mod edge_framing;
mod edge_grpc;
mod edge_resumption;
mod edge_self_upgrade;
mod edge_stalls;
mod edge_swap;
mod edge_upstreams;
mod endurance;
mod held;
mod leaving;
mod left_behind;
mod listeners;
mod live_view;
mod old_generations;
mod plan;
mod real_peers;
mod self_test;
mod self_upgrade;
mod self_upgrade_refused;
mod swap;
mod systemd_level;
mod trust;
mod versions;
mod zoo;
