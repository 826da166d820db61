//! Message sizes of the published workloads, and of files of the same form.
//!
//! Sizes are sampled as the load generator of the Linux implementation does: neighbouring points
//! are merged, and lengths of the published workloads above a million bytes count as a million.
//! Files of users keep their lengths.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{rng::Rng, units::parse_size};

/// Longer messages of the published workloads are taken as this long; bytes.
pub const LENGTH_BYTES_MAX: u64 = 1_000_000;

/// Longer messages than this cannot be sent; bytes.
const MESSAGE_BYTES_MAX: u64 = 1 << 30;

/// Longest file of sizes, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A point is kept when it adds this fraction of messages to the last kept one ...
const FRACTION_STEP: f64 = 0.0025;

/// ... or when the next length is above the last kept one by this factor.
const LENGTH_STEP: f64 = 1.2;

/// Points of one file.
const POINTS_MAX: usize = 100_000;

/// Prefix of the name of a workload whose messages all have one size.
pub const FIXED: &str = "fixed:";

/// Fractions of all messages at which classes of sizes end.
const CLASS_ENDS: [f64; 12] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];

const BUILT_IN: [(&str, &str); 5] = [
    ("w1", include_str!("../workloads/w1.csv")),
    ("w2", include_str!("../workloads/w2.csv")),
    ("w3", include_str!("../workloads/w3.csv")),
    ("w4", include_str!("../workloads/w4.csv")),
    ("w5", include_str!("../workloads/w5.csv")),
];

/// Why a workload cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// The name is none of the built-in ones, or has a wrong size: correct it.
    #[error("workload {name}: {reason}")]
    #[non_exhaustive]
    Name {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read or understood: the reason names the line.
    #[error("cannot read workload {}: {reason}", path.display())]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A distribution of message sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Workload {
    /// Length in bytes and fraction of messages of at most this length, both rising.
    points: Vec<(u64, f64)>,
}

impl Workload {
    /// The workload `w1` to `w5`, `fixed:N` for messages of N bytes, or the one in a file.
    ///
    /// # Errors
    /// See [`WorkloadError`].
    pub fn load(name: &str) -> Result<Self, WorkloadError> {
        let wrong = |reason| WorkloadError::Name { name: name.to_owned(), reason };
        if let Some(size) = name.strip_prefix(FIXED) {
            return Self::fixed(size).map_err(wrong);
        }
        if let Some((_, text)) =
            BUILT_IN.iter().find(|(built_in, _)| name.eq_ignore_ascii_case(built_in))
        {
            return Self::parse(text.as_bytes(), LENGTH_BYTES_MAX).map_err(wrong);
        }
        let failed =
            |reason: String| WorkloadError::File { path: Path::new(name).to_owned(), reason };
        let file = fs::File::open(name).map_err(|error| failed(error.to_string()))?;
        Self::parse(file, MESSAGE_BYTES_MAX).map_err(failed)
    }

    /// Whether a name is that of a published workload.
    pub fn is_built_in(name: &str) -> bool {
        BUILT_IN.iter().any(|(built_in, _)| name.eq_ignore_ascii_case(built_in))
    }

    /// Messages that all have this length in bytes.
    pub fn of_length(length_bytes: u64) -> Self {
        Workload { points: vec![(length_bytes, 1.0)] }
    }

    /// Messages of these lengths in bytes, each with its weight above 0, in any order.
    pub fn weighted(lengths: impl IntoIterator<Item = (u64, f64)>) -> Self {
        let mut lengths: Vec<_> = lengths.into_iter().collect();
        lengths.sort_unstable_by_key(|(length, _)| *length);
        let all: f64 = lengths.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let mut points: Vec<(u64, f64)> = Vec::new();
        for (length, weight) in lengths {
            sum += weight;
            match points.last_mut().filter(|last| last.0 == length) {
                Some(last) => last.1 = sum / all,
                None => points.push((length, sum / all)),
            }
        }
        if let Some(last) = points.last_mut() {
            last.1 = 1.0;
        }
        Workload { points }
    }

    /// Length in bytes and the fraction of messages of at most this length, both rising.
    pub fn points(&self) -> &[(u64, f64)] {
        &self.points
    }

    /// The same distribution with longer messages taken as `longest_bytes`.
    #[must_use]
    pub fn capped(&self, longest_bytes: u64) -> Self {
        let mut points = self.points.clone();
        let keep = points.partition_point(|point| point.0 < longest_bytes);
        if keep < points.len() {
            points.truncate(keep);
            points.push((longest_bytes, 1.0));
        }
        Workload { points }
    }

