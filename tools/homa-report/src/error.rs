//! Why there is no report.

use std::path::PathBuf;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file or directory cannot be read: check its name and rights.
    #[error("cannot read {}: {reason}", path.display())]
    #[non_exhaustive]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A directory holds no run: name one that `homa bench cluster` or `homa bench plan` wrote.
    #[error(
        "{} has no run.json, nor has a directory in it: it is no result of `homa bench cluster`, or that ended \
         before it could write one",
        path.display()
    )]
    #[non_exhaustive]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
    /// A `run.json` is damaged or something else: repeat the run.
    #[error("{} does not describe a run: {reason}", path.display())]
    #[non_exhaustive]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A `run.json` was written by a newer version: use that version for the report too.
    #[error("{} has layout {found}, and this version knows up to {known}: use a newer `homa`", path.display())]
    #[non_exhaustive]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The newest known layout.
        known: u32,
    },
    /// More runs than a page can show: make several reports.
    #[error("{count} runs are too many for a report, which holds up to {max}: make several")]
    #[non_exhaustive]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// No transport of the run has enough RPCs, or all are of one size: there is no slowdown by
    /// size to draw.
    #[error("the run has too few RPCs, or sizes, to draw slowdown by message size")]
    NothingMeasured,
    /// The system has no font to write with in a PNG: install one, or take the SVG.
    #[error(
        "this system has no font for the text of a PNG: install the package `fonts-dejavu-core`"
    )]
    NoFont,
    /// The picture cannot be drawn.
    #[error("the picture cannot be drawn: {reason}")]
    #[non_exhaustive]
    Picture {
        /// Why.
        reason: String,
    },
}
