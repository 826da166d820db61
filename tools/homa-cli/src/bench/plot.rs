//! The picture: slowdown by message size, P50 (dashed) and P99 (solid) of each transport, on
//! logarithmic axes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use homa_report::picture::{Curve, slowdown_by_size};

use crate::{error::CliError, report::png};

/// Writes `slowdown.svg`, and `slowdown.png` if asked for, to a directory, which is made if needed.
pub(crate) fn write(
    curves: &[Curve],
    title: &str,
    directory: &Path,
    with_png: bool,
) -> Result<Vec<PathBuf>, CliError> {
    let Some(svg) = slowdown_by_size(title, curves) else { return Ok(Vec::new()) };
    let mut files = vec![(directory.join("slowdown.svg"), svg.clone().into_bytes())];
    if with_png {
        files.push((directory.join("slowdown.png"), png::render(&svg)?));
    }
    let failed = |path: &Path, error: std::io::Error| CliError::File {
        action: "write",
        path: path.to_owned(),
        reason: error.to_string(),
    };
    fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    for (path, content) in &files {
        fs::write(path, content).map_err(|error| failed(path, error))?;
    }
    Ok(files.into_iter().map(|file| file.0).collect())
}

#[cfg(test)]
mod tests {
    use homa_report::picture::SizeClass;

    use super::*;

    fn curves() -> Vec<Curve> {
        let points = vec![SizeClass { size_bytes: 64, p50: 1.0, p99: 3.0 }];
        vec![Curve { name: "tcp".to_owned(), points }]
    }

    #[test]
    fn files_are_written_where_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let deeper = directory.path().join("a/b");
        let files = write(&curves(), "w3", &deeper, false).unwrap();
        assert_eq!(files, [deeper.join("slowdown.svg")]);
        assert!(fs::read_to_string(&files[0]).unwrap().starts_with("<svg"));
        let blocked = directory.path().join("file");
        fs::write(&blocked, "x").unwrap();
        assert!(matches!(write(&curves(), "w3", &blocked, false), Err(CliError::File { .. })));
    }

    #[cfg(feature = "png")]
    #[test]
    fn a_png_is_written_beside_the_svg() {
        let directory = tempfile::tempdir().unwrap();
        let files = write(&curves(), "w3", directory.path(), true).unwrap();
        assert!(fs::read(&files[1]).unwrap().starts_with(b"\x89PNG"));
    }
}
