//! The rounds of a benchmark: the transports take turns at every case.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    path::PathBuf,
    time::Duration,
};

use homa_bench::{
    pair,
    spec::{HostSpec, Reply},
    transport::Transport,
    workload::Workload,
};
use homa_transport::Config;

use super::{
    args::LocalArgs,
    distance::Distances,
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

/// How long a client process may take beyond its measurement, for each of the windows that it has
/// one after the other: warm-up, drain, and timeouts of its calls.
const CLIENT_GRACE: Duration = Duration::from_secs(12);

/// Calls under way at a time when the capacity for a workload is measured.
const CAPACITY_OUTSTANDING: u32 = 64;

/// Seconds for the unloaded times of all sizes together, and for the capacity, per turn.
const PREPARE_SECS: f64 = 0.2;

/// Connections that the program for other transports opens at most.
const PEER_CONNECTIONS_MAX: usize = 256;

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
}

impl CaseResults {
    /// None yet.
    pub(crate) fn new(case: Case, protocol: Protocol) -> Self {
        CaseResults { case, protocol, outcomes: Vec::new() }
    }

    /// Whether both were measured in the same turn through the same kind of interface.
    pub(crate) fn is_beside(&self, other: &CaseResults) -> bool {
        self.case.is_of_turn(&other.case) && self.case.api == other.case.api
    }

    /// What was measured in these rounds only.
    pub(crate) fn of_rounds(&self, wanted: impl Fn(usize) -> bool) -> CaseResults {
        let outcomes = self.outcomes.iter().enumerate().filter(|(round, _)| wanted(*round));
        let outcomes = outcomes.map(|(_, outcome)| outcome.clone()).collect();
        CaseResults { case: self.case.clone(), protocol: self.protocol, outcomes }
    }

    /// The outcomes there are.
    pub(crate) fn done(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().flatten()
    }
}

/// The state of a benchmark.
pub(crate) struct Rounds<'a> {
    args: &'a LocalArgs,
    protocols: Vec<Protocol>,
    /// The workload of the mixed test, by its name and in full.
    workload: (&'a str, Workload),
    cores: Cores,
    /// The server that is given; none: each measurement starts one.
    server: Option<SocketAddr>,
    /// The program that speaks QUIC and gRPC, if there is one.
    peer: Option<PathBuf>,
    /// How far apart the cores were in each round.
    pub distances: Distances,
    /// What has been measured, also after an interruption.
    pub results: Vec<CaseResults>,
    /// What failed and why.
    pub failures: Vec<String>,
}