    /// The distribution in a file as it is: no point is merged, no length is capped.
    ///
    /// # Errors
    /// See [`WorkloadError`].
    pub fn exact_file(path: impl AsRef<Path>) -> Result<Self, WorkloadError> {
        let path = path.as_ref();
        let failed = |reason| WorkloadError::File { path: path.to_owned(), reason };
        let file = fs::File::open(path).map_err(|error| failed(error.to_string()))?;
        Self::exact(file).map_err(failed)
    }

    /// As [`Workload::exact_file`], of a text.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub fn exact(text: impl Read) -> Result<Self, String> {
        Ok(Workload { points: read(text)? })
    }

    fn fixed(size: &str) -> Result<Self, String> {
        match parse_size(size)? {
            0 => Err("a message has at least 1 byte".to_owned()),
            length if length > MESSAGE_BYTES_MAX => {
                Err(format!("a message has at most {MESSAGE_BYTES_MAX} bytes"))
            }
            length => Ok(Workload::of_length(length)),
        }
    }

    /// Sizes as the reference generator samples them. Lengths above `cap_bytes` count as that.
    fn parse(file: impl Read, cap_bytes: u64) -> Result<Self, String> {
        Ok(Workload { points: merge(&read(file)?, cap_bytes) })
    }

    /// The length of a message drawn at random, in bytes.
    pub fn sample(&self, rng: &mut Rng) -> u64 {
        self.quantile(rng.uniform())
    }

    /// The length that this fraction of messages does not exceed, in bytes.
    pub fn quantile(&self, fraction: f64) -> u64 {
        let index = self.points.partition_point(|point| point.1 < fraction);
        // Rounding may leave the last fraction below 1.
        self.points.get(index).or(self.points.last()).map_or(1, |point| point.0)
    }

    /// Mean length in bytes.
    pub fn mean_bytes(&self) -> f64 {
        self.mean(|length| length as f64)
    }

    /// Mean of a quantity that a message of so many bytes has.
    pub fn mean(&self, of: impl Fn(u64) -> f64) -> f64 {
        self.shares().map(|(length, share)| of(length) * share).sum()
    }

    /// Lengths in bytes, rising, and the fraction of messages of each.
    pub fn shares(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        let mut before = 0.0;
        let share = move |(length, fraction): &(u64, f64)| {
            (*length, fraction - std::mem::replace(&mut before, *fraction))
        };
        self.points.iter().map(share)
    }

    /// Upper ends of the classes of sizes that are reported, in bytes: tenths of all messages, of
    /// which the last, where lengths differ most, is cut further. Classes of equal size are one.
    pub fn class_ends_bytes(&self) -> Vec<u64> {
        let mut ends: Vec<u64> =
            CLASS_ENDS.iter().map(|fraction| self.quantile(*fraction)).collect();
        ends.dedup();
        ends
    }
}

/// Reads lines of `length_bytes,cumulative_fraction`; a first line that is no numbers is a title.
fn read(input: impl Read) -> Result<Vec<(u64, f64)>, String> {
    let mut input = input.take(FILE_BYTES_MAX + 1);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(&mut input);
    let mut points: Vec<(u64, f64)> = Vec::new();
    for (index, row) in reader.records().enumerate() {
        let row = row.map_err(|error| error.to_string())?;
        let line = row.position().map_or(0, csv::Position::line);
        match parse_point(&row) {
            None if index == 0 => {}
            None => {
                return Err(format!("line {line}: expected length_bytes,cumulative_fraction"));
            }
            Some(point) => {
                let point = check_point(points.last(), point, line)?;
                // Of points of one length the last has them all.
                match points.last_mut().filter(|last| last.0 == point.0) {
                    Some(last) => *last = point,
                    None => points.push(point),
                }
            }
        }
        if points.len() > POINTS_MAX {
            return Err(format!("more than {POINTS_MAX} points"));
        }
    }
    drop(reader);
    match (input.limit(), points.last()) {
        (0, _) => Err(format!("more than {FILE_BYTES_MAX} bytes")),
        (_, None) => Err("no points".to_owned()),
        (_, Some((_, fraction))) if *fraction < 0.999 => {
            Err(format!("the last fraction is {fraction} instead of 1"))
        }
        _ => Ok(points),
    }
}

/// Length and fraction; further columns are somebody's notes.
fn parse_point(row: &csv::StringRecord) -> Option<(u64, f64)> {
    Some((row.get(0)?.parse().ok()?, row.get(1)?.parse().ok()?))
}

fn check_point(
    last: Option<&(u64, f64)>,
    point: (u64, f64),
    line: u64,
) -> Result<(u64, f64), String> {
    let (length, fraction) = point;
    if length == 0 || length > MESSAGE_BYTES_MAX || !(0.0..=1.000_001).contains(&fraction) {
        return Err(format!(
            "line {line}: a length of 1 to {MESSAGE_BYTES_MAX} bytes and a fraction up to 1 are needed"
        ));
    }
    match last {
        Some((before, at)) if length < *before || fraction < *at => {
            Err(format!("line {line}: lengths and fractions must not fall"))
        }
        _ => Ok(point),
    }
}

