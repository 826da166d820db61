//! The directory that `--out` names.

use std::path::{Path, PathBuf};

use homa_bench::results;
use serde::Serialize;

use crate::{error::CliError, report::store};

/// Finds out before anything runs whether results can be written.
pub(super) fn check(out: Option<&Path>) -> Result<(), CliError> {
    let Some(out) = out else { return Ok(()) };
    results::try_directory(out).map_err(|error| CliError::File {
        action: "write results to",
        path: out.to_owned(),
        reason: error.to_string(),
    })
}

/// Writes `results.json` and other files.
pub(super) fn write(
    out: &Path,
    document: &impl Serialize,
    others: Vec<(PathBuf, Vec<u8>)>,
) -> Result<(), CliError> {
    let text = serde_json::to_vec_pretty(document);
    let text = text.map_err(|error| CliError::Process(error.to_string()))?;
    let files = std::iter::once((out.join("results.json"), text)).chain(others).collect();
    for file in store(files)? {
        eprintln!("homa: wrote {}", file.display());
    }
    Ok(())
}
