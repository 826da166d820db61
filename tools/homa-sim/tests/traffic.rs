//! Patterns, arrivals, calls and recordings, over the transports.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::Arc};

use homa_bench::workload::Workload;
use homa_sim::{
    Arrivals, Background, Demand, HostId, Incast, Message, Outcome, Pattern, PortKind, Run,
    SetupError, Time, Topology, Trace, TrafficError,
    reproduce::sigcomm18::{self, Messages, Pacing, Profile, TRANSPORTS},
};

const HOSTS: u32 = 16;
const RECEIVER: HostId = HostId(0);

fn demanded(transport: &str, pacing: Pacing, bytes: u64, demand: Demand) -> Run {
    let messages = Messages::of(Workload::of_length(bytes));
    let config = Profile::Paper.config(&messages, pacing);
    let transport = messages.transport(transport, config).unwrap();
    Run { demand, ..sigcomm18::run(messages.sizes, transport, 1, 0.5, 1_000, 1) }
}

fn homa(bytes: u64, demand: Demand) -> Run {
    demanded("homa", Pacing::Nic, bytes, demand)
}

fn outcome(run: &Run) -> Outcome {
    let outcome = run.run(|_| ControlFlow::Continue(())).unwrap().unwrap();
    assert!(!outcome.stuck, "messages never arrived");
    assert_eq!((outcome.failed, outcome.samples.unfinished), (0, 0));
    outcome
}

fn incast(senders: u32) -> Demand {
    let pattern = Pattern::Incast(Incast { senders, background: None });
    Demand { pattern, ..Demand::default() }
}

fn calls(pattern: Pattern, response_bytes: u64) -> Demand {
    let responses = Some(Workload::of_length(response_bytes));
    Demand { pattern, responses, ..Demand::default() }
}

/// The messages of the load.
fn load(outcome: &Outcome) -> &[Message] {
    // Introductions have eight bytes.
    let begins = outcome.messages.iter().position(|message| message.bytes > 8).unwrap();
    &outcome.messages[begins..]
}

/// Who sends to whom, and when.
fn sent(outcome: &Outcome) -> Vec<(HostId, HostId, Time)> {
    load(outcome).iter().map(|message| (message.from, message.to, message.begun)).collect()
}

/// Part of the time in which the receiver's link sends to it, if it is the only one that does.
fn receiver_utilization(outcome: &Outcome) -> f64 {
    let down = outcome.ports.iter().find(|port| port.kind == PortKind::RackDown).unwrap();
    down.utilization * f64::from(HOSTS)
}

#[test]
fn every_transport_delivers_every_pattern_and_the_same_seed_gives_the_same_run() {
    let background = Some(Background { load: 0.3, sizes: Workload::of_length(3_000) });
    let mixed = Pattern::Incast(Incast { senders: 7, background });
    let demands = [
        Demand { pattern: Pattern::Permutation, ..Demand::default() },
        Demand { arrivals: Arrivals::LogNormal { sigma: 2.0 }, ..Demand::default() },
        incast(15),
        Demand { pattern: mixed.clone(), ..Demand::default() },
        calls(Pattern::AllToAll, 4_000),
        calls(mixed, 20_000),
    ];
    for transport in TRANSPORTS {
        for demand in &demands {
            let run = || Run {
                messages: 200,
                ..demanded(transport, Pacing::Nic, 10_000, demand.clone())
            };
            let [one, two] = [run(), run()].map(|run| outcome(&run));
            assert_eq!(one.samples.all().len(), 170, "{transport}, {demand:?}");
            assert_eq!((&one.samples, one.counts), (&two.samples, two.counts), "{transport}");
            let other = outcome(&Run { seed: 2, ..run() });
            assert_ne!(sent(&one), sent(&other), "{transport}, {demand:?}");
        }
    }
}

