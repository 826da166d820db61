//! Which measurements a benchmark consists of.

use homa_bench::{pair, workload::FIXED};

use clap::ValueEnum;

use super::{
    args::{BenchTest, LocalArgs},
    job::Work,
};
use crate::{
    error::CliError,
    options::{MESSAGE_BYTES_MAX, Served},
    serve::settings,
    transport::{Api, Protocol, ReceiveBuffer, Settings, TcpWrites, Wait},
};

/// Seconds per measurement when everything is measured, so that it takes less than a minute.
const SECS_OF_ALL: f64 = 0.25;

/// Seconds per measurement when a single test is asked for.
const SECS_OF_ONE: f64 = 1.0;

/// The mixed test needs more calls than the others for the P99 of each class of sizes.
const MIXED_FACTOR: f64 = 2.0;

/// Reply to a request of the goodput test, in bytes.
const SMALL_REPLY_BYTES: u32 = 16;

/// What users compare: bytes of a request, and calls under way at a time.
const SCENES: [(u64, u32); 3] = [(100, 64), (100, 1_000), (1_000_000, 4)];

/// Requests of this length have a short reply when transports are compared; bytes.
pub(crate) const LONG_BYTES: u64 = 100_000;

/// A case: measured once per transport and round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    /// Kind of measurement.
    pub test: BenchTest,
    /// Programming interface.
    pub api: Api,
    /// Settings of client and server.
    pub settings: Settings,
    /// Length of the requests in bytes; none: a workload's.
    pub size_bytes: Option<u64>,
    /// Calls under way at a time; none: no limit.
    pub outstanding: Option<u32>,
    /// What the client does; none: offers the mixed workload, once it is known how much.
    pub work: Option<Work>,
    /// Length of the measurement in seconds.
    pub secs: f64,
    /// The transport, where each has its own interface (compare); none: each that is measured.
    pub over: Option<Protocol>,
}

impl Case {
    /// Whether transports take turns at these two.
    pub(crate) fn is_of_turn(&self, other: &Case) -> bool {
        let scene = |case: &Case| (case.test, case.size_bytes, case.outstanding);
        match self.over.is_some() {
            true => scene(self) == scene(other),
            false => self == other,
        }
    }

    /// Tasks that make the calls, where they are more than one.
    pub(crate) fn tasks(&self) -> Option<u32> {
        match &self.work {
            Some(Work::Tasks { load, .. }) => Some(pair::tasks(load.outstanding)),
            _ => None,
        }
    }

    /// Calls per second that are offered (mixed), once that is known.
    pub(crate) fn offered_rpc_per_s(&self) -> Option<f64> {
        match &self.work {
            Some(Work::Mixed(mixed)) => Some(mixed.rpc_per_s),
            _ => None,
        }
    }
}

/// The workload of the mixed test: the one named, or messages of one size if only `mixed` is asked
/// for.
pub(crate) fn workload(args: &LocalArgs) -> String {
    match (args.test, args.size) {
        (Some(BenchTest::Mixed), Some(size)) => format!("{FIXED}{size}"),
        _ => args.workload.clone(),
    }
}

/// The cases asked for, in the order in which each round measures them.
pub(crate) fn cases(args: &LocalArgs) -> Result<Vec<Case>, CliError> {
    check(args)?;
    let tests = match args.test {
        Some(test) => vec![test],
        None => BenchTest::value_variants().to_vec(),
    };
    Ok(tests.into_iter().flat_map(|test| cases_of(test, args)).collect())
}

fn check(args: &LocalArgs) -> Result<(), CliError> {
    let usage = |text: &str| Err(CliError::Usage(text.to_owned()));
    match args.test {
        Some(BenchTest::Latency) if args.outstanding.is_some_and(|count| count > 1) => {
            usage("`latency` has one call outstanding; use `rate` for more")
        }
        Some(BenchTest::Goodput) if !args.echo && args.size.is_some_and(|size| size < 16) => {
            usage("`goodput` needs --size 16 or more, or --echo")
        }
        _ => Ok(()),
    }
}

