//! Promises about configurations: of a wrong one every mistake is found, at its place, with its suggestion, at
//! once, and the exit code says so; a right one is taken whole, and variables and flags are judged as it is.
//!
//! In    `wrong-configs/*.toml`, each with the lines it must cause in a sibling `.expected`;
//!       `right-configs/everything.toml`, which has every setting.

#[path = "configuration/explained.rs"]
mod explained;
#[path = "configuration/right.rs"]
mod right;
#[path = "configuration/scratch.rs"]
mod scratch;
#[path = "configuration/variables.rs"]
mod variables;
#[path = "configuration/wrong.rs"]
mod wrong;
