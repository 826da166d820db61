//! What is simulated at a time, and what came of it.

use std::{ffi::OsStr, path::Path, time::Duration};

use homa_sim::reproduce::{
    published::Class,
    sigcomm18::{Outcome, Row, Run, rows},
};

/// Messages of a row at least, in percent, in tables and errors: published classes are finer than a
/// run's percentiles are certain.
const ROW_PERCENT_MIN: f64 = 9.0;

/// A workload to simulate.
pub(super) struct Point {
    pub(super) name: String,
    pub(super) run: Run,
    pub(super) classes: Vec<Class>,
}

impl Point {
    /// The name of the workload, or of its file, as a part of names of files.
    pub(super) fn file_name(&self) -> &str {
        Path::new(&self.name).file_stem().and_then(OsStr::to_str).unwrap_or("workload")
    }
}

/// A workload that was simulated.
pub(super) struct Done<'a> {
    pub(super) point: &'a Point,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

impl Done<'_> {
    /// Rows with enough messages for certain percentiles.
    pub(super) fn rows(&self) -> Vec<Row> {
        rows(&self.outcome.samples, &self.point.classes, ROW_PERCENT_MIN)
    }
}
