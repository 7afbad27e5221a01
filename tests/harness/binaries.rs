//! The binaries under test: those that cargo built beside this test.

use std::path::PathBuf;

/// `target/debug/NAME` (or `release`, when the tests are built so).
///
/// # Panics
/// When it is not built: says what to run.
pub fn find(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this process has a path");
    let dir = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("a test lies in target/PROFILE/deps");
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace` first (make test does)",
        path.display()
    );
    path
}