/// Merges neighbours: a group is represented by its longest length.
fn merge(points: &[(u64, f64)], cap_bytes: u64) -> Vec<(u64, f64)> {
    let mut kept: Vec<(u64, f64)> = Vec::new();
    let mut last = (0, 0.0);
    for (index, (length, fraction)) in points.iter().copied().enumerate() {
        if length >= cap_bytes {
            break;
        }
        let next = points.get(index + 1).map_or(u64::MAX, |point| point.0);
        if fraction - last.1 >= FRACTION_STEP || next as f64 > LENGTH_STEP * last.0 as f64 {
            last = (length, fraction);
            kept.push(last);
        }
    }
    let longest = points.last().map_or(1, |point| point.0).min(cap_bytes);
    match kept.last_mut() {
        Some(point) if point.0 == longest => point.1 = 1.0,
        _ => kept.push((longest, 1.0)),
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Workload, String> {
        Workload::parse(text.as_bytes(), MESSAGE_BYTES_MAX)
    }

    #[test]
    fn lengths_with_weights_are_a_distribution_whatever_their_order() {
        let workload = Workload::weighted([(500, 1.0), (20, 2.0), (500, 3.0), (9, 2.0)]);
        assert_eq!(workload.points(), [(9, 0.25), (20, 0.5), (500, 1.0)]);
        assert!(Workload::weighted([]).points().is_empty());
    }

    #[test]
    fn files_are_read_as_spreadsheets_write_them_and_keep_their_lengths() {
        let text = "\"length\",\"fraction\",\"note\"\r\n# a remark\r\n\"500\",\"0.5\",\"a, b\"\r\n\r\n3800000, 1.0\r\n";
        let workload = parse(text).unwrap();
        assert_eq!(workload.points(), [(500, 0.5), (3_800_000, 1.0)]);
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = Workload::parse(std::io::repeat(b'1'), MESSAGE_BYTES_MAX).unwrap_err();
        assert!(error.contains("more than 16777216 bytes"), "{error}");
    }

    #[test]
    fn the_published_workloads_have_the_points_and_means_of_the_reference_generator() {
        for (name, points, mean) in [
            ("w1", 157, 192.8),
            ("w2", 96, 440.8),
            ("w3", 114, 2_567.7),
            ("w4", 226, 61_008.0),
            ("w5", 110, 386_161.0),
        ] {
            let workload = Workload::load(name).unwrap();
            let found = workload.mean_bytes();
            assert!((found / mean - 1.0).abs() < 0.002, "{name}: mean {found} instead of {mean}");
            let count = workload.points.len();
            assert!(count.abs_diff(points) <= 1, "{name}: {count} points instead of {points}");
        }
    }

    #[test]
    fn samples_have_the_mean_of_the_distribution() {
        let workload = Workload::load("W2").unwrap();
        let mut rng = Rng::new(1);
        let sum: u64 = (0..400_000).map(|_| workload.sample(&mut rng)).sum();
        let mean = sum as f64 / 400_000.0;
        assert!((mean / workload.mean_bytes() - 1.0).abs() < 0.1, "{mean}");
    }

    #[test]
    fn classes_rise_and_end_at_the_longest_message() {
        for name in ["w1", "w2", "w3", "w4", "w5"] {
            let workload = Workload::load(name).unwrap();
            let ends = workload.class_ends_bytes();
            assert!(ends.is_sorted() && ends.len() > 3, "{name}: {ends:?}");
            assert_eq!(ends.last(), Some(&workload.quantile(1.0)), "{name}");
        }
    }

    #[test]
    fn a_fixed_size_is_a_workload_of_one_point() {
        let workload = parse("length_bytes,cumulative_fraction\n500,1.0\n").unwrap();
        assert_eq!(workload.class_ends_bytes(), [500]);
        assert_eq!(workload.sample(&mut Rng::new(3)), 500);
        assert_eq!(Workload::load("fixed:500").unwrap(), workload);
        for name in ["fixed:0", "fixed:2GiB", "fixed:x"] {
            assert!(matches!(Workload::load(name), Err(WorkloadError::Name { .. })), "{name}");
        }
    }

    #[test]
    fn faulty_files_are_refused_with_the_line() {
        for (text, part) in [
            ("", "no points"),
            ("length,fraction\n", "no points"),
            ("10,0.5\n", "instead of 1"),
            ("10,0.5\n5,1\n", "line 2"),
            ("10,0.5\n20,0.4\n", "line 2"),
            ("10,0.5\nx\n", "line 2"),
            ("0,1\n", "line 1"),
            ("10,nan\n", "line 1"),
            ("10,0.5\n2000000000,1\n", "line 2"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