fn cases_of(test: BenchTest, args: &LocalArgs) -> Vec<Case> {
    match test {
        BenchTest::Compare => compare(args),
        BenchTest::Latency => latency(args),
        BenchTest::Rate => rate(args),
        BenchTest::Goodput => goodput(args),
        BenchTest::Mixed => vec![mixed(args)],
    }
}

/// A case of many calls at a time from one thread.
fn base(test: BenchTest, args: &LocalArgs) -> Case {
    let usual = if args.test.is_some() { SECS_OF_ONE } else { SECS_OF_ALL };
    Case {
        test,
        api: Api::Event,
        settings: Settings {
            connections: args.conns as usize,
            ..settings(args.busy, MESSAGE_BYTES_MAX)
        },
        size_bytes: None,
        outstanding: None,
        work: None,
        secs: args.secs.map_or(usual, |secs| secs.as_secs_f64()),
        over: None,
    }
}

/// What users compare, each transport through the interfaces that its programs use.
fn compare(args: &LocalArgs) -> Vec<Case> {
    let scenes = match (args.size, args.outstanding) {
        (None, None) => SCENES.to_vec(),
        (size, count) => vec![(size.unwrap_or(SCENES[0].0), count.unwrap_or(SCENES[0].1))],
    };
    let scenes = scenes.into_iter();
    scenes
        .flat_map(|scene| contenders(args).map(move |over| contender(args, scene, over)))
        .collect()
}

/// The transports that are compared, with their interfaces, in the order of the table.
fn contenders(args: &LocalArgs) -> impl Iterator<Item = (Protocol, Api)> + use<> {
    let homa = Protocol::HomaUdp.over(args.carriage);
    let (known, busy) = (args.transport.protocols(args.carriage), args.busy);
    // A server elsewhere speaks neither QUIC nor gRPC.
    let peers = args.transport == Served::Both && args.server.is_none();
    let all = [
        (homa, Api::Event),
        (homa, Api::Tokio),
        (Protocol::Tcp, Api::Tokio),
        (Protocol::Tcp, Api::Event),
        (Protocol::Quic, Api::Tokio),
        (Protocol::Grpc, Api::Tokio),
    ];
    all.into_iter().filter(move |(protocol, api)| {
        // Tokio does not poll without pause.
        let waits = !busy || *api == Api::Event;
        waits && if protocol.is_peer() { peers } else { known.contains(protocol) }
    })
}

fn contender(args: &LocalArgs, scene: (u64, u32), (protocol, api): (Protocol, Api)) -> Case {
    let long = scene.0 >= LONG_BYTES && !args.echo;
    let reply_bytes = long.then_some(SMALL_REPLY_BYTES);
    let mut case = closed(BenchTest::Compare, args, scene, reply_bytes);
    (case.api, case.over) = (api, Some(protocol));
    if api == Api::Tokio {
        let load = pair::Closed { request_bytes: scene.0, outstanding: scene.1, secs: case.secs };
        case.work = Some(Work::Tasks { load, reply_bytes });
    }
    case
}

/// One call at a time: each API's own blocking wait, polling without pause, and tokio; for the
/// first size also Homa that sleeps at once, so that the gain from spinning for a while is seen
/// apart.
fn latency(args: &LocalArgs) -> Vec<Case> {
    let modes: &[(bool, Api)] = match args.busy {
        true => &[(true, Api::Blocking)],
        false => &[(false, Api::Blocking), (true, Api::Blocking), (false, Api::Tokio)],
    };
    let sizes = args.size.map_or(vec![100, 10_000], |size| vec![size]);
    let case = |busy, api, size| Case {
        api,
        settings: settings(busy, MESSAGE_BYTES_MAX),
        size_bytes: Some(size),
        outstanding: Some(1),
        work: Some(Work::Alone { sizes_bytes: vec![size] }),
        ..base(BenchTest::Latency, args)
    };
    let mut cases = Vec::new();
    for (busy, api) in modes {
        cases.extend(sizes.iter().map(|size| case(*busy, *api, *size)));
    }
    // How a server elsewhere waits is not ours to set.
    if !args.busy && args.server.is_none() {
        let mut without = case(false, Api::Blocking, sizes[0]);
        without.settings.spin = false;
        cases.insert(sizes.len(), without);
    }
    cases
}

