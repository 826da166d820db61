//! A folder of results: a file per point, named by what went into it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use homa_bench::results;
use homa_sim::{figures::PointResult, plan::Plan};

use crate::error::CliError;

/// Digits of a name.
const NAME_DIGITS: usize = 32;

/// A folder of results. Any number of processes may write to it at a time.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A folder that results are written to: made, and tried.
    pub(super) fn open(path: PathBuf) -> Result<Self, CliError> {
        let folder = Self { path };
        results::try_directory(&folder.path)
            .map_err(|error| folder.failed("write results to", &folder.path, &error))?;
        Ok(folder)
    }

    /// A folder that results are read from; it may not be there.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a point.
    pub(super) fn file(&self, hash: &str) -> PathBuf {
        self.path.join(format!("{hash}.json"))
    }

    /// The points of a plan that have a result. Fails if there are results of others.
    pub(super) fn done(&self, plan: &Plan) -> Result<BTreeSet<String>, CliError> {
        let mut done = self.names()?;
        let known: BTreeSet<&str> = plan.points.iter().map(|point| &*point.hash).collect();
        let others: Vec<_> = done.iter().filter(|name| !known.contains(name.as_str())).collect();
        if let Some(other) = others.first() {
            return Err(CliError::Usage(format!(
                "{} has {} results that are not of this plan, such as {other}.json ({}): give \
                 another directory with --out",
                self.path.display(),
                others.len(),
                self.describe(other, plan),
            )));
        }
        // A file that was damaged is written again.
        done.retain(|name| self.read(name).is_ok());
        Ok(done)
    }

    /// Why a result is not one of the plan's.
    fn describe(&self, name: &str, plan: &Plan) -> String {
        let ours = plan.points.first().map_or("", |point| &point.inputs.version);
        match self.read(name) {
            Err(_) => "which cannot be read".to_owned(),
            Ok(result) if result.inputs.version != ours => {
                format!("made by version {}, this is {ours}", result.inputs.version)
            }
            Ok(_) => "of another plan, or this one before it was changed".to_owned(),
        }
    }

    /// The results of a plan, in its order.
    pub(super) fn results_of(&self, plan: &Plan) -> Result<Vec<PointResult>, CliError> {
        let there = self.names()?;
        let points = plan.points.iter().filter(|point| there.contains(&point.hash));
        points.map(|point| self.read(&point.hash)).collect()
    }

    /// All results.
    pub(super) fn results(&self) -> Result<Vec<PointResult>, CliError> {
        let list = |error: io::Error| self.failed("read results from", &self.path, &error);
        fs::read_dir(&self.path).map_err(list)?;
        self.names()?.iter().map(|name| self.read(name)).collect()
    }

    /// The files of all results.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, CliError> {
        Ok(self.names()?.iter().map(|name| self.file(name)).collect())
    }

    /// Writes a result: all of it or nothing, whatever happens.
    pub(super) fn write(&self, result: &PointResult) -> Result<(), CliError> {
        let file = self.file(&result.hash());
        let written = || -> io::Result<()> {
            let mut text = serde_json::to_vec_pretty(result)?;
            text.push(b'\n');
            // Others write to the same folder: the name is nobody else's.
            let mut partial =
                tempfile::Builder::new().prefix(".partial-").tempfile_in(&self.path)?;
            partial.write_all(&text)?;
            partial.as_file().sync_all()?;
            partial.persist(&file).map_err(|error| error.error)?;
            File::open(&self.path)?.sync_all()
        };
        written().map_err(|error| self.failed("write", &file, &error))
    }

    /// Names of the results.
    fn names(&self) -> Result<BTreeSet<String>, CliError> {
        let failed = |error: io::Error| self.failed("read results from", &self.path, &error);
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let is_ours = |name: &&str| {
                name.len() == NAME_DIGITS && name.bytes().all(|c| c.is_ascii_hexdigit())
            };
            names.extend(name.filter(is_ours).map(str::to_owned));
        }
        Ok(names)
    }

    fn read(&self, hash: &str) -> Result<PointResult, CliError> {
        let path = self.file(hash);
        let text = fs::read(&path).map_err(|error| self.failed("read", &path, &error))?;
        let result: PointResult = serde_json::from_slice(&text)
            .map_err(|error| self.failed("read", &path, &error.into()))?;
        match result.hash() == hash {
            true => Ok(result),
            false => Err(CliError::File {
                action: "read",
                path,
                reason: "its name is not that of what is in it: remove it".to_owned(),
            }),
        }
    }

    fn failed(&self, action: &'static str, path: &Path, error: &io::Error) -> CliError {
        CliError::File { action, path: path.to_owned(), reason: error.to_string() }
    }
}
