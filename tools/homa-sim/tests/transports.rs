//! Transports beside Homa in a simulated network.

use std::ops::ControlFlow;

use homa_sim::{
    Buffer, Demand, Outcome, PortKind, Run, Topology,
    reproduce::{
        published,
        sigcomm18::{Messages, Pacing, Profile, Row, gather, rows},
    },
};

const OTHERS: [&str; 5] = ["srpt-oracle", "pfabric", "pias", "phost", "ndp"];

/// 16 hosts that send messages of a workload at 80 % load.
fn run(transport: &str, workload: &str, count: u32, buffer: Buffer) -> Outcome {
    let messages = Messages::published(workload).unwrap();
    let config = Profile::Paper.config(&messages, Pacing::Nic);
    let run = Run {
        topology: Topology { buffer, ..Topology::sigcomm18(1) },
        transport: messages.transport(transport, config).unwrap(),
        sizes: messages.sizes,
        load: published::LOAD,
        messages: count,
        demand: Demand::default(),
        seed: 1,
    };
    let outcome = run.run(|_| ControlFlow::Continue(())).unwrap().unwrap();
    assert!(!outcome.stuck, "{transport}: messages of {workload} never arrived");
    assert_eq!((outcome.failed, outcome.samples.unfinished), (0, 0));
    outcome
}

#[test]
fn all_messages_arrive_once_and_the_same_seed_gives_the_same_run() {
    for transport in OTHERS {
        let [one, two] = [1, 2].map(|_| run(transport, "w3", 3_000, Buffer::Unlimited));
        assert_eq!((&one.samples, one.counts), (&two.samples, two.counts), "{transport}");
        let fastest = one.samples.all().iter().map(|sample| sample.slowdown).fold(9.0, f64::min);
        assert!((0.999..1.1).contains(&fastest), "{transport}: {fastest}");
    }
}

#[test]
fn what_short_queues_drop_is_sent_again() {
    let buffer = Buffer::PerPort { bytes: 12_000 };
    for transport in ["pfabric", "pias", "phost"] {
        let outcome = run(transport, "w4", 500, buffer);
        let down = outcome.ports.iter().find(|port| port.kind == PortKind::RackDown).unwrap();
        assert!(down.dropped_packets > 0, "{transport}");
    }
    let outcome = run("ndp", "w4", 500, buffer);
    let down = outcome.ports.iter().find(|port| port.kind == PortKind::RackDown).unwrap();
    assert!(down.trimmed_packets > 0);
}

/// The mean of the P99 over rows, weighted by their shares: ours and the published one.
fn p99(rows: &[Row]) -> [f64; 2] {
    let percent: f64 = rows.iter().map(|row| row.class.count_percent).sum();
    let mean = |of: fn(&Row) -> f64| {
        rows.iter().map(|row| of(row) * row.class.count_percent).sum::<f64>() / percent
    };
    [mean(|row| row.pooled.p99), mean(|row| row.class.published.unwrap().p99)]
}

/// Transports whose published P99 differs by more than this factor have an order.
const APART: f64 = 1.25;

// Where it is closest, pFabric to pHost in W4, ours are 1.09 to 1.16 apart for the seeds 1 to 3.
#[test]
#[ignore = "for optimized builds: ./test.sh runs it"]
fn transports_are_in_the_published_order_and_short_messages_fastest_with_the_oracle() {
    let workloads = [("w1", 20_000), ("w2", 20_000), ("w3", 20_000), ("w4", 6_000), ("w5", 700)];
    for (workload, count) in workloads {
        let figures = |transport: &&'static str| {
            let classes = published::sigcomm18(transport, workload, published::LOAD);
            // NDP was only published for W5.
            let published = (!classes.is_empty()).then_some(classes)?;
            let outcome = run(transport, workload, count, Buffer::Unlimited);
            let rows = rows(&outcome.samples, &gather(&published, 9.0));
            let short = p99(&rows[..rows.len() / 2])[0];
            Some((*transport, p99(&rows), short))
        };
        let found: Vec<_> = ["homa"].iter().chain(&OTHERS).filter_map(figures).collect();
        let oracle = found[1];
        for (transport, [ours, published], short) in &found {
            assert!(oracle.2 <= *short, "{workload}: {transport} {short}, oracle {}", oracle.2);
            for (other, [our_other, published_other], _) in &found {
                // The longest messages have no order with the oracle: see its documentation.
                // Homa and pFabric are as fast as each other on 16 hosts.
                let unordered = [*transport, *other].contains(&oracle.0)
                    || (*transport, *other) == ("homa", "pfabric");
                if !unordered && APART * published < *published_other {
                    assert!(
                        ours < our_other,
                        "{workload}: {transport} {ours:.2} ({published:.2} published), \
                         {other} {our_other:.2} ({published_other:.2})"
                    );
                }
            }
        }
    }
}
