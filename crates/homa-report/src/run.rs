//! A run, read from its directory.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    document::{Document, SCHEMA, TransportDocument, Unloaded},
    error::ReportError,
    figures::{Bucket, Figures, Rpc, figures},
    format::thousands,
    rows::{self, Tally},
    sampled::{Gather, LEVELS, QueuePoint, RatePoint},
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

/// A run, reduced to what a report shows.
#[derive(Debug)]
pub(crate) struct Run {
    pub directory: PathBuf,
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
    /// `run.json` cannot be read or understood. Other files are not needed; notes say what is missing.
    pub(crate) fn read(directory: &Path) -> Result<Self, ReportError> {
        let document = document(&directory.join(DOCUMENT))?;
        let mut run = Run {
            directory: directory.to_owned(),
            transports: document
                .transports
                .iter()
                .map(|transport| Measured {
                    document: transport.clone(),
                    figures: Figures::default(),
                    queues: Vec::new(),
                    rates: Vec::new(),
                })
                .collect(),
            document,
            notes: Vec::new(),
        };
        run.read_rpcs();
        run.read_queues();
        run.read_throughput();
        Ok(run)
    }

    /// Names of the transports.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.transports.iter().map(|transport| transport.document.name.as_str())
    }

    /// Whether slowdowns are relative to Homa's unloaded time rather than each transport's own.
    pub(crate) fn relative_to_homa(&self) -> bool {
        self.homa_unloaded().is_some()
    }

    fn homa_unloaded(&self) -> Option<&[Unloaded]> {
        let mut documents = self.transports.iter().map(|transport| &transport.document);
        let homa =
            documents.find(|document| document.is_homa() && !document.unloaded.is_empty())?;
        Some(&homa.unloaded)
    }

    fn places(&self) -> HashMap<String, usize> {
        self.names().enumerate().map(|(place, name)| (name.to_owned(), place)).collect()
    }

    fn read_rpcs(&mut self) {
        let warm_up_ns = (self.document.window_s().0 * 1e9) as u64;
        let failed_host = self.document.number("/load/fail_host").map(|host| host as u64);
        let places = self.places();
        let mut found = vec![Vec::new(); self.transports.len()];
        let mut total = 0;
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
                let (Some(place), Ok(round)) = (places.get(name), u32::try_from(round)) else {
                    return false;
                };
                if start_ns >= warm_up_ns && failed_host != Some(server) {
                    total += 1;
                    if total <= RPCS_MAX {
                        found[*place].push(Rpc { size_bytes, latency_ns, round });
                    }
                }
                true
            },
        );
        self.note(RPCS, &tally);
        if total > RPCS_MAX {
            let (max, total) = (thousands(RPCS_MAX as f64), thousands(total as f64));
            self.notes.push(format!("Only the first {max} of {total} RPCs are drawn."));
        }
        let homa = self.homa_unloaded().map(<[Unloaded]>::to_vec);
        for (transport, rpcs) in self.transports.iter_mut().zip(found) {
            let reference = homa.as_deref().unwrap_or(&transport.document.unloaded);
            transport.figures = figures(rpcs, reference);
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

fn document(path: &Path) -> Result<Document, ReportError> {
    let unreadable = |reason| ReportError::Read { path: path.to_owned(), reason };
    let damaged = |reason: String| ReportError::Damaged { path: path.to_owned(), reason };
    let mut text = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?.take(DOCUMENT_BYTES_MAX);
    file.read_to_end(&mut text).map_err(unreadable)?;
    let value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    let schema = value.get("schema").and_then(serde_json::Value::as_u64);
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
    let bucket = |(index, decile): (usize, &crate::document::Decile)| {
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
        assert_eq!(run.transports[0].figures.slowdown[0].p99, 3.0);
    }
}
