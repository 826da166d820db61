//! Traffic that was recorded: a CSV file with a line per message.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{
    event::HostId,
    reproduce::sigcomm18::MESSAGE_BYTES_MAX,
    time::{Rate, Span},
};

/// The first line of a file.
const HEADER: [&str; 4] = ["time_us", "from", "to", "bytes"];
/// Latest time, in microseconds: simulated time ends after 18,446,744 seconds.
const TIME_US_MAX: f64 = 1e12;
/// Most messages.
const MESSAGES_MAX: usize = 100_000_000;

/// A recording: messages in the order of their times.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    messages: Vec<Recorded>,
    /// Hosts that a network has at least.
    hosts: u32,
}

/// A message of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When it begins, from the begin of the load.
    pub at: Span,
    /// Its sender.
    pub from: HostId,
    /// Its receiver.
    pub to: HostId,
    /// Its length.
    pub bytes: u32,
}

/// Why a file is no recording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be read: check its name and rights.
    #[error("cannot read trace {}: {reason}", path.display())]
    #[non_exhaustive]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A line is wrong: correct it.
    #[error("trace {}, line {line}: {reason}", path.display())]
    #[non_exhaustive]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
}

impl Trace {
    /// Reads a file for a network of so many hosts.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn read(path: &Path, hosts: u32) -> Result<Self, TraceError> {
        let file = std::fs::File::open(path).map_err(|error| TraceError::Read {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Self::parse(file, path, hosts)
    }

    /// As [`read`](Self::read), of a text; errors name `path`.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn parse(text: impl Read, path: &Path, hosts: u32) -> Result<Self, TraceError> {
        let failed = |reason: String| TraceError::Read { path: path.to_owned(), reason };
        let wrong = |line, reason| TraceError::Line { path: path.to_owned(), line, reason };
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text);
        let mut messages: Vec<Recorded> = Vec::new();
        let mut is_header = true;
        let mut row = csv::StringRecord::new();
        while reader.read_record(&mut row).map_err(|error| failed(error.to_string()))? {
            let line = row.position().map_or(0, csv::Position::line);
            if std::mem::take(&mut is_header) {
                if row != *HEADER.as_slice() {
                    let reason = format!("it must be the title: {}", HEADER.join(","));
                    return Err(wrong(line, reason));
                }
                continue;
            }
            let message = parse(&row, hosts).map_err(|reason| wrong(line, reason))?;
            if messages.last().is_some_and(|last| last.at > message.at) {
                let reason = "it is before the line above: sort the lines by `time_us`";
                return Err(wrong(line, reason.to_owned()));
            }
            if messages.len() == MESSAGES_MAX {
                let reason = format!("more than {MESSAGES_MAX} messages: cut the rest off");
                return Err(wrong(line, reason));
            }
            messages.push(message);
        }
        match messages.is_empty() {
            true => Err(wrong(1, "no messages follow: a line each is needed".to_owned())),
            false => Ok(Self::of(messages)),
        }
    }

    /// Messages in the order of their times.
    fn of(messages: Vec<Recorded>) -> Self {
        let last = messages.iter().map(|message| message.from.max(message.to)).max();
        Self { messages, hosts: last.map_or(0, |last| last.0 + 1) }
    }

    /// Its messages.
    pub fn messages(&self) -> &[Recorded] {
        &self.messages
    }

    /// Hosts that a network has at least.
    pub fn hosts(&self) -> u32 {
        self.hosts
    }

    /// Part of the links of so many hosts that its messages take up to the begin of the last one;
    /// headers and control packets do not count, since they are those of transports.
    pub fn load(&self, host_rate: Rate, hosts: u32) -> f64 {
        let bits: f64 = self.messages.iter().map(|message| 8.0 * f64::from(message.bytes)).sum();
        let length = self.messages.last().map_or(Span::ZERO, |last| last.at);
        // A megabit per second is a bit per microsecond.
        let us = length.as_ps().max(1) as f64 / 1e6;
        bits / (us * f64::from(host_rate.mbps()) * f64::from(hosts))
    }

    /// Its digest: equal recordings have equal ones.
    pub fn sha256(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for Recorded { at, from, to, bytes } in &self.messages {
            digest.update(at.as_ps().to_le_bytes());
            for value in [from.0, to.0, *bytes] {
                digest.update(value.to_le_bytes());
            }
        }
        digest.finalize().into()
    }
}

