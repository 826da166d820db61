//! A run, from its directory or from the program that measured it.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    document::Document,
    error::ReportError,
    figures::{Bucket, Figures, Rpc, figures},
    format::thousands,
    rows::{self, Tally},
    sampled::{Gather, LEVELS, QueuePoint, RatePoint},
    stats::Bootstrap,
    summary::{SCHEMA, TransportDocument, UnloadedTime, unloaded_us},
};

/// Names of a run's files.
pub(crate) const DOCUMENT: &str = "run.json";
/// RPCs.
pub(crate) const RPCS: &str = "rpcs.csv";
/// Samples of queues.
pub(crate) const QUEUES: &str = "queues.csv";
/// Samples of throughput.
pub(crate) const THROUGHPUT: &str = "throughput.csv";

/// Longest `run.json`, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// Transports of a run: more than any plan names.
const TRANSPORTS_MAX: usize = 64;

/// RPCs of a run that are taken; 24 bytes of memory each.
const RPCS_MAX: usize = 20_000_000;

/// Blocks of time that a round is cut into for [`Bootstrap`]: some queues' lives long, enough to
/// draw from.
const BLOCKS: usize = 20;

/// Rounds that are told apart in draws; later ones count as the last.
const ROUNDS_MAX: usize = 100;

/// A run, reduced to what a report shows.
#[derive(Debug)]
pub(crate) struct Run {
    pub directory: PathBuf,
    /// Its name among the runs of a report.
    pub heading: String,
    pub document: Document,
    /// In the order of the plan.
    pub transports: Vec<Measured>,
    /// What a reader must know of the data.
    pub notes: Vec<String>,
}

/// One transport of a run.
#[derive(Debug)]
pub(crate) struct Measured {
    pub document: TransportDocument,
    pub figures: Figures,
    pub queues: Vec<QueuePoint>,
    pub rates: Vec<RatePoint>,
}

impl Run {
    /// Reads a directory that has a `run.json`.
    ///
    /// # Errors
    /// `run.json` cannot be read or understood. Other files are not needed; notes say what is
    /// missing.
    pub(crate) fn read(directory: &Path) -> Result<Self, ReportError> {
        let mut run = Run::without_rpcs(document(&directory.join(DOCUMENT))?, directory);
        run.read_rpcs();
        run.read_queues();
        run.read_throughput();
        Ok(run)
    }

    /// A run that is not in a directory yet.
    ///
    /// # Errors
    /// The document is none of a run.
    pub(crate) fn of(
        document: Value,
        samples: impl Iterator<Item = Sample>,
    ) -> Result<Self, ReportError> {
        let mut run = Run::without_rpcs(parse(document, Path::new(DOCUMENT))?, Path::new(""));
        let mut rpcs = Rpcs::new(&run);
        samples.for_each(|sample| rpcs.take(sample));
        run.draw(rpcs);
        Ok(run)
    }

    fn without_rpcs(mut document: Document, directory: &Path) -> Self {
        for transport in &mut document.transports {
            transport.summary.refuse_what_samples_do_not_carry();
        }
        let transports = document.transports.iter().map(|transport| Measured {
            document: transport.clone(),
            figures: Figures::default(),
            queues: Vec::new(),
            rates: Vec::new(),
        });
        Run {
            directory: directory.to_owned(),
            heading: document.heading(),
            transports: transports.collect(),
            document,
            notes: Vec::new(),
        }
    }

