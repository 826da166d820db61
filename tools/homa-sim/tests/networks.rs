//! Homa over networks of all kinds, and over ones that lose packets.

use std::{ops::ControlFlow, path::Path, time::Duration};

use homa_sim::{
    Failure, Loss, Outcome, PortKind, Rate, Routing, Run, Shape, Span, Topology,
    network::Network,
    reproduce::sigcomm18::{self, Messages, Pacing, Profile},
};

fn run(topology: Topology, profile: Profile, load: f64, count: u32) -> Outcome {
    let messages = Messages::of(Messages::published("w3").unwrap().sizes.capped(100_000));
    let config = profile.config(&messages, Pacing::Nic);
    // More than a round trip of any network here.
    let config = config.with(|config| {
        config.unscheduled.bytes = 20_000;
        config.grants.window_bytes = 30_000;
        // A request that is lost twice comes after 100 ms, which is all that the profile remembers.
        config.recovery.finished_memory = Duration::from_secs(1);
    });
    let run = sigcomm18::run(messages.sizes, config, 1, load, count, 1);
    let run = Run { topology, ..run };
    run.run(|_| ControlFlow::Continue(())).unwrap().unwrap()
}

fn assert_all_arrived(outcome: &Outcome) {
    assert!(!outcome.stuck, "messages never arrived");
    assert_eq!((outcome.failed, outcome.samples.unfinished), (0, 0));
}

fn shapes() -> [Shape; 3] {
    [
        Shape::SingleSwitch { hosts: 8 },
        Shape::LeafSpine { racks: 3, hosts_per_rack: 4, spines: 2 },
        Shape::FatTree { k: 4, hosts_per_edge: 2 },
    ]
}

/// Packets that were lost, on links of this kind.
fn lost(outcome: &Outcome, kinds: &[PortKind]) -> u64 {
    let ports = outcome.ports.iter().filter(|port| kinds.contains(&port.kind));
    ports.map(|port| port.lost_packets).sum()
}

#[test]
fn on_every_idle_network_messages_take_the_time_computed() {
    let rate = |mbps| Rate::from_mbps(mbps).unwrap();
    for (cuts_through, routing) in [(false, Routing::Spray), (true, Routing::Ecmp)] {
        for shape in shapes() {
            let topology = Topology {
                shape: shape.clone(),
                cuts_through,
                routing,
                spine_rate: rate(25_000),
                core_rate: rate(40_000),
                propagation: Span::from_ns(20),
                ..Topology::sigcomm18(1)
            };
            let outcome = run(topology, Profile::Paper, 1e-4, 1_000);
            assert_all_arrived(&outcome);
            let all = outcome.samples.all();
            // A last packet that is sprayed may overtake the one before it, if it is at most half
            // as long: that saves its time on the last link, 8 % of what two packets take here.
            let least = if routing == Routing::Spray { 0.9 } else { 0.999 };
            let fast: Vec<_> = all.iter().filter(|sample| sample.slowdown < least).collect();
            assert!(fast.is_empty(), "{shape:?}: {fast:?}");
            // A few meet another message all the same.
            let short = outcome.samples.between(0, 1_400);
            let fast = short.iter().filter(|sample| sample.slowdown < 0.999).count();
            assert_eq!(fast, 0, "{shape:?}");
            let slow = short.iter().filter(|sample| sample.slowdown > 1.001).count();
            assert!(slow * 100 < short.len(), "{shape:?}: {slow} of {}", short.len());
            let long = outcome.samples.between(1_400, u32::MAX);
            let slow = long.iter().filter(|sample| sample.slowdown > 1.05).count();
            assert!(slow * 50 < long.len(), "{shape:?}: {slow} of {}", long.len());
        }
    }
}

#[test]
fn all_messages_arrive_where_links_lose_one_packet_of_a_hundred() {
    for (shape, burst) in shapes().into_iter().zip([None, None, Some(3.0)]) {
        let loss = Loss { hosts: 0.01, switches: 0.01, burst };
        let topology = Topology { shape, loss, ..Topology::sigcomm18(1) };
        let outcome = run(topology, Profile::Default, 0.5, 2_000);
        assert_all_arrived(&outcome);
        let lost = lost(&outcome, &[PortKind::HostUp, PortKind::RackDown]);
        assert!(lost > 20, "{lost} packets");
    }
}

#[test]
fn all_messages_arrive_where_a_link_of_the_spine_fails_and_switches_route_around_it() {
    for routing in [Routing::Spray, Routing::Ecmp] {
        let ends = ["leaf0", "spine1"].map(str::to_owned);
        let failures =
            vec![Failure { ends, at: Span::from_ns(100_000), lasts: Span::from_ns(1 << 40) }];
        let topology = |detection| Topology {
            shape: Shape::LeafSpine { racks: 3, hosts_per_rack: 4, spines: 2 },
            routing,
            failures: failures.clone(),
            detection: Span::from_ns(detection),
            ..Topology::sigcomm18(1)
        };
        let between = [PortKind::RackUp, PortKind::SpineDown];
        let [late, early] = [300_000, 20_000].map(|detection| {
            let outcome = run(topology(detection), Profile::Default, 0.4, 4_000);
            assert_all_arrived(&outcome);
            assert_eq!(lost(&outcome, &[PortKind::HostUp, PortKind::RackDown]), 0);
            lost(&outcome, &between)
        });
        assert!(late > 20 && early < late / 2, "{early} and {late} packets");
    }
}

#[test]
fn all_messages_arrive_in_the_network_of_the_example() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plans/sim/networks/uneven.toml");
    let topology = Network::read(Path::new(path)).unwrap().topology().unwrap();
    assert_eq!(topology.hosts(), 24);
    let outcome = run(topology, Profile::Default, 0.2, 5_000);
    assert_all_arrived(&outcome);
    assert!(lost(&outcome, &[PortKind::RackUp, PortKind::SpineDown]) > 0);
    let tiers: Vec<_> = outcome.switches.iter().map(|tier| (tier.tier, tier.switches)).collect();
    assert_eq!(tiers, [(0, 3), (1, 2)]);
    assert!(outcome.switches[0].used_bytes_max > 0);
}

#[test]
fn the_same_seed_loses_the_same_packets() {
    let loss = Loss { hosts: 0.01, ..Loss::default() };
    let topology = Topology { loss, delay_sigma: 0.3, ..Topology::sigcomm18(1) };
    let [first, again] = [(); 2].map(|()| run(topology.clone(), Profile::Default, 0.5, 1_000));
    assert_eq!((&first.samples, first.counts), (&again.samples, again.counts));
    assert_eq!((&first.ports, &first.switches), (&again.ports, &again.switches));
}