#[test]
fn the_load_is_that_of_the_links_that_the_pattern_names() {
    let all = [Pattern::AllToAll, Pattern::Permutation];
    for demand in all.map(|pattern| Demand { pattern, ..Demand::default() }) {
        let outcome = outcome(&homa(10_000, demand.clone()));
        let used = receiver_utilization(&outcome) / f64::from(HOSTS);
        assert!((used - 0.5).abs() < 0.04, "{demand:?}: {used}");
    }
    // Requests of 100 bytes and responses of 10,000: the receiver asks all.
    let pattern = incast(1).pattern;
    for demand in [incast(1), incast(15), calls(pattern, 10_000)] {
        let bytes = if demand.responses.is_some() { 100 } else { 10_000 };
        let used = receiver_utilization(&outcome(&homa(bytes, demand.clone())));
        assert!((used - 0.5).abs() < 0.04, "{demand:?}: {used}");
    }
    // 0.5 of the receiver's link, and 0.2 of each.
    let background = Some(Background { load: 0.2, sizes: Workload::of_length(2_000) });
    let pattern = Pattern::Incast(Incast { senders: 5, background });
    let used =
        receiver_utilization(&outcome(&homa(10_000, Demand { pattern, ..Demand::default() })));
    assert!((used - 0.5 - 0.2 * f64::from(HOSTS)).abs() < 0.2, "{used}");
}

