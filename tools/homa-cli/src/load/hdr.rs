//! Files for the tools of HdrHistogram: a log of intervals (`.hlog`: HistogramLogAnalyzer,
//! hdr-plot) or a percentile distribution (`.hgrm`: the plotter at hdrhistogram.github.io, as wrk2
//! prints it).

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::{
    Histogram,
    serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError},
    },
};

use crate::{error::CliError, latency::Latency};

/// Points of a percentile distribution per halving of the distance to 100 %; the value of wrk2.
const TICKS_PER_HALF: u32 = 5;

/// An export under way.
pub(super) struct Export {
    path: PathBuf,
    file: BufWriter<File>,
    log: Option<V2DeflateSerializer>,
}

impl Export {
    /// Creates the file, of the kind its name asks for, for times from `warm_up` from now.
    pub(super) fn create(path: &Path, warm_up: Duration) -> Result<Self, CliError> {
        let file = File::create(path).map_err(|error| failed(path, &error))?;
        let log = path.extension().is_some_and(|extension| extension == "hlog");
        let mut export = Export {
            path: path.to_owned(),
            file: BufWriter::new(file),
            log: log.then(V2DeflateSerializer::new),
        };
        export.head(warm_up).map_err(|error| failed(path, &error))?;
        Ok(export)
    }

    fn head(&mut self, warm_up: Duration) -> io::Result<()> {
        if self.log.is_none() {
            return Ok(());
        }
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + warm_up;
        writeln!(self.file, "#[Logged by homa load, values in nanoseconds]")?;
        writeln!(self.file, "#[Histogram log format version 1.3]")?;
        writeln!(self.file, "#[StartTime: {:.3} (seconds since epoch)]", unix.as_secs_f64())?;
        writeln!(
            self.file,
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
        )
    }

    /// Adds an interval, where the file is a log of them; times are counted from the start of the
    /// log.
    pub(super) fn interval(
        &mut self,
        from: Duration,
        length: Duration,
        times: &Latency,
    ) -> Result<(), CliError> {
        let Some(serializer) = &mut self.log else { return Ok(()) };
        let written = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.file, serializer)
            .map_err(IntervalLogWriterError::IoError)
            .and_then(|mut log| log.write_histogram(times.histogram(), from, length, None))
            .map_err(|error| CliError::File {
                action: "write",
                path: self.path.clone(),
                reason: error.to_string(),
            });
        written.and_then(|()| self.file.flush().map_err(|error| failed(&self.path, &error)))
    }

    /// Writes the rest.
    pub(super) fn finish(mut self, all: &Latency) -> Result<(), CliError> {
        let written = match self.log {
            Some(_) => Ok(()),
            None => distribution(&mut self.file, all.histogram()),
        };
        written.and_then(|()| self.file.flush()).map_err(|error| failed(&self.path, &error))
    }
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    CliError::File { action: "write", path: path.to_owned(), reason: error.to_string() }
}

/// The text that `outputPercentileDistribution` of HdrHistogram writes, in microseconds.
fn distribution(file: &mut impl Write, times: &Histogram<u64>) -> io::Result<()> {
    writeln!(
        file,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut below = 0;
    for step in times.iter_quantiles(TICKS_PER_HALF) {
        below += step.count_since_last_iteration();
        let (value, quantile) = (us(step.value_iterated_to()), step.quantile_iterated_to());
        write!(file, "{value:>12.3} {quantile:>2.12} {below:>10}")?;
        match quantile < 1.0 {
            true => writeln!(file, " {:>14.2}", 1.0 / (1.0 - quantile))?,
            false => writeln!(file)?,
        }
    }
    let (mean, deviation) = (times.mean() / 1e3, times.stdev() / 1e3);
    writeln!(file, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
    writeln!(file, "#[Max     = {:>12.3}, Total count    = {:>12}]", us(times.max()), times.len())?;
    writeln!(file, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", times.buckets(), 2_048)
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use hdrhistogram::serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    };

    use super::*;

    fn times(us: std::ops::RangeInclusive<u64>) -> Latency {
        let mut latency = Latency::new();
        us.for_each(|us| latency.record(Duration::from_micros(us)));
        latency
    }

    #[test]
    fn a_percentile_distribution_counts_every_call_and_ends_at_the_longest() {
        let mut text = Vec::new();
        distribution(&mut text, times(1..=1_000).histogram()).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().unwrap()).collect())
            .collect();
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]));
        let median = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!((median[0] - 500.0).abs() < 1.0, "{median:?}");
        assert_eq!(median[3], 2.0);
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), (1.0, 1_000.0));
        assert!((last[0] - 1_000.0).abs() < 1.0 && last.len() == 3, "{last:?}");
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }

    #[test]
    fn a_log_gives_back_the_times_of_each_interval() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.hlog");
        let mut export = Export::create(&path, Duration::ZERO).unwrap();
        let second = Duration::from_secs(1);
        export.interval(Duration::ZERO, second, &times(1..=10)).unwrap();
        export.interval(second, second, &times(1..=300)).unwrap();
        export.finish(&times(1..=310)).unwrap();
        let log = std::fs::read(&path).unwrap();
        let mut deserializer = Deserializer::new();
        let found: Vec<(f64, u64)> = IntervalLogIterator::new(&log)
            .filter_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => {
                    let bytes = BASE64_STANDARD.decode(interval.encoded_histogram()).unwrap();
                    let times: Histogram<u64> =
                        deserializer.deserialize(&mut bytes.as_slice()).unwrap();
                    Some((interval.start_timestamp().as_secs_f64(), times.len()))
                }
                _ => None,
            })
            .collect();
        assert_eq!(found, [(0.0, 10), (1.0, 300)]);
    }
}
