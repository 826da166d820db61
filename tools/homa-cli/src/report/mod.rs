//! `homa report`: one HTML file from runs of `homa bench cluster`.

pub(crate) mod args;
pub(crate) mod png;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use homa_report::{Report, ReportError};
use serde::Serialize;

use self::args::ReportArgs;
use crate::{error::CliError, output};

/// Name of the page.
const PAGE: &str = "report.html";

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    written: Vec<PathBuf>,
}

/// Writes what was asked for.
pub(crate) fn run(args: &ReportArgs, json: bool) -> Result<(), CliError> {
    if args.png.is_some() {
        png::check()?;
    }
    let report = read(&args.directories)?;
    if args.text {
        return output::bytes(report.text().as_bytes());
    }
    let out = args.out.clone().unwrap_or_else(|| page_name(&args.directories));
    let mut files = vec![(out.clone(), report.html(&out).into_bytes())];
    if let Some(path) = &args.png {
        files.push((path.clone(), png::render(&report.picture_svg().map_err(failed)?)?));
    }
    if let Some(path) = &args.svg {
        files.push((path.clone(), report.picture_svg().map_err(failed)?.into_bytes()));
    }
    let written = store(files)?;
    match json {
        true => output::document(&Written { written })?,
        false => written
            .iter()
            .try_for_each(|path| output::bytes(format!("{}\n", path.display()).as_bytes()))?,
    }
    if args.open { open(&out) } else { Ok(()) }
}

/// The page of runs that a benchmark has just written, in the directory of its results.
pub(crate) fn of_runs(directories: &[PathBuf], results: &Path) -> Result<PathBuf, CliError> {
    let out = results.join(PAGE);
    store(vec![(out.clone(), read(directories)?.html(&out).into_bytes())])?;
    Ok(out)
}

fn read(directories: &[PathBuf]) -> Result<Report, CliError> {
    Report::read(directories).map_err(failed)
}

fn page_name(directories: &[PathBuf]) -> PathBuf {
    match directories {
        [only] => only.join(PAGE),
        _ => PathBuf::from(PAGE),
    }
}

/// Writes files, into directories that are made if needed; returns their names.
pub(crate) fn store(files: Vec<(PathBuf, Vec<u8>)>) -> Result<Vec<PathBuf>, CliError> {
    for (path, content) in &files {
        let directory = path.parent().map_or(Ok(()), fs::create_dir_all);
        directory.and_then(|()| fs::write(path, content)).map_err(|error| CliError::File {
            action: "write",
            path: path.clone(),
            reason: error.to_string(),
        })?;
    }
    Ok(files.into_iter().map(|file| file.0).collect())
}

/// Hands the page to the desktop's browser and does not wait for it.
fn open(page: &Path) -> Result<(), CliError> {
    let browser = Command::new("xdg-open")
        .arg(std::path::absolute(page).unwrap_or_else(|_| page.to_owned()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    browser.map(drop).map_err(|error| {
        CliError::Incomplete(format!(
            "cannot open a browser with xdg-open ({error}); the page is written, open it by hand"
        ))
    })
}

fn failed(error: ReportError) -> CliError {
    CliError::Incomplete(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_where_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let file = |path: &str| vec![(directory.path().join(path), b"x".to_vec())];
        assert_eq!(store(file("a/b/c")).unwrap(), [directory.path().join("a/b/c")]);
        assert_eq!(fs::read(directory.path().join("a/b/c")).unwrap(), b"x");
        assert!(matches!(store(file("a/b/c/d")), Err(CliError::File { .. })));
    }
}