#[test]
fn of_a_permutation_each_host_sends_to_one_other_and_gets_from_one() {
    let demand = Demand { pattern: Pattern::Permutation, ..Demand::default() };
    let outcome = outcome(&homa(10_000, demand));
    let mut pairs: Vec<_> =
        load(&outcome).iter().map(|message| (message.from, message.to)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let receivers: BTreeMap<_, _> = pairs.iter().map(|(from, to)| (to, from)).collect();
    assert_eq!((pairs.len(), receivers.len()), (16, 16));
}

#[test]
fn an_incast_begins_at_one_moment_and_comes_again_at_equal_intervals() {
    let outcome = outcome(&homa(10_000, incast(6)));
    let rounds: Vec<_> = load(&outcome).chunks(6).collect();
    for round in &rounds {
        assert!(round.iter().all(|message| message.to == RECEIVER && message.from != RECEIVER));
        assert!(round.iter().all(|message| message.begun == round[0].begun));
    }
    // The last round has what is left of the messages.
    assert_eq!((rounds.len(), rounds[166].len()), (167, 4));
    let begins = rounds.windows(2).map(|pair| pair[1][0].begun.since(pair[0][0].begun));
    let mut intervals: Vec<_> = begins.collect();
    intervals.dedup();
    assert_eq!(intervals.len(), 1, "{intervals:?}");
    // All but one wait at the receiver's link.
    let down = outcome.ports.iter().find(|port| port.kind == PortKind::RackDown).unwrap();
    assert!((40_000..60_000).contains(&down.queued_bytes_max), "{down:?}");
}

#[test]
fn of_calls_the_receiver_of_an_incast_asks_and_the_responses_meet() {
    let outcome = outcome(&homa(100, calls(incast(8).pattern, 10_000)));
    let (requests, responses): (Vec<&Message>, Vec<_>) =
        load(&outcome).iter().partition(|message| message.from == RECEIVER);
    assert_eq!((requests.len(), responses.len()), (1_000, 1_000));
    assert!(requests.iter().all(|message| message.bytes == 100));
    assert!(responses.iter().all(|message| message.to == RECEIVER && message.bytes == 10_000));
    // A response begins when its request has arrived.
    let mut arrived: Vec<_> = requests.iter().map(|message| message.ended).collect();
    arrived.sort_unstable();
    let begun: Vec<_> = responses.iter().map(|message| message.begun).collect();
    assert_eq!(arrived, begun);
}

#[test]
fn on_an_idle_network_a_call_takes_the_time_computed_for_both_ways() {
    // With others acknowledgements leave before the response: each takes 1.1 % of the time.
    for (transport, pacing, most) in [
        ("homa", Pacing::Nic, 1.001),
        ("homa", Pacing::Clock, 1.001),
        ("pfabric", Pacing::Nic, 1.013),
        ("ndp", Pacing::Nic, 1.025),
    ] {
        let run = demanded(transport, pacing, 1_000, calls(Pattern::AllToAll, 300));
        let outcome = outcome(&Run { load: 1e-4, ..run });
        let all = outcome.samples.all();
        assert_eq!(all.len(), 850);
        assert!(all.iter().all(|sample| sample.bytes == 1_300));
        assert!(all.iter().all(|sample| sample.slowdown > 0.999), "{transport}");
        let slow = all.iter().filter(|sample| sample.slowdown > most).count();
        assert!(slow < 10, "{transport}, {pacing:?}: {slow} of {}", all.len());
    }
}

#[test]
fn homa_sends_the_response_as_that_of_the_call_and_none_of_its_own() {
    // A message of a packet whose answer, of a byte, goes through the network takes two packets; a
    // call of two such messages would take four.
    let run = demanded("homa", Pacing::Clock, 1_000, calls(Pattern::AllToAll, 1_000));
    let outcome = outcome(&run);
    let calls = outcome.messages.len() as f64 / 2.0;
    let packets = outcome.counts.packets as f64 / calls;
    assert!((2.0..3.0).contains(&packets), "{packets} packets of a call");
}

#[test]
fn bursts_of_log_normal_arrivals_slow_messages_more_than_a_poisson_process() {
    let slowdown = |arrivals| {
        let outcome = outcome(&homa(1_000, Demand { arrivals, ..Demand::default() }));
        outcome.samples.all().iter().map(|sample| sample.slowdown).sum::<f64>() / 850.0
    };
    let [poisson, bursts] = [Arrivals::Poisson, Arrivals::LogNormal { sigma: 2.0 }].map(slowdown);
    assert!(bursts > 1.1 * poisson, "{bursts} and {poisson}");
}

#[test]
fn a_recording_is_sent_as_it_is() {
    let text = "time_us,from,to,bytes\n10,3,1,5000\n10,1,2,700\n12.5,4,0,90000\n40,3,1,20\n";
    let trace = Trace::parse(text.as_bytes(), Path::new("t.csv"), 5).unwrap();
    let pattern = Pattern::Recorded(Arc::new(trace));
    let run = homa(1, Demand { pattern, ..Demand::default() });
    // There are no more than it has.
    assert_eq!(run.messages, 1_000);
    let outcome = outcome(&run);
    let sent: Vec<_> = load(&outcome)
        .iter()
        .map(|message| {
            let after = message.begun.since(load(&outcome)[0].begun).as_ps() / 1_000;
            (after, message.from.0, message.to.0, message.bytes)
        })
        .collect();
    let expected = [(0, 3, 1, 5_000), (0, 1, 2, 700), (2_500, 4, 0, 90_000), (30_000, 3, 1, 20)];
    assert_eq!(sent, expected);
}

#[test]
fn traffic_that_cannot_be_is_refused_before_anything_runs() {
    let refused = |demand, load| {
        let run = Run { load, ..homa(1_000, demand) };
        let Err(error) = run.run(|_| ControlFlow::Continue(())) else { panic!("it ran") };
        error
    };
    for senders in [0, 16, 40] {
        let error = refused(incast(senders), 0.5);
        assert!(error.to_string().contains("from 1 to 15"), "{error}");
    }
    for background in [0.5, 0.0, f64::NAN] {
        let background = Some(Background { load: background, sizes: Workload::of_length(1) });
        let pattern = Pattern::Incast(Incast { senders: 2, background });
        let error = refused(Demand { pattern, ..Demand::default() }, 0.5);
        assert_eq!(error, SetupError::Traffic(TrafficError::Background));
    }
    for sigma in [0.0, 3.1, f64::NAN] {
        let arrivals = Arrivals::LogNormal { sigma };
        let error = refused(Demand { arrivals, ..Demand::default() }, 0.5);
        assert_eq!(error, SetupError::Traffic(TrafficError::Sigma));
    }
    let text = "time_us,from,to,bytes\n0,17,1,10\n";
    let trace = Trace::parse(text.as_bytes(), Path::new("t.csv"), 18).unwrap();
    let pattern = Pattern::Recorded(Arc::new(trace));
    let error = refused(Demand { pattern, ..Demand::default() }, 0.5);
    assert!(error.to_string().contains("a network of 18 hosts or more"), "{error}");
    assert_eq!(Topology::sigcomm18(1).hosts(), HOSTS);
}
