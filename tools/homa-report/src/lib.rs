//! Reports of runs of `homa bench cluster`.
//!
//! [`Report::read`] takes directories that runs wrote (`run.json` and the CSV files beside it),
//! reduces them to curves, and [`Report::html`] draws these as one self-contained HTML file: the
//! plots of the papers, the ratios, the plan, what Homa's settings were derived from, the machine,
//! what the network can resolve, and the command that repeats it. [`Report::picture_svg`] gives the
//! main plot alone, and with the feature `png` it can be had as PNG. [`picture`] draws the same
//! plot of results that are no run.
//!
//! Whatever comes from files is escaped; damaged lines are left out and counted; runs that ended
//! early say so.
#![forbid(unsafe_code)]

mod chart;
mod compare;
mod comparison;
mod document;
mod doubts;
mod error;
mod figures;
mod findings;
pub mod format;
mod lines;
mod names;
mod outcome;
mod page;
pub mod picture;
mod plots;
#[cfg(feature = "png")]
pub mod png;
mod rows;
mod run;
mod sampled;
pub mod stats;
mod study;
pub mod summary;
pub mod table;
mod text;

use std::path::{Path, PathBuf};

use crate::{chart::Palette, run::Run};
pub use crate::{comparison::Comparison, error::ReportError, findings::Findings, run::Sample};

/// Directories in one report at most, those of a study's variants counted one by one.
const RUNS_MAX: usize = 100;

/// Runs, reduced to what a report shows.
#[derive(Debug)]
pub struct Report {
    runs: Vec<Run>,
    palette: Palette,
    notes: Vec<String>,
}

impl Report {
    /// Reads runs. A directory either has a `run.json` of its own, or directories of variants that
    /// have one.
    ///
    /// # Errors
    /// See [`ReportError`]. Missing or damaged CSV files are no errors: the report says what it
    /// lacks.
    pub fn read(directories: &[PathBuf]) -> Result<Self, ReportError> {
        let mut notes = Vec::new();
        let mut found = Vec::new();
        for directory in directories {
            found.extend(run_directories(directory, &mut notes)?);
        }
        if found.len() > RUNS_MAX {
            return Err(ReportError::TooMany { count: found.len(), max: RUNS_MAX });
        }
        let found = once_each(found, &mut notes);
        let mut runs = found.iter().map(|path| Run::read(path)).collect::<Result<Vec<_>, _>>()?;
        tell_apart(&mut runs);
        let palette = Palette::of(runs.iter().flat_map(Run::names));
        Ok(Report { runs, palette, notes })
    }

    /// The page. `out` is where it will be written: links to raw data are relative to it.
    pub fn html(&self, out: &Path) -> String {
        page::render(&self.runs, &self.palette, &self.notes, out)
    }

    /// Outcome, tables and doubts of each run for a terminal, as `homa bench cluster` prints them.
    pub fn text(&self) -> String {
        let of = |run: &Run| format!("{}\n{}", run.heading, text::of(run));
        self.runs.iter().map(of).chain(self.notes.iter().cloned()).collect::<Vec<_>>().join("\n")
    }

    /// The main plot alone, slowdown by message size of the first run, for light backgrounds.
    ///
    /// # Errors
    /// [`ReportError::NothingMeasured`] if the first run has no result to draw.
    pub fn picture_svg(&self) -> Result<String, ReportError> {
        let first = self.runs.first().ok_or(ReportError::NothingMeasured)?;
        let chart = plots::slowdown(first, &self.palette).ok_or(ReportError::NothingMeasured)?;
        Ok(chart.standalone(&format!("Slowdown by message size: {}", first.document.conditions())))
    }
}

/// The directory itself if it holds a run, else those in it that do, in the order in which they
/// were run.
fn run_directories(directory: &Path, notes: &mut Vec<String>) -> Result<Vec<PathBuf>, ReportError> {
    if directory.join(run::DOCUMENT).exists() {
        return Ok(vec![directory.to_owned()]);
    }
    let unreadable = |reason| ReportError::Read { path: directory.to_owned(), reason };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        match path.join(run::DOCUMENT).metadata() {
            Ok(file) => found.push((file.modified().ok(), path)),
            Err(_) if path.join(run::RPCS).exists() => notes.push(format!(
                "{} has no {} and is left out: its run ended before it could write its results.",
                path.display(),
                run::DOCUMENT
            )),
            Err(_) => {}
        }
    }
    if found.is_empty() {
        return Err(ReportError::NoRun { path: directory.to_owned() });
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Leaves out what was named before, be it by another path.
fn once_each(directories: Vec<PathBuf>, notes: &mut Vec<String>) -> Vec<PathBuf> {
    let mut known = Vec::new();
    let mut found = Vec::new();
    for directory in directories {
        // What cannot be resolved cannot be read either, and that says why.
        let path = directory.canonicalize().unwrap_or_else(|_| directory.clone());
        if known.contains(&path) {
            notes.push(format!("{} was named twice and is shown once.", directory.display()));
        } else {
            known.push(path);
            found.push(directory);
        }
    }
    found
}

/// Gives runs of the same name the names of their directories too.
fn tell_apart(runs: &mut [Run]) {
    let names: Vec<String> = runs.iter().map(|run| run.heading.clone()).collect();
    for run in runs {
        if names.iter().filter(|name| **name == run.heading).count() > 1 {
            run.heading = format!("{} ({})", run.heading, run.directory.display());
        }
    }
}
