//! Staging with a plan: what runs beside the core's loop when an upgrade or a dry run is asked for.
//!
//! Room  between `store`, `facts` and `plan`; knows nothing of the swap.
//! In    a binary and what the core knows now. Out  an artifact and its plan.
//! Holds a dry run copies to a directory of its own and leaves nothing there; a binary that the plan refuses
//!       leaves the store.

use std::path::{Path, PathBuf};

use control::Plan;

use crate::facts::{self, Now};
use crate::plan;
use crate::record::Artifact;
use crate::store::{self, Purpose, StageError};

/// Stages a binary for an upgrade. The plan is there as soon as the binary is acceptable as such.
pub(crate) async fn stage(
    binary: PathBuf,
    purpose: Purpose,
    now: Now,
) -> (Option<Plan>, Result<Artifact, StageError>) {
    let store = purpose.store.clone();
    let (artifact, description) = match store::stage_and_describe(binary, purpose).await {
        Ok(staged) => staged,
        Err(error) => return (None, Err(error)),
    };
    let kept = now.kept.clone();
    let plan = plan::plan(facts::gather(now, &artifact, description).await);
    if plan.is_allowed() {
        return (Some(plan), Ok(artifact));
    }
    store::discard(&store, &artifact, &kept);
    let refused = StageError::Plan(plan::reasons(&plan));
    (Some(plan), Err(refused))
}

/// The same without a trace.
pub(crate) async fn dry_run(
    binary: PathBuf,
    purpose: Purpose,
    now: Now,
) -> Result<Plan, StageError> {
    let scratch = Scratch::create(&purpose.store)?;
    let purpose = Purpose {
        store: scratch.0.clone(),
        ..purpose
    };
    let (artifact, description) = store::stage_and_describe(binary, purpose).await?;
    Ok(plan::plan(facts::gather(now, &artifact, description).await))
}

/// A directory beside the store: what is in the store may be pruned at any commit.
struct Scratch(PathBuf);

impl Scratch {
    fn create(store: &Path) -> Result<Self, StageError> {
        let dir = store.with_file_name(format!("{SCRATCH_PREFIX}{:016x}", fastrand::u64(..)));
        std::fs::create_dir(&dir).map_err(|source| StageError::Io {
            path: dir.clone(),
            source,
        })?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const SCRATCH_PREFIX: &str = "dry-run-";

/// Removes what dry runs of a supervisor that was killed left behind; to be called at its start.
pub(crate) fn sweep(store: &Path) {
    let entries = store.parent().map(std::fs::read_dir);
    for entry in entries.into_iter().flatten().flatten().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(SCRATCH_PREFIX)
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