/// A case of a number of calls at a time, which are all of one length.
fn closed(
    test: BenchTest,
    args: &LocalArgs,
    (size, outstanding): (u64, u32),
    reply_bytes: Option<u32>,
) -> Case {
    let size_bytes = args.size.unwrap_or(size);
    let outstanding = args.outstanding.unwrap_or(outstanding);
    let workload = format!("{FIXED}{size_bytes}");
    Case {
        size_bytes: Some(size_bytes),
        outstanding: Some(outstanding),
        work: Some(Work::Closed { workload, reply_bytes, outstanding, seed: args.seed }),
        ..base(test, args)
    }
}

/// Many small calls at a time, against TCP that gathers messages, and against TCP that writes each
/// when it is made. Homa is the same in both.
fn rate(args: &LocalArgs) -> Vec<Case> {
    let gathered = closed(BenchTest::Rate, args, (100, 64), None);
    let mut each = gathered.clone();
    each.settings.tcp_writes = TcpWrites::Each;
    vec![gathered, each]
}

fn goodput(args: &LocalArgs) -> Vec<Case> {
    let reply_bytes = (!args.echo).then_some(SMALL_REPLY_BYTES);
    let large = closed(BenchTest::Goodput, args, (1_000_000, 4), reply_bytes);
    // The buffers of a server elsewhere are not ours to set.
    if args.server.is_some() {
        return vec![large];
    }
    let mut stock = large.clone();
    stock.settings.receive_buffer = ReceiveBuffer::Stock;
    vec![large, stock]
}