    /// Names of the transports.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.transports.iter().map(|transport| transport.document.name.as_str())
    }

    /// Whether slowdowns are relative to Homa's unloaded time rather than each transport's own.
    pub(crate) fn relative_to_homa(&self) -> bool {
        self.homa_unloaded().is_some()
    }

    /// Whether a transport's slowdowns are against its own unloaded time, so that none can be
    /// below 1.
    pub(crate) fn is_own_reference(&self, transport: &Measured) -> bool {
        transport.document.is_homa() || !self.relative_to_homa()
    }

    fn homa_unloaded(&self) -> Option<&[UnloadedTime]> {
        let mut documents = self.transports.iter().map(|transport| &transport.document);
        let homa =
            documents.find(|document| document.is_homa() && !document.unloaded.is_empty())?;
        Some(&homa.unloaded)
    }

    fn places(&self) -> HashMap<String, usize> {
        self.names().enumerate().map(|(place, name)| (name.to_owned(), place)).collect()
    }

    fn read_rpcs(&mut self) {
        let places = self.places();
        let mut rpcs = Rpcs::new(self);
        let columns = ["transport", "round", "server", "size_bytes", "start_ns", "latency_ns"];
        let tally = rows::read(
            &self.directory.join(RPCS),
            columns,
            |[name, round, server, size, start, latency]| {
                let numbers = [round, server, size, start, latency].map(str::parse::<u64>);
                let [Ok(round), Ok(server), Ok(size_bytes), Ok(start_ns), Ok(latency_ns)] = numbers
                else {
                    return false;
                };
                let (Some(transport), Ok(round)) = (places.get(name), u32::try_from(round)) else {
                    return false;
                };
                let transport = *transport;
                rpcs.take(Sample { transport, round, server, size_bytes, start_ns, latency_ns });
                true
            },
        );
        self.note(RPCS, &tally);
        self.draw(rpcs);
    }

    /// Reduces RPCs to curves.
    fn draw(&mut self, rpcs: Rpcs) {
        if rpcs.total > RPCS_MAX {
            let (max, total) = (thousands(RPCS_MAX as f64), thousands(rpcs.total as f64));
            self.notes.push(format!("Only the first {max} of {total} RPCs are drawn."));
        }
        let (found, rounds) = rpcs.in_blocks();
        let most = found.iter().map(Vec::len).max().unwrap_or(0);
        // A draw looks at half of the short ones and some of the slowest.
        let bootstrap = Bootstrap::new(rounds, BLOCKS, most / 10);
        let homa = self.homa_unloaded().map(unloaded_us);
        for (transport, rpcs) in self.transports.iter_mut().zip(found) {
            let own = || unloaded_us(&transport.document.unloaded);
            let reference = homa.clone().unwrap_or_else(own);
            transport.figures = figures(rpcs, &reference, (&bootstrap, rounds * BLOCKS));
            if transport.figures.slowdown.is_empty() {
                transport.figures.slowdown = from_deciles(&transport.document);
                transport.figures.deciles_bytes = decile_sizes(&transport.document);
            }
        }
    }

    fn read_queues(&mut self) {
        let places = self.places();
        let mut found = vec![Gather::<LEVELS>::default(); self.transports.len()];
        let columns = ["transport", "round", "time_ns", "level", "bytes"];
        let tally = rows::read(
            &self.directory.join(QUEUES),
            columns,
            |[name, round, time, level, bytes]| {
                let Some(gather) = places.get(name).and_then(|place| found.get_mut(*place)) else {
                    return false;
                };
                let numbers = (round.parse(), time.parse(), level.parse(), bytes.parse());
                let (Ok(round), Ok(time_ns), Ok(level), Ok(bytes)) = numbers else { return false };
                gather.take(round, time_ns, level, bytes);
                true
            },
        );
        self.note(QUEUES, &tally);
        for (transport, gather) in self.transports.iter_mut().zip(&found) {
            transport.queues = gather.queues();
        }
    }

    fn read_throughput(&mut self) {
        let places = self.places();
        let mut found = vec![Gather::<1>::default(); self.transports.len()];
        let columns = ["transport", "round", "time_ns", "rx_bps"];
        let tally =
            rows::read(&self.directory.join(THROUGHPUT), columns, |[name, round, time, rate]| {
                let Some(gather) = places.get(name).and_then(|place| found.get_mut(*place)) else {
                    return false;
                };
                let (Ok(round), Ok(time_ns), Ok(bps)) = (round.parse(), time.parse(), rate.parse())
                else {
                    return false;
                };
                gather.take(round, time_ns, 0, bps);
                true
            });
        self.note(THROUGHPUT, &tally);
        for (transport, gather) in self.transports.iter_mut().zip(&found) {
            transport.rates = gather.rates();
        }
    }

    fn note(&mut self, file: &str, tally: &std::io::Result<Tally>) {
        match tally {
            Err(error) => self.notes.push(format!("{file} cannot be used: {error}.")),
            Ok(Tally { damaged: 0, .. }) => {}
            Ok(Tally { damaged, taken }) => self.notes.push(format!(
                "{} of {} lines of {file} are damaged or of an unknown transport and left out.",
                thousands(*damaged as f64),
                thousands((damaged + taken) as f64)
            )),
        }
    }
}

/// An RPC as it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Place of its transport in the document.
    pub transport: usize,
    /// Round, from 0.
    pub round: u32,
    /// Host that was called.
    pub server: u64,
    /// Bytes of the request.
    pub size_bytes: u64,
    /// Intended begin, in nanoseconds after the begin of the round's load.
    pub start_ns: u64,
    /// From the intended begin to the end, in nanoseconds.
    pub latency_ns: u64,
}

/// RPCs that count, by transport, as they come.
struct Rpcs {
    warm_up_ns: u64,
    failed_host: Option<u64>,
    total: usize,
    first_ns: u64,
    last_ns: u64,
    /// With their begin after the warm-up.
    found: Vec<Vec<(Rpc, u64)>>,
    rounds: BTreeSet<u32>,
}

impl Rpcs {
    fn new(run: &Run) -> Self {
        Rpcs {
            warm_up_ns: (run.document.window_s().0 * 1e9) as u64,
            failed_host: run.document.number("/load/fail_host").map(|host| host as u64),
            total: 0,
            first_ns: u64::MAX,
            last_ns: 0,
            found: vec![Vec::new(); run.transports.len()],
            rounds: BTreeSet::new(),
        }
    }

