//! The rounds of a benchmark: the transports take turns at every case.

use std::{net::SocketAddr, time::Duration};

use homa_bench::workload::{FIXED, Workload};

use super::{
    args::{BenchTest, LocalArgs},
    job::{Job, Measurement, Mixed, Outcome, Side, Work},
    pin::Cores,
    plan::Case,
    process,
};
use crate::{
    error::CliError,
    interrupt,
    progress::Progress,
    transport::{Api, Protocol},
};

/// How long a server process may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client process may take beyond its measurement: warm-up, drain, and timeouts of its
/// calls.
const CLIENT_GRACE: Duration = Duration::from_secs(12);

/// Calls under way at a time when the capacity for a workload is measured.
const CAPACITY_OUTSTANDING: u32 = 64;

/// Seconds for the unloaded times of all sizes together, and for the capacity, per turn.
const PREPARE_SECS: f64 = 0.2;

/// Turns of the preparation of the mixed test.
const PREPARE_TURNS: usize = 3;

/// What was measured of one case over one transport, in order of the rounds.
#[derive(Debug)]
pub(crate) struct CaseResults {
    /// The case.
    pub case: Case,
    /// The transport.
    pub protocol: Protocol,
    /// One outcome per round; none for a round that failed or was not reached.
    pub outcomes: Vec<Option<Outcome>>,
    /// Calls per second offered (mixed).
    pub offered_rpc_per_s: Option<f64>,
}

impl CaseResults {
    /// The outcomes there are.
    pub(crate) fn done(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().flatten()
    }
}

/// The state of a benchmark.
pub(crate) struct Rounds<'a> {
    args: &'a LocalArgs,
    congestion: &'a str,
    workload_name: String,
    workload: Workload,
    cores: Cores,
    server: Option<SocketAddr>,
    /// What the mixed test offers, once it is known; the seed is that of the first round.
    mixed: Option<Mixed>,
    /// What has been measured, also after an interruption.
    pub results: Vec<CaseResults>,
    /// What failed and why.
    pub failures: Vec<String>,
}

impl<'a> Rounds<'a> {
    /// Prepares to measure these cases.
    pub(crate) fn new(
        args: &'a LocalArgs,
        congestion: &'a str,
        cases: Vec<Case>,
        (workload_name, workload): (String, Workload),
        cores: Cores,
        server: Option<SocketAddr>,
    ) -> Result<Self, CliError> {
        interrupt::watch(|| {});
        let empty = |case: &Case, protocol: &Protocol| CaseResults {
            case: case.clone(),
            protocol: *protocol,
            outcomes: Vec::new(),
            offered_rpc_per_s: None,
        };
        let protocols = args.transport.protocols(args.carriage);
        let results =
            cases.iter().flat_map(|case| protocols.iter().map(|p| empty(case, p))).collect();
        let failures = Vec::new();
        Ok(Rounds {
            args,
            congestion,
            workload_name,
            workload,
            cores,
            server,
            mixed: None,
            results,
            failures,
        })
    }

    /// Measures all rounds; an error is an interruption, other failures are collected.
    pub(crate) fn run(&mut self) -> Result<(), CliError> {
        let mut progress = Progress::new(u64::from(self.args.rounds) * self.results.len() as u64);
        let mut done = 0;
        if let Some(case) =
            self.results.iter().map(|r| &r.case).find(|case| case.test == BenchTest::Mixed)
        {
            self.prepare_mixed(&case.clone())?;
        }
        let transports = self.args.transport.protocols(self.args.carriage).len();
        for round in 0..self.args.rounds as usize {
            for first in (0..self.results.len()).step_by(transports) {
                for turn in 0..transports {
                    // Who begins changes from round to round.
                    let index = first + (turn + round) % transports;
                    let case = &self.results[index].case;
                    progress.show(done, &format!("round {}, {}", round + 1, case.test.name()));
                    self.measure(index, round)?;
                    done += 1;
                }
            }
        }
        progress.finish();
        Ok(())
    }

