//! Promises about configurations: of a wrong one every mistake is found, at its place, with its suggestion, at
//! once, and the exit code says so; a right one is taken whole, and the environment and flags override it.
//!
//! In    `wrong-configs/*.toml`, each with the lines it must cause in a sibling `.expected`.

#[path = "configuration/scratch.rs"]
mod scratch;
#[path = "configuration/wrong.rs"]
mod wrong;