    /// Takes an RPC if it counts: begun after the warm-up, and not to a host that failed.
    fn take(&mut self, sample: Sample) {
        let Sample { transport, round, server, size_bytes, start_ns, latency_ns } = sample;
        let Some(begin_ns) = start_ns.checked_sub(self.warm_up_ns) else { return };
        let Some(found) = self.found.get_mut(transport) else { return };
        if self.failed_host == Some(server) {
            return;
        }
        self.total += 1;
        if self.total <= RPCS_MAX {
            self.first_ns = self.first_ns.min(begin_ns);
            self.last_ns = self.last_ns.max(begin_ns);
            if self.rounds.len() < ROUNDS_MAX {
                self.rounds.insert(round);
            }
            found.push((Rpc { size_bytes, latency_ns, round, block: 0 }, begin_ns));
        }
    }

    /// The RPCs, each with its block, and how many rounds there are.
    fn in_blocks(self) -> (Vec<Vec<Rpc>>, usize) {
        let rounds: Vec<u32> = self.rounds.into_iter().collect();
        let last = rounds.len().saturating_sub(1);
        let length_ns = self.last_ns.saturating_sub(self.first_ns) as f64 + 1.0;
        let place = |(rpc, begin_ns): (Rpc, u64)| {
            let round = rounds.binary_search(&rpc.round).unwrap_or(last);
            let part = ((begin_ns - self.first_ns) as f64 / length_ns * BLOCKS as f64) as usize;
            Rpc { block: (round * BLOCKS + part.min(BLOCKS - 1)) as u32, ..rpc }
        };
        let found = self.found.into_iter().map(|rpcs| rpcs.into_iter().map(place).collect());
        (found.collect(), rounds.len().max(1))
    }
}

fn document(path: &Path) -> Result<Document, ReportError> {
    let unreadable = |reason| ReportError::Read { path: path.to_owned(), reason };
    let damaged = |reason: String| ReportError::Damaged { path: path.to_owned(), reason };
    let mut text = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?.take(DOCUMENT_BYTES_MAX);
    file.read_to_end(&mut text).map_err(unreadable)?;
    let value = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    parse(value, path)
}

/// Understands a document; `path` is where it comes from.
fn parse(value: Value, path: &Path) -> Result<Document, ReportError> {
    let damaged = |reason: String| ReportError::Damaged { path: path.to_owned(), reason };
    let schema = value.get("schema").and_then(Value::as_u64);
    let found = schema.and_then(|schema| u32::try_from(schema).ok()).unwrap_or(0);
    if found > SCHEMA {
        return Err(ReportError::Newer { path: path.to_owned(), found, known: SCHEMA });
    }
    let document: Document =
        serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
    match document.transports.len() {
        0..=TRANSPORTS_MAX => Ok(document),
        count => Err(damaged(format!("{count} transports, of which no plan has so many"))),
    }
}

/// The table by size in `run.json`, for runs without RPCs.
fn from_deciles(document: &TransportDocument) -> Vec<Bucket> {
    // Ten in whatever was written by this program.
    let deciles = &document.summary.deciles[..document.summary.deciles.len().min(10)];
    let mut shortest = 0;
    let bucket = |(index, decile): (usize, &crate::summary::Decile)| {
        let sizes_bytes = (shortest, decile.size_bytes);
        shortest = decile.size_bytes;
        let slowdown = decile.slowdown();
        let share = (index as f64 + 0.5) / deciles.len() as f64;
        Bucket { share, sizes_bytes, p50: slowdown.p50, p99: slowdown.p99 }
    };
    deciles.iter().enumerate().map(bucket).collect()
}

fn decile_sizes(document: &TransportDocument) -> Vec<u64> {
    match document.summary.deciles.len() {
        10 => {
            let sizes = document.summary.deciles.iter().map(|decile| decile.size_bytes);
            [0].into_iter().chain(sizes).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rpcs_of_the_warm_up_and_to_a_host_that_failed_do_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let document = serde_json::json!({
            "schema": 1,
            "plan": { "load": { "warm_up": 1.0, "fail_host": 2 } },
            "transports": [{ "name": "tcp-cubic", "unloaded": [{ "size_bytes": 1, "p50_ns": 1_000 }] }],
        });
        std::fs::write(directory.path().join(DOCUMENT), document.to_string()).unwrap();
        let text = "transport,round,client,server,size_bytes,start_ns,latency_ns,status\n\
            tcp-cubic,0,0,1,1,999999999,70000,ok\n\
            tcp-cubic,0,0,1,1,1000000000,3000,ok\n\
            tcp-cubic,0,0,2,1,1000000000,90000,failed\n";
        std::fs::write(directory.path().join(RPCS), text).unwrap();
        let run = Run::read(directory.path()).unwrap();
        assert!(!run.relative_to_homa());
        assert_eq!(run.transports[0].figures.tail, [(3.0, 1.0)]);
        assert!(run.transports[0].figures.slowdown[0].p99.is_nan(), "of one RPC");
    }
}