    /// One measurement. A transport that failed in a case is not tried there again.
    fn measure(&mut self, index: usize, round: usize) -> Result<(), CliError> {
        if self.results[index].outcomes.contains(&None) {
            return Ok(());
        }
        let (case, protocol) = (self.results[index].case.clone(), self.results[index].protocol);
        let Some(work) = self.work(&case, round) else {
            return Ok(());
        };
        let name = format!("{} over {}", case.test.name(), protocol.name());
        let outcome = self.one(&case, protocol, case.api, work, case.secs);
        let outcome = self.note(&name, outcome)?;
        self.results[index].offered_rpc_per_s = match case.test {
            BenchTest::Mixed => self.mixed.as_ref().map(|mixed| mixed.rpc_per_s),
            _ => None,
        };
        self.results[index].outcomes.push(outcome);
        Ok(())
    }

    /// Keeps a failure for the report; an interruption goes on upwards.
    fn note(
        &mut self,
        name: &str,
        outcome: Result<Outcome, CliError>,
    ) -> Result<Option<Outcome>, CliError> {
        match outcome {
            Ok(outcome) => Ok(Some(outcome)),
            Err(CliError::Interrupted) => Err(CliError::Interrupted),
            Err(_) if interrupt::pressed() => Err(CliError::Interrupted),
            Err(error) => {
                eprintln!("homa: {name}: {error}");
                self.failures.push(format!("{name}: {error}"));
                Ok(None)
            }
        }
    }

    /// What the client has to do; nothing for a mixed test whose preparation failed.
    fn work(&self, case: &Case, round: usize) -> Option<Work> {
        let size_bytes = case.size_bytes.unwrap_or(1);
        Some(match case.test {
            BenchTest::Latency => Work::Alone { sizes_bytes: vec![size_bytes] },
            BenchTest::Rate | BenchTest::Goodput => Work::Closed {
                workload: format!("{FIXED}{size_bytes}"),
                reply_bytes: case.reply_bytes,
                outstanding: case.outstanding.unwrap_or(1),
                seed: self.args.seed,
            },
            BenchTest::Mixed => {
                let mixed = self.mixed.clone()?;
                // Both transports see the same calls; another round sees others.
                Work::Mixed(Mixed { seed: mixed.seed.wrapping_add(round as u64), ..mixed })
            }
        })
    }

    /// Runs a client against a server of its own, or the one given.
    fn one(
        &mut self,
        case: &Case,
        protocol: Protocol,
        api: Api,
        work: Work,
        secs: f64,
    ) -> Result<Outcome, CliError> {
        let settings = case.settings(self.congestion);
        let side = |cpu| Side { protocol, api, settings: settings.clone(), cpu };
        // Dropping the process ends it.
        let (_process, server) = match self.server {
            Some(server) => (None, server),
            None => {
                let (process, server) =
                    process::start(&Job::Serve(side(self.cores.server)), START_TIMEOUT)?;
                (Some(process), server)
            }
        };
        let job = Measurement { side: side(self.cores.client), server, work, secs };
        let timeout = Duration::from_secs_f64(secs) * 2 + CLIENT_GRACE;
        Ok(process::start(&Job::Measure(job), timeout)?.1)
    }

    /// Finds the unloaded time of each class of sizes, and how much to offer. Like everything else
    /// it is done in turns, so that another program that ran for a moment does not decide on all
    /// that follows.
    fn prepare_mixed(&mut self, case: &Case) -> Result<(), CliError> {
        let protocols = self.args.transport.protocols(self.args.carriage);
        let mut found = vec![Some(Prepared::default()); protocols.len()];
        for _ in 0..PREPARE_TURNS {
            for (protocol, found) in protocols.iter().zip(&mut found) {
                // What failed once is not tried again.
                if let Some(before) = found.take() {
                    *found = self.prepare_once(case, *protocol)?.map(|new| before.better(&new));
                }
            }
        }
        let found: Vec<Prepared> = found.into_iter().flatten().collect();
        let base = match self.args.link {
            Some(gbit_per_s) => gbit_per_s * 1e9 / 8.0 / self.workload.mean_bytes(),
            None => found.iter().map(|one| one.rpc_per_s).fold(f64::INFINITY, f64::min),
        };
        let unloaded = found.iter().fold(Vec::new(), |known, one| faster(&known, &one.unloaded));
        if !unloaded.is_empty() && base.is_finite() && base > 0.0 {
            self.mixed = Some(Mixed {
                workload: self.workload_name.clone(),
                rpc_per_s: base * self.args.load,
                unloaded,
                classes_bytes: self.workload.class_ends_bytes(),
                seed: self.args.seed,
            });
        }
        Ok(())
    }

