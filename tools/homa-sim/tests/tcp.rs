//! TCP and DCTCP in a simulated network.

use std::ops::ControlFlow;

use homa_sim::{
    Buffer, Demand, Outcome, Run, Topology,
    reproduce::sigcomm18::Messages,
    transport::{
        Choice,
        tcp::{Algorithm, Connections, Settings},
    },
};

/// 16 hosts that send messages of W3 at 60 % load.
fn run(settings: Settings, buffer: Buffer) -> Outcome {
    let run = Run {
        topology: Topology { buffer, ..Topology::sigcomm18(1) },
        sizes: Messages::published("w3").unwrap().sizes,
        load: 0.6,
        messages: 10_000,
        demand: Demand::default(),
        transport: Choice::Tcp(Box::new(settings)),
        seed: 1,
    };
    let outcome = run.run(|_| ControlFlow::Continue(())).unwrap().unwrap();
    assert!(!outcome.stuck, "messages never arrived");
    assert_eq!((outcome.failed, outcome.samples.unfinished), (0, 0));
    outcome
}

fn queued(outcome: &Outcome) -> f64 {
    outcome.ports[1].queued_bytes_mean
}

#[test]
fn dctcp_queues_less_than_tcp_and_both_deliver_everything() {
    let tcp = run(Settings::new(Algorithm::Cubic), Buffer::Unlimited);
    let dctcp = run(Settings::new(Algorithm::Dctcp), Buffer::Unlimited);
    assert!(1.5 * queued(&dctcp) < queued(&tcp), "{} {}", queued(&dctcp), queued(&tcp));
    assert!(dctcp.ports[1].marked_packets > 0 && tcp.ports[1].marked_packets == 0);
}

#[test]
fn a_small_buffer_drops_and_everything_arrives_all_the_same() {
    let buffer = Buffer::Shared { bytes: 200_000, alpha: 1.0 };
    let each = Settings { connections: Connections::PerMessage, ..Settings::new(Algorithm::Cubic) };
    for settings in [Settings::new(Algorithm::Cubic), each] {
        let outcome = run(settings, buffer);
        assert!(outcome.ports[1].dropped_packets > 0);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let one = run(Settings::new(Algorithm::Dctcp), Buffer::Unlimited);
    let two = run(Settings::new(Algorithm::Dctcp), Buffer::Unlimited);
    assert_eq!(one.counts, two.counts);
    assert_eq!(one.samples, two.samples);
}
