//! Loads, origins and ledgers: what measures a proxy from outside, and accounts for every connection.
//!
//! Room  everything that the `bench` binary and the scenarios of `tests` share.
//! In    addresses of built, running programs.
//! Out   ledgers.
//! Holds nothing here knows how the measured program works inside.
//!
//! ```text
//! load ──clients──> (program under measurement) ──> origin
//!   └── ledger <── every start and every end
//! ```

pub mod certificates;
pub mod compare;
pub mod demo;
pub mod ledger;
pub mod load;
mod numbered;
pub mod origin;
pub mod output;
pub mod payload;
pub mod report;
pub mod scale;
pub mod target;
pub mod trust;