    /// One turn of the preparation; nothing if it failed.
    fn prepare_once(
        &mut self,
        case: &Case,
        protocol: Protocol,
    ) -> Result<Option<Prepared>, CliError> {
        let work = Work::Alone { sizes_bytes: self.sizes_bytes() };
        let unloaded = self.one(case, protocol, Api::Blocking, work, PREPARE_SECS);
        let name = format!("unloaded times over {}", protocol.name());
        let Some(unloaded) = self.note(&name, unloaded)? else {
            return Ok(None);
        };
        let work = Work::Closed {
            workload: self.workload_name.clone(),
            reply_bytes: None,
            outstanding: CAPACITY_OUTSTANDING,
            seed: self.args.seed,
        };
        let capacity = self.one(case, protocol, Api::Event, work, PREPARE_SECS);
        let capacity = self.note(&format!("capacity of {}", protocol.name()), capacity)?;
        Ok(capacity.map(|capacity| Prepared {
            unloaded: unloaded.unloaded,
            rpc_per_s: capacity.rpc_per_s(),
        }))
    }

    /// The sizes between which unloaded times are interpolated: the ends of the classes, and the
    /// shortest.
    fn sizes_bytes(&self) -> Vec<u64> {
        let mut sizes_bytes = self.workload.class_ends_bytes();
        let shortest = self.workload.quantile(0.0);
        if !sizes_bytes.contains(&shortest) {
            sizes_bytes.insert(0, shortest);
        }
        sizes_bytes
    }
}

/// What one transport does undisturbed.
#[derive(Debug, Clone, Default, PartialEq)]
struct Prepared {
    /// Unloaded time by size, in order of size: bytes and microseconds.
    unloaded: Vec<(u64, f64)>,
    /// Calls of the workload it carries per second.
    rpc_per_s: f64,
}

impl Prepared {
    /// The better of two turns in each figure: disturbances only ever make them worse.
    fn better(&self, other: &Prepared) -> Prepared {
        Prepared {
            unloaded: faster(&self.unloaded, &other.unloaded),
            rpc_per_s: self.rpc_per_s.max(other.rpc_per_s),
        }
    }
}

/// For each size the shorter of two times, where both have been measured.
fn faster(known: &[(u64, f64)], found: &[(u64, f64)]) -> Vec<(u64, f64)> {
    if known.is_empty() {
        return found.to_vec();
    }
    known.iter().zip(found).map(|((size, a), (_, b))| (*size, a.min(*b))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowdown_is_measured_against_the_faster_transport_of_each_size() {
        let tcp = [(10, 5.0), (1_000, 9.0)];
        let homa = [(10, 6.0), (1_000, 8.0)];
        assert_eq!(faster(&faster(&[], &tcp), &homa), [(10, 5.0), (1_000, 8.0)]);
    }

    #[test]
    fn a_disturbed_turn_of_the_preparation_decides_nothing() {
        let turn = |time_us, rpc_per_s| Prepared { unloaded: vec![(10, time_us)], rpc_per_s };
        let (calm, disturbed) = (turn(5.0, 900.0), turn(50.0, 20.0));
        let both = Prepared::default().better(&disturbed).better(&calm).better(&disturbed);
        assert_eq!(both, calm);
    }
}
