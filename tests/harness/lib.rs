//! The harness of the scenarios: built binaries, real processes, real traffic, one way to look at the damage.
//!
//! A scenario has one shape: given a [`Host`](host::Host) under load, when something happens, then what
//! the clients saw (the ledger) and what the host shows (`status`, `/proc`).
//!
//! Holds  every process that a scenario starts is ended by its number when the scenario ends; every wait
//!        has a condition and a deadline; ports are free ones; traffic stays on 127.0.0.1.

pub mod authority;
pub mod binaries;
pub mod clients;
pub mod edge;
pub mod host;
pub mod places;
pub mod ports;
pub mod proc;
pub mod programs;
pub mod raw;
pub mod recorder;
pub mod service_manager;
pub mod successors;
pub mod traffic;
pub mod wait;