impl<'a> Rounds<'a> {
    /// Prepares to measure these cases, and watches for Ctrl-C from now on.
    pub(crate) fn new(
        args: &'a LocalArgs,
        protocols: Vec<Protocol>,
        cases: Vec<Case>,
        workload: (&'a str, Workload),
        (cores, server, peer): (Cores, Option<SocketAddr>, Option<PathBuf>),
    ) -> Self {
        interrupt::watch(|| {});
        let of_case = |case: &Case| -> Vec<CaseResults> {
            let over = case.over.map_or_else(|| protocols.clone(), |protocol| vec![protocol]);
            let empty = |protocol| CaseResults::new(case.clone(), protocol);
            over.into_iter().map(empty).collect()
        };
        let results = cases.iter().flat_map(of_case).collect();
        let (distances, failures) = (Distances::new(cores), Vec::new());
        Rounds { args, protocols, workload, cores, server, peer, distances, results, failures }
    }

    /// Measures all rounds; an error is an interruption, other failures are collected.
    pub(crate) fn run(&mut self) -> Result<(), CliError> {
        let mut progress = Progress::new(u64::from(self.args.rounds) * self.results.len() as u64);
        let mut done = 0;
        self.prepare_mixed()?;
        let turns = turns(&self.results);
        for round in 0..self.args.rounds as usize {
            self.distances.measure(self.cores);
            for turn in &turns {
                for place in 0..turn.len() {
                    // Who begins changes from round to round.
                    let index = turn.start + (place + round) % turn.len();
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

    /// One measurement. A transport that failed in a case is not tried there again, nor a mixed
    /// test whose preparation failed.
    fn measure(&mut self, index: usize, round: usize) -> Result<(), CliError> {
        let CaseResults { case, protocol, outcomes } = &self.results[index];
        let (case, protocol) = (case.clone(), *protocol);
        let mut work = match &case.work {
            Some(work) if !outcomes.contains(&None) => work.clone(),
            _ => return Ok(()),
        };
        if let Work::Mixed(mixed) = &mut work {
            // Both transports see the same calls; another round sees others.
            mixed.seed = mixed.seed.wrapping_add(round as u64);
        }
        let outcome = self.one(case.test.name(), &case, protocol, work)?;
        self.results[index].outcomes.push(outcome);
        Ok(())
    }

    /// Does one work; keeps a failure for the report, while an interruption goes on upwards.
    fn one(
        &mut self,
        what: &str,
        case: &Case,
        protocol: Protocol,
        work: Work,
    ) -> Result<Option<Outcome>, CliError> {
        match self.try_one(case, protocol, work) {
            Ok(outcome) => Ok(Some(outcome)),
            Err(CliError::Interrupted) => Err(CliError::Interrupted),
            Err(_) if interrupt::pressed() => Err(CliError::Interrupted),
            Err(error) => {
                let failure = format!("{what} over {}: {error}", protocol.name());
                eprintln!("homa: {failure}");
                self.failures.push(failure);
                Ok(None)
            }
        }
    }

    /// Runs a client against a server of its own, or the one given.
    fn try_one(&self, case: &Case, protocol: Protocol, work: Work) -> Result<Outcome, CliError> {
        if let Some(peer) = peer_transport(protocol, case.settings.connections) {
            return self.try_peer(peer, &work);
        }
        let side = |cpu| Side { protocol, api: case.api, settings: case.settings.clone(), cpu };
        // Dropping the process ends it.
        let (_process, server) = match self.server {
            Some(server) => (None, server),
            None => {
                let serve = Job::Serve(side(self.cores.server));
                let (process, server) = process::start(&serve, START_TIMEOUT)?;
                (Some(process), server)
            }
        };
        let windows = match &work {
            Work::Alone { sizes_bytes } => sizes_bytes.len() as u32,
            Work::Closed { .. } | Work::Tasks { .. } | Work::Mixed(_) => 1,
        };
        let timeout = Duration::from_secs_f64(case.secs) * 2 + CLIENT_GRACE * windows;
        let job = Measurement { side: side(self.cores.client), server, work, secs: case.secs };
        Ok(process::start(&Job::Measure(job), timeout)?.1)
    }

    /// The same with the program that speaks other transports.
    fn try_peer(&self, transport: Transport, work: &Work) -> Result<Outcome, CliError> {
        let (Some(program), Work::Tasks { load, reply_bytes }) = (&self.peer, work) else {
            return Err(CliError::Process(format!("{transport} cannot be measured so")));
        };
        let spec = peer_spec(transport, load, *reply_bytes);
        let side = |cpu| pair::Side { spec: spec.clone(), cpu };
        let serve = pair::Job::Serve(side(self.cores.server));
        // Dropping the process ends it.
        let (_process, server) = process::start_peer(program, &serve, START_TIMEOUT)?;
        let side = side(self.cores.client);
        let job = pair::Job::Measure { side, server, load: load.clone() };
        let found: pair::Outcome =
            process::start_peer(program, &job, load.timeout() + CLIENT_GRACE)?.1;
        Ok(found.into())
    }

    /// Finds the unloaded time of each class of sizes, and how much to offer. Like everything else
    /// it is done in turns, so that another program that ran for a moment does not decide on all
    /// that follows.
    fn prepare_mixed(&mut self) -> Result<(), CliError> {
        let mut cases = self.results.iter().map(|results| &results.case);
        let Some(case) = cases.find(|case| case.work.is_none()).cloned() else {
            return Ok(());
        };
        let protocols = self.protocols.clone();
        let mut found = vec![Some(Prepared::default()); protocols.len()];
        for _ in 0..PREPARE_TURNS {
            for (protocol, found) in protocols.iter().zip(&mut found) {
                // What failed once is not tried again.
                if let Some(before) = found.take() {
                    *found = self.prepare_once(&case, *protocol)?.map(|new| before.better(&new));
                }
            }
        }
        let found: Vec<Prepared> = found.into_iter().flatten().collect();
        let (workload, sizes) = &self.workload;
        let base = match self.args.link {
            Some(gbit_per_s) => gbit_per_s * 1e9 / 8.0 / sizes.mean_bytes(),
            None => found.iter().map(|one| one.rpc_per_s).fold(f64::INFINITY, f64::min),
        };
        let unloaded = found.iter().fold(Vec::new(), |known, one| faster(&known, &one.unloaded));
        if !unloaded.is_empty() && base.is_finite() && base > 0.0 {
            let work = Work::Mixed(Mixed {
                workload: (*workload).to_owned(),
                rpc_per_s: base * self.args.load,
                unloaded,
                classes_bytes: sizes.class_ends_bytes(),
                seed: self.args.seed,
            });
            let cases = self.results.iter_mut().map(|results| &mut results.case);
            cases.for_each(|case| {
                case.work.get_or_insert_with(|| work.clone());
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
        let many = Case { secs: PREPARE_SECS, ..case.clone() };
        let alone = Case { api: Api::Blocking, ..many.clone() };
        let work = Work::Alone { sizes_bytes: self.sizes_bytes() };
        let Some(unloaded) = self.one("unloaded times", &alone, protocol, work)? else {
            return Ok(None);
        };
        let work = Work::Closed {
            workload: self.workload.0.to_owned(),
            reply_bytes: None,
            outstanding: CAPACITY_OUTSTANDING,
            seed: self.args.seed,
        };
        let capacity = self.one("capacity", &many, protocol, work)?;
        Ok(capacity.map(|capacity| Prepared {
            unloaded: unloaded.unloaded,
            rpc_per_s: capacity.rpc_per_s(),
        }))
    }

    /// The sizes between which unloaded times are interpolated: the ends of the classes, and the
    /// shortest.
    fn sizes_bytes(&self) -> Vec<u64> {
        let sizes = &self.workload.1;
        let mut found = vec![sizes.quantile(0.0)];
        found.extend(sizes.class_ends_bytes());
        found.dedup();
        found
    }
}

/// Which results belong to one turn of the transports.
fn turns(results: &[CaseResults]) -> Vec<Range<usize>> {
    let of_turn = results.chunk_by(|one, next| one.case.is_of_turn(&next.case));
    let mut end = 0;
    let range = |turn: &[CaseResults]| {
        end += turn.len();
        end - turn.len()..end
    };
    of_turn.map(range).collect()
}

/// The transport as the program that speaks it calls it.
fn peer_transport(protocol: Protocol, connections: usize) -> Option<Transport> {
    let connections = connections.clamp(1, PEER_CONNECTIONS_MAX) as u32;
    match protocol {
        Protocol::Quic => Some(Transport::Quic { connections }),
        Protocol::Grpc => Some(Transport::Grpc { connections }),
        _ => None,
    }
}

/// What a process for another transport is told of it.
fn peer_spec(transport: Transport, load: &pair::Closed, reply_bytes: Option<u32>) -> HostSpec {
    let longest = load.request_bytes.max(reply_bytes.unwrap_or(0).into()).max(1_024);
    HostSpec {
        host: 0,
        listen: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        transport,
        homa: Config::default(),
        reply: reply_bytes.map_or(Reply::Echo, Reply::Bytes),
        message_bytes_max: u32::try_from(longest).unwrap_or(u32::MAX),
        service_us: 0,
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
    use crate::bench::plan;

    #[test]
    fn slowdown_is_measured_against_the_faster_transport_of_each_size() {
        let tcp = [(10, 5.0), (1_000, 9.0)];
        let homa = [(10, 6.0), (1_000, 8.0)];
        assert_eq!(faster(&faster(&[], &tcp), &homa), [(10, 5.0), (1_000, 8.0)]);
    }

    #[test]
    fn transports_that_are_compared_take_turns_and_begin_anew_with_each_comparison() {
        let args = |text: &str| LocalArgs { server: Some(text.to_owned()), ..LocalArgs::default() };
        let cases = plan::cases(&args("10.0.0.1:1")).unwrap();
        let both = [Protocol::Tcp, Protocol::HomaUdp];
        let of_case = |case: &Case| -> Vec<CaseResults> {
            let over = case.over.map_or(both.to_vec(), |over| vec![over]);
            over.into_iter().map(|over| CaseResults::new(case.clone(), over)).collect()
        };
        let results: Vec<CaseResults> = cases.iter().flat_map(of_case).collect();
        let turns = turns(&results);
        let lengths: Vec<usize> = turns.iter().map(Range::len).collect();
        assert!(lengths.starts_with(&[4, 4, 4, 2, 2]) && lengths[3..].iter().all(|len| *len == 2));
        assert_eq!(turns.last().map(|turn| turn.end), Some(results.len()));
    }

    #[test]
    fn a_disturbed_turn_of_the_preparation_decides_nothing() {
        let turn = |time_us, rpc_per_s| Prepared { unloaded: vec![(10, time_us)], rpc_per_s };
        let (calm, disturbed) = (turn(5.0, 900.0), turn(50.0, 20.0));
        let both = Prepared::default().better(&disturbed).better(&calm).better(&disturbed);
        assert_eq!(both, calm);
    }
}
