//! The picture: slowdown by message size, P50 (dashed) and P99 (solid) of each transport, on logarithmic axes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use homa_report::picture::{self, SizeClass, slowdown_by_size};

use super::report::Curve;
use crate::{error::CliError, report::png};

/// Writes `slowdown.svg`, and `slowdown.png` if asked for, to a directory, which is made if needed.
pub(crate) fn write(
    curves: &[Curve],
    title: &str,
    directory: &Path,
    with_png: bool,
) -> Result<Vec<PathBuf>, CliError> {
    let Some(svg) = draw(curves, title) else { return Ok(Vec::new()) };
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

fn draw(curves: &[Curve], title: &str) -> Option<String> {
    let class = |(size_bytes, p50, p99): &(u64, f64, f64)| SizeClass {
        size_bytes: *size_bytes,
        p50: *p50,
        p99: *p99,
    };
    let curves: Vec<picture::Curve> = curves
        .iter()
        .map(|curve| picture::Curve {
            name: curve.transport.name().to_owned(),
            points: curve.points.iter().map(class).collect(),
        })
        .collect();
    slowdown_by_size(title, &curves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Protocol;

    fn curves() -> Vec<Curve> {
        let points = |factor: f64| {
            vec![(64, 1.0, 3.0 * factor), (1_000, 1.5, 9.0 * factor), (1_000_000, 2.0, 4.0)]
        };
        vec![
            Curve { transport: Protocol::Tcp, points: points(10.0) },
            Curve { transport: Protocol::HomaUdp, points: points(1.0) },
        ]
    }

    #[test]
    fn the_picture_names_both_transports_and_its_conditions() {
        let svg = draw(&curves(), "workload w3, load 50 %").unwrap();
        for text in ["tcp", "homa-udp", "workload w3, load 50 %"] {
            assert!(svg.contains(text), "{text} is missing in {svg}");
        }
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