/// A line, or what is wrong with it.
fn parse(row: &csv::StringRecord, hosts: u32) -> Result<Recorded, String> {
    if row.len() != HEADER.len() {
        return Err(format!("{} values instead of {}: {}", row.len(), 4, HEADER.join(",")));
    }
    let at_us = row[0].parse().ok().filter(|at| (0.0..=TIME_US_MAX).contains(at));
    let at_us: f64 = at_us.ok_or_else(|| {
        format!("`time_us` must be a number from 0 to {TIME_US_MAX}, not \"{}\"", &row[0])
    })?;
    let host = |column: usize| {
        let host = row[column].parse().ok().filter(|host| *host < hosts);
        host.map(HostId).ok_or_else(|| {
            let (name, value, last) = (HEADER[column], &row[column], hosts - 1);
            format!("`{name}` must be a host of the network, 0 to {last}, not \"{value}\"")
        })
    };
    let (from, to) = (host(1)?, host(2)?);
    if from == to {
        return Err(format!("`to` must be another host than `from`, {}", from.0));
    }
    let bytes = row[3].parse().ok().filter(|bytes| (1..=MESSAGE_BYTES_MAX).contains(bytes));
    let bytes = bytes.ok_or_else(|| {
        format!("`bytes` must be from 1 to {MESSAGE_BYTES_MAX}, not \"{}\"", &row[3])
    })?;
    Ok(Recorded { at: Span::from_ps((at_us * 1e6).round() as u64), from, to, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file of this text is, for four hosts.
    fn read(text: &str) -> Result<Trace, String> {
        let trace = Trace::parse(text.as_bytes(), Path::new("t.csv"), 4);
        trace.map_err(|error| error.to_string())
    }

    #[test]
    fn a_recording_is_read_in_its_order_and_its_load_is_that_of_its_bytes() {
        let trace =
            read("time_us,from,to,bytes\n0,3,1,1000\n 0.5, 1, 2, 250\n0.5,0,1,1\n8,0,3,9\n");
        let trace = trace.unwrap();
        let lines = trace.messages().iter();
        let lines: Vec<_> =
            lines.map(|line| (line.at.as_ps(), line.from.0, line.to.0, line.bytes)).collect();
        let expected =
            [(0, 3, 1, 1_000), (500_000, 1, 2, 250), (500_000, 0, 1, 1), (8_000_000, 0, 3, 9)];
        assert_eq!((lines.as_slice(), trace.hosts()), (expected.as_slice(), 4));
        // 1,260 bytes in 8 µs, on 4 links of 10 Gbit/s.
        let load = trace.load(Rate::from_mbps(10_000).unwrap(), 4);
        assert!((load - 1_260.0 * 8.0 / (8e-6 * 10e9 * 4.0)).abs() < 1e-12, "{load}");
        let other = read("time_us,from,to,bytes\n0,3,1,1001\n").unwrap();
        assert_ne!(trace.sha256(), other.sha256());
    }

    #[test]
    fn every_line_that_cannot_be_is_named_with_what_would_be_right() {
        for (lines, line, wrong) in [
            ("0,1,2,10\n1,1,2\n", 3, "3 values instead of 4: time_us,from,to,bytes"),
            ("0,1,2,10\n1,1,2,3,4\n", 3, "5 values instead of 4"),
            ("5,1,2,10\n4,1,2,10\n", 3, "before the line above: sort the lines by `time_us`"),
            ("0,4,2,10\n", 2, "`from` must be a host of the network, 0 to 3, not \"4\""),
            ("0,1,-2,10\n", 2, "`to` must be a host of the network, 0 to 3, not \"-2\""),
            ("0,2,2,10\n", 2, "`to` must be another host than `from`, 2"),
            ("0,1,2,0\n", 2, "`bytes` must be from 1 to 67108864, not \"0\""),
            ("0,1,2,67108865\n", 2, "`bytes` must be from 1 to 67108864"),
            ("0,1,2,many\n", 2, "`bytes` must be from 1 to 67108864, not \"many\""),
            ("soon,1,2,10\n", 2, "`time_us` must be a number from 0 to 1000000000000"),
            ("nan,1,2,10\n", 2, "`time_us` must be a number"),
            ("-1,1,2,10\n", 2, "`time_us` must be a number"),
            ("1e13,1,2,10\n", 2, "`time_us` must be a number"),
            ("", 1, "no messages follow"),
        ] {
            let error = read(&format!("time_us,from,to,bytes\n{lines}")).unwrap_err();
            assert!(error.contains(wrong), "{lines}: {error}");
            assert!(error.starts_with(&format!("trace t.csv, line {line}: ")), "{lines}: {error}");
        }
        let error = read("0,1,2,10\n").unwrap_err();
        assert!(error.contains("line 1: it must be the title: time_us,from,to,bytes"), "{error}");
        let error = Trace::read(Path::new("/no/such.csv"), 4).unwrap_err().to_string();
        assert!(error.starts_with("cannot read trace /no/such.csv: No such file"), "{error}");
    }
}
