//! Plan files, read with the place of every mistake.

use std::path::{Path, PathBuf};

use super::{Plan, source::Source};
use crate::{congestion::check_plan, workload::WorkloadError};

/// Why a plan cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The file cannot be read: check its name and rights.
    #[error("cannot read plan {}: {reason}", path.display())]
    #[non_exhaustive]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file is no plan: the text names line and key.
    #[error("plan {}: {reason}", path.display())]
    #[non_exhaustive]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A value makes no sense: correct it.
    #[error("plan{}: `{key}` must be {must_be}", at(place.as_ref()))]
    #[non_exhaustive]
    Value {
        /// The key, with its table.
        key: String,
        /// What is allowed.
        must_be: String,
        /// File and line, if it is from a file.
        place: Option<(PathBuf, usize)>,
    },
    /// The sizes of the messages cannot be read.
    #[error(transparent)]
    Workload(WorkloadError),
}

impl PlanError {
    /// A value that makes no sense; who read the file knows where it stands.
    pub fn value(key: impl Into<String>, must_be: impl Into<String>) -> Self {
        Self::Value { key: key.into(), must_be: must_be.into(), place: None }
    }
}

fn at(place: Option<&(PathBuf, usize)>) -> String {
    place.map_or(String::new(), |(path, line)| format!(" {}, line {line}", path.display()))
}

/// A plan file: a base and variants of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanFile {
    /// Each variant's name and its whole plan; one without name if the file has no variants.
    pub variants: Vec<(String, Plan)>,
}

impl PlanFile {
    /// Reads a plan file.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        Self::parse(&text_of(path)?, path)
    }

    /// Reads a plan file whose transports can be had on this machine.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn read_for_here(path: &Path) -> Result<Self, PlanError> {
        Self::parse_with(&text_of(path)?, path, |plan| {
            plan.check()?;
            check_plan(plan).map_err(|error| PlanError::Value {
                key: "transports".to_owned(),
                must_be: format!("what this machine has: {error}"),
                place: None,
            })
        })
    }

    /// Reads a plan and checks all its values; `path` is for error messages.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlanError> {
        Self::parse_with(text, path, Plan::check)
    }

    fn parse_with(text: &str, path: &Path, check: Check) -> Result<Self, PlanError> {
        let source = Source::new(text, path);
        let checked = |plan: Plan| check(&plan).map(|()| plan);
        let plan = |(name, table)| Ok((name, source.value(table, checked)?));
        Ok(PlanFile {
            variants: source.variants()?.into_iter().map(plan).collect::<Result<_, _>>()?,
        })
    }
}

/// The text of a plan file.
///
/// # Errors
/// It cannot be read.
pub fn text_of(path: &Path) -> Result<String, PlanError> {
    std::fs::read_to_string(path)
        .map_err(|reason| PlanError::Read { path: path.to_owned(), reason })
}

/// Whether a plan makes sense.
type Check = fn(&Plan) -> Result<(), PlanError>;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PlanFile, PlanError> {
        PlanFile::parse(text, Path::new("test.toml"))
    }

    #[test]
    fn an_empty_plan_is_the_default_and_variants_change_single_keys() {
        assert_eq!(parse("").unwrap().variants, [(String::new(), Plan::default())]);
        let text = "[network]\nrate = \"1G\"\nbuffer = \"100k\"\n[homa]\npriorities.count = 8\n\
            [[variant]]\nname = \"one\"\nhoma.priorities.count = 1\n[[variant]]\nname = \"half\"\nload.load = 0.5\n";
        let file = parse(text).unwrap();
        let [(one, first), (half, second)] = &file.variants[..] else { panic!("{file:?}") };
        assert_eq!((one.as_str(), half.as_str()), ("one", "half"));
        assert_eq!(first.homa["priorities"]["count"].as_integer(), Some(1));
        assert_eq!(second.homa["priorities"]["count"].as_integer(), Some(8));
        assert_eq!((second.load.load, second.network.rate), (0.5, 1_000));
        assert_eq!(second.network.buffer, 100_000);
    }

    #[test]
    fn mistakes_are_reported_with_line_and_key() {
        for (text, parts) in [
            ("[load]\nsecs = 1\nlaod = 0.5\n", ["line 3", "laod"]),
            ("[network]\nrate = \"fast\"\n", ["line 2", "fast"]),
            ("transports = [\"udp\"]\n", ["line 1", "udp"]),
            ("[load]\n\nload = 0\n", ["line 3", "load.load"]),
            ("[[variant]]\nload.load = 1\n", ["line 1", "name"]),
            ("[[variant]]\nname = \"\"\n", ["line 1", "name"]),
            ("[[variant]]\nname = \"x\"\nload.laod = 1\n", ["line 3", "laod"]),
            ("[[variant]]\nname = \"x\"\n[[variant]]\nname = \"x\"\n", ["line 3", "`x`"]),
            (
                "[[variant]]\nname = \"x\"\n[[variant]]\nname = \"y\"\nload.load = 9\n",
                ["line 5", "load.load"],
            ),
            ("[load]\nload = 9\n[[variant]]\nname = \"x\"\n", ["line 2", "load.load"]),
            ("variant = 3\n", ["[[variant]]", ""]),
            ("[network]\nhosts = 1\n", ["line 2", "network.hosts"]),
            ("[network]\n\nbackend = \"cisco\"\n", ["line 3", "network.backend"]),
            ("[network]\nbuffer = 10\n", ["line 2", "network.buffer"]),
            ("[homa]\ngrants.max_overcommit = 2\nfrobnicate = 3\n", ["line 3", "homa.frobnicate"]),
            ("[homa.grants]\n\novercommit = 2\n", ["line 3", "`grants.max_overcommit`"]),
            ("[homa]\npriorities.count = 9\n", ["line 2", "homa.priorities.count"]),
            (
                "[[variant]]\nname = \"x\"\nhoma.grants.window_bytes = \"y\"\n",
                ["line 3", "homa.grants.window_bytes"],
            ),
            ("transports = [\"homa-udp\", \"homa-udp\"]\n", ["line 1", "transports"]),
            ("[load]\nworkload = \"fixed:2M\"\n", ["line 1", "load.message_max"]),
            (
                "[load]\nsecs = 80000\nworkload = \"w1\"\n[network]\nrate = \"100G\"\n",
                ["line 2", "load.secs"],
            ),
            ("= 3", ["line 1", ""]),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{text:?}: {error}");
        }
    }

    #[test]
    fn sizes_that_cannot_be_read_are_found_with_the_plan() {
        let error = parse("[load]\nworkload = \"/no/such/sizes.csv\"\n").unwrap_err();
        assert!(matches!(error, PlanError::Workload(_)), "{error}");
    }
}
