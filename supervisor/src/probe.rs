//! Asking a binary who it is and whether it accepts the configuration, before it may serve.
//!
//! Holds  every run is bounded in time and output and is killed at its deadline.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use handoff::version::ProtocolRange;
use handoff::wants::{self, Wants};
use handoff::worker::PROBE_VARIABLE;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::child;
use crate::store::StageError;

/// How long `--version` may take. Sized: milliseconds for a binary, a second for an interpreter.
const VERSION_DEADLINE: Duration = Duration::from_secs(5);

/// How long `check` may take. Covers: reading certificates, resolving nothing.
const CHECK_DEADLINE: Duration = Duration::from_secs(15);

/// How much of a probe's output is looked at, in bytes.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// A binary that cannot even say who it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("{path} cannot be executed: {source}; is it built for this host?")]
    NotExecutable { path: PathBuf, source: io::Error },
    #[error("`{what}` did not end within {within:?}")]
    Hangs {
        what: &'static str,
        within: Duration,
    },
    #[error("`--version` failed ({status}): {output}")]
    Version { status: String, output: String },
}

/// What a binary says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Description {
    pub(crate) version: String,
    /// Empty: not native.
    #[serde(default)]
    pub(crate) service: String,
    #[serde(default)]
    pub(crate) handoff: Option<ProtocolRange>,
    /// The highest form of connection records that it reads; 0: it takes no live connections.
    #[serde(default)]
    pub(crate) moves: u16,
    /// What its configuration asks for; `None`: it does not say.
    #[serde(skip)]
    pub(crate) wants: Option<Wants>,
}

/// Runs `--version`.
///
/// A native binary answers the probe variable with its description. Any other program is taken as level
/// 1, under whatever version it prints; one that has no `--version` (it hangs or fails) is refused only
/// when it cannot be executed at all or is killed by a signal.
pub(crate) async fn describe(binary: &Path) -> Result<Description, ProbeError> {
    let args = ["--version".to_owned()];
    let run = run(binary, &args, Stdio::null(), VERSION_DEADLINE, "--version").await?;
    let line = run.output.lines().next().unwrap_or_default().trim();
    if let Ok(description) = serde_json::from_str::<Description>(line) {
        return Ok(description);
    }
    if !run.status.success() {
        return Err(ProbeError::Version {
            status: run.status.to_string(),
            output: run.output,
        });
    }
    Ok(Description {
        version: version_word(line),
        ..Description::default()
    })
}

/// Runs the worker's own arguments with `check` in place of `run`, when they name a configuration; answers
/// with the listeners it asks for.
pub(crate) async fn check_configuration(
    binary: &Path,
    args: &[String],
) -> Result<Option<Wants>, StageError> {
    let Some((first, rest)) = args.split_first() else {
        return Ok(None);
    };
    let names_a_file = rest.iter().any(|arg| arg.starts_with("--config"));
    if first != "run" || !names_a_file {
        return Ok(None);
    }
    let mut check = vec!["check".to_owned()];
    check.extend_from_slice(rest);
    let run = run(binary, &check, Stdio::null(), CHECK_DEADLINE, "check").await?;
    if run.status.success() {
        return Ok(wants::find(&run.output));
    }
    Err(StageError::Configuration {
        code: run
            .status
            .code()
            .map_or_else(|| run.status.to_string(), |code| code.to_string()),
        output: run.output,
    })
}

/// How a probe ended, and all it said.
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

pub(crate) async fn run(
    binary: &Path,
    args: &[impl AsRef<std::ffi::OsStr>],
    stdin: Stdio,
    within: Duration,
    what: &'static str,
) -> Result<Run, ProbeError> {
    let not_executable = |source| ProbeError::NotExecutable {
        path: binary.to_owned(),
        source,
    };
    let mut command = Command::new(binary);
    command
        .args(args)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .process_group(0);
    for variable in child::PRIVATE_VARIABLES {
        command.env_remove(variable);
    }
    command.env(PROBE_VARIABLE, "1");
    let mut process = retry_busy(|| command.spawn())
        .await
        .map_err(not_executable)?;
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let finished = async {
        let (out, err, status) = tokio::join!(text(stdout), text(stderr), process.wait());
        status.map(|status| Run {
            status,
            output: format!("{out}{err}"),
        })
    };
    match tokio::time::timeout(within, finished).await {
        Ok(outcome) => outcome.map_err(not_executable),
        Err(_) => Err(ProbeError::Hangs { what, within }),
    }
}

/// ETXTBSY: for a moment after the copy, a child forked at that instant still holds it open for writing.
async fn retry_busy<T>(mut spawn: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..BUSY_RETRIES {
        match spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
    spawn()
}

const BUSY_RETRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

async fn text(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// The first word of a version line that begins with a digit, as in "nginx 1.2" or "gunicorn (version 20)".
fn version_word(line: &str) -> String {
    line.split(|c: char| c.is_whitespace() || "()/,".contains(c))
        .map(|word| word.strip_prefix('v').unwrap_or(word))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or("unknown")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::version_word;

    #[test]
    fn a_version_is_found_in_what_programs_print() {
        for (line, version) in [
            ("lb 1.3.0", "1.3.0"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("gunicorn (version 20.1.0)", "20.1.0"),
            ("v20.20.2", "20.20.2"),
            ("true (GNU coreutils) 9.1", "9.1"),
            ("hello", "unknown"),
            ("", "unknown"),
        ] {
            assert_eq!(version_word(line), version, "{line}");
        }
    }
}