fn mixed(args: &LocalArgs) -> Case {
    let mut case = base(BenchTest::Mixed, args);
    // Queueing is what is measured: the time to wake a sleeping core would hide it.
    case.settings.wait = Wait::Busy;
    case.secs *= MIXED_FACTOR;
    case
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        args::{Cli, Command},
        bench::args::BenchCommand,
    };

    fn plan(line: &str) -> Result<Vec<Case>, CliError> {
        let words = ["homa", "bench", "local"].into_iter().chain(line.split_whitespace());
        let Command::Bench { args, .. } = Cli::try_parse_from(words).unwrap().command else {
            panic!("not bench")
        };
        let Some(BenchCommand::Local(args)) = args.command else { panic!("not local") };
        cases(&args)
    }

    #[test]
    fn without_options_everything_is_measured_in_less_than_two_minutes() {
        let cases = plan("").unwrap();
        for test in BenchTest::value_variants() {
            assert!(cases.iter().any(|case| case.test == *test), "{test:?}");
        }
        // Five rounds, a fifth or 30 ms of warm-up and 50 ms to start processes.
        let transports = |case: &Case| if case.over.is_some() { 1.0 } else { 2.0 };
        let time = |case: &Case| transports(case) * 5.0 * (case.secs * 1.2 + 0.05);
        let total: f64 = cases.iter().map(time).sum();
        assert!(total < 90.0, "{total} s");
    }

    #[test]
    fn the_comparison_of_users_comes_first_with_tokio_and_tcp_that_gathers_on_top() {
        let cases = plan("").unwrap();
        let names = |cases: &[Case]| -> Vec<(Protocol, Api)> {
            cases.iter().filter_map(|case| Some((case.over?, case.api))).collect()
        };
        let expected = [
            (Protocol::HomaUdp, Api::Event),
            (Protocol::HomaUdp, Api::Tokio),
            (Protocol::Tcp, Api::Tokio),
            (Protocol::Tcp, Api::Event),
            (Protocol::Quic, Api::Tokio),
            (Protocol::Grpc, Api::Tokio),
        ];
        for (scene, (size, outstanding)) in cases.chunks(6).zip(SCENES) {
            assert_eq!(names(scene), expected);
            assert!(scene.iter().all(|case| case.is_of_turn(&scene[0])));
            assert_eq!(
                (scene[0].size_bytes, scene[0].outstanding),
                (Some(size), Some(outstanding))
            );
        }
        assert!(!cases[0].is_of_turn(&cases[6]) && cases[18].over.is_none());
        let gathers = |case: &Case| case.settings.tcp_writes == TcpWrites::Gathered;
        assert!(cases[..18].iter().all(gathers));
    }

    #[test]
    fn only_transports_that_can_be_measured_are_compared() {
        let protocols = |line: &str| -> Vec<(Protocol, Api)> {
            let cases = plan(&format!("compare --size 10 {line}")).unwrap();
            cases.iter().filter_map(|case| Some((case.over?, case.api))).collect()
        };
        assert_eq!(protocols("").len(), 6);
        assert_eq!(
            protocols("--transport tcp"),
            [(Protocol::Tcp, Api::Tokio), (Protocol::Tcp, Api::Event)]
        );
        assert_eq!(
            protocols("--busy"),
            [(Protocol::HomaUdp, Api::Event), (Protocol::Tcp, Api::Event)]
        );
        assert!(protocols("--server 10.0.0.1:1").iter().all(|(protocol, _)| !protocol.is_peer()));
    }

    #[test]
    fn the_comparison_takes_another_size_or_number_of_calls() {
        for (line, expected) in [
            ("compare --size 2k", (Some(2_000), Some(64))),
            ("compare --outstanding 7", (Some(100), Some(7))),
        ] {
            let cases = plan(line).unwrap();
            assert_eq!(cases.len(), 6, "{line}");
            let found = cases.iter().all(|case| (case.size_bytes, case.outstanding) == expected);
            assert!(found, "{line}");
        }
        let many = plan("compare --outstanding 1000").unwrap();
        let tasks: Vec<_> = many.iter().map(Case::tasks).collect();
        assert_eq!(tasks, [None, Some(16), Some(16), None, Some(16), Some(16)]);
    }

    #[test]
    fn one_test_has_its_own_options() {
        let cases = plan("rate --outstanding 7 --size 2k --conns 3 --busy --secs 2").unwrap();
        assert_eq!(cases.len(), 2);
        for case in &cases {
            assert_eq!(
                (case.outstanding, case.size_bytes, case.settings.connections),
                (Some(7), Some(2_000), 3)
            );
            assert_eq!((case.settings.wait, case.secs), (Wait::Busy, 2.0));
        }
    }

    #[test]
    fn tcp_gathers_messages_of_the_rate_test_and_writes_each_in_a_row_of_its_own() {
        let cases = plan("").unwrap();
        let writes = |test| -> Vec<TcpWrites> {
            let of_test = cases.iter().filter(|case| case.test == test);
            of_test.map(|case| case.settings.tcp_writes).collect()
        };
        assert_eq!(writes(BenchTest::Rate), [TcpWrites::Gathered, TcpWrites::Each]);
        for test in [BenchTest::Goodput, BenchTest::Mixed] {
            assert!(writes(test).iter().all(|writes| *writes == TcpWrites::Gathered), "{test:?}");
        }
    }

    #[test]
    fn one_row_of_sleeping_latency_goes_without_spinning() {
        for (line, size) in [("", Some(100)), ("latency --size 5", Some(5))] {
            let cases = plan(line).unwrap();
            let without: Vec<_> = cases.iter().filter(|case| !case.settings.spin).collect();
            assert_eq!(without.len(), 1, "{line}");
            assert_eq!((without[0].settings.wait, without[0].api), (Wait::Sleep, Api::Blocking));
            assert_eq!(without[0].size_bytes, size);
        }
        for line in ["--busy", "--server 10.0.0.1:1", "rate"] {
            assert!(plan(line).unwrap().iter().all(|case| case.settings.spin), "{line}");
        }
    }

    #[test]
    fn the_waiting_mode_is_the_same_for_both_sides_of_both_transports() {
        for case in plan("--busy").unwrap() {
            assert_eq!(case.settings.wait, Wait::Busy);
        }
    }

    #[test]
    fn options_without_meaning_are_refused() {
        assert!(matches!(plan("latency --outstanding 2"), Err(CliError::Usage(_))));
        assert!(matches!(plan("goodput --size 10"), Err(CliError::Usage(_))));
    }
}
