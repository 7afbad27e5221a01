//! Promises of the built binary `lb` as a process: alone, by socket activation, under a supervisor.
//!
//! Holds every process that a test starts is ended by its number; ports are the kernel's choice; every
//!       wait has a condition and a deadline.

mod activated;
mod admin;
mod alone;
mod discovery;
mod drain;
mod origin;
mod reload;
mod supervised;
mod worker;
