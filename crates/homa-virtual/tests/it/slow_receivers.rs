//! Many long messages to a host that takes them slower than they are sent: what is merely late must
//! not be sent again and again. On the virtual network, ten times and a hundred times slower than
//! the senders' links.

use homa_core::Carriage;
use homa_virtual::{CallEnd, CallPlan, HostPlan, PortPlan, World};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// Packets a virtual host takes in one turn.
const TURN_PACKETS: u64 = 64;
/// The receiving host.
const SLOW: usize = 0;

/// What is slow.
#[derive(Clone, Copy, Debug)]
enum Slow {
    /// The processor takes so long for a packet.
    PacketNs(u64),
    /// The link to the host, in 10^6 bit/s, behind a switch with a buffer of so many bytes.
    Link(u32, u64),
    /// Whoever reads requests as they come looks so late.
    ReaderNs(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Udp,
    IpNative,
    IpLinux,
}

/// `senders` hosts on links of 10 Gbit/s and one slow host, all with stock receive buffers.
fn world(slow: Slow, format: Format, senders: u8) -> World {
    let mut world = World::new(77);
    for number in 0..=senders {
        let mut plan = HostPlan::new(number + 1);
        plan.uplink_mbps = Some(10_000);
        plan.port = PortPlan { mbps: Some(10_000), buffer_bytes: 1 << 20 };
        plan.rx_buffer_bytes = 212_992;
        plan.config.peers.discover = format == Format::IpNative;
        if format != Format::Udp {
            plan.carriage = Carriage::Ip;
        }
        match slow {
            _ if usize::from(number) != SLOW => {}
            Slow::PacketNs(ns) => plan.turn_gap_ns = TURN_PACKETS * ns,
            Slow::Link(mbps, buffer_bytes) => {
                plan.port = PortPlan { mbps: Some(mbps), buffer_bytes };
            }
            Slow::ReaderNs(ns) => {
                plan.stream_requests = true;
                plan.read_delay_ns = ns;
            }
        }
        world.add_host(plan);
    }
    // The hosts get to know each other.
    for sender in 1..=usize::from(senders) {
        world.call(CallPlan::new(sender, SLOW, 100, 100));
        world.call(CallPlan::new(SLOW, sender, 100, 100));
    }
    world
}

/// `calls` messages of 60,000 to 1,000,000 bytes at once, as requests or as responses. All are
/// answered, and what is sent again is at most `again_max_percent` of what is useful.
#[track_caller]
fn check(slow: Slow, format: Format, (senders, calls): (u8, u32), again_max_percent: u64) {
    for as_responses in [false, true] {
        let mut world = world(slow, format, senders);
        let mut useful_bytes = 0;
        for index in 0..calls {
            let length = 60_000 + index.wrapping_mul(389_117) % 940_001;
            let sender = 1 + index as usize % usize::from(senders);
            let plan = match as_responses {
                false => CallPlan::new(sender, SLOW, length, 100),
                true => CallPlan::new(SLOW, sender, 100, length),
            };
            useful_bytes += u64::from(length);
            world.call(CallPlan { at_ns: 3 * MS, ..plan });
        }
        let case =
            format!("{slow:?} {format:?} {senders} senders {calls} responses {as_responses}");
        assert!(world.run_calls(60 * SECOND), "{case}: calls have not ended");
        let ended = world.ledger.calls.iter().map(|call| call.end);
        let failed: Vec<_> = ended.filter(|end| *end != Some(CallEnd::Answered)).collect();
        assert!(failed.is_empty(), "{case}: {failed:?}");
        assert_eq!(world.ledger.violations, [""; 0], "{case}");
        assert_eq!(world.ledger.executed_twice(), [0; 0], "{case}");
        let again_bytes = world.total(|stats| stats.bytes_retransmitted);
        let percent = again_bytes * 100 / useful_bytes;
        println!("{percent:3} % again: {case}");
        assert!(percent <= again_max_percent, "{percent} % was sent again: {case}");
    }
}

const FORMATS: [Format; 3] = [Format::Udp, Format::IpNative, Format::IpLinux];
/// Sending hosts and messages; without optimisation the small ones are enough.
const LOADS: &[(u8, u32)] = if cfg!(debug_assertions) {
    &[(1, 20), (4, 40)]
} else {
    &[(1, 20), (1, 100), (4, 40), (16, 96)]
};

#[test]
fn a_host_that_reads_ten_times_slower_than_the_link_gets_few_bytes_twice() {
    for format in FORMATS {
        for load in LOADS.iter().copied() {
            check(Slow::PacketNs(12_000), format, load, 20);
        }
    }
}

#[test]
fn a_host_that_reads_forty_times_slower_than_the_link_gets_few_bytes_twice() {
    for format in FORMATS {
        for load in LOADS.iter().copied() {
            check(Slow::PacketNs(50_000), format, load, 25);
        }
    }
}

#[test]
fn a_link_that_is_ten_times_slower_carries_few_bytes_twice() {
    for format in FORMATS {
        for load in LOADS.iter().copied() {
            check(Slow::Link(1000, 128 << 10), format, load, 20);
            check(Slow::Link(1000, 1 << 20), format, load, 20);
        }
    }
}

#[test]
fn a_link_that_is_a_hundred_times_slower_carries_at_most_two_thirds_twice() {
    for format in FORMATS {
        // Of more, the longest would wait for their turn until a Linux host gives them up.
        for (senders, calls) in LOADS.iter().copied() {
            check(Slow::Link(100, 1 << 20), format, (senders, calls.min(60)), 66);
        }
    }
}

#[test]
fn an_application_that_reads_late_causes_few_repetitions() {
    for format in FORMATS {
        for load in LOADS.iter().copied() {
            check(Slow::ReaderNs(5 * MS), format, load, 10);
        }
    }
}

/// Requests of 5,000 bytes, all sent without a grant, take 85 % of the link to one host, after a
/// burst of them has filled its port. What is lost then must come once more, not several times: the
/// copies alone would keep the port full.
#[test]
fn a_port_that_overflowed_drains_although_nothing_that_comes_needs_a_grant() {
    const SENDERS: usize = 5;
    const BYTES: u32 = 5_000;
    const BURST: u64 = 300;
    // 5,000 bytes in four packets with their headers take 424 us of 100 Mbit/s.
    const EVERY_NS: u64 = 500_000;
    const CALLS: u64 = 8_000;
    for format in FORMATS {
        let mut world = world(Slow::Link(100, 500_000), format, SENDERS as u8);
        for index in 0..BURST + CALLS {
            let sender = 1 + index as usize % SENDERS;
            let at_ns = 3 * MS + index.saturating_sub(BURST) * EVERY_NS;
            world.call(CallPlan { at_ns, ..CallPlan::new(sender, SLOW, BYTES, 100) });
        }
        assert!(world.run_calls(60 * SECOND), "{format:?}: calls have not ended");
        let ends = world.ledger.calls.iter().filter(|call| call.end != Some(CallEnd::Answered));
        assert_eq!(ends.count(), 0, "{format:?}: calls that failed");
        let useful_bytes = (BURST + CALLS) * u64::from(BYTES);
        let percent = world.total(|stats| stats.bytes_retransmitted) * 100 / useful_bytes;
        let in_vain = world.total(|stats| stats.retransmissions_unneeded);
        println!("{percent:3} % again, {in_vain} packets in vain: {format:?}");
        // Hosts of Linux format are asked at the highest priority, before what they are asked about
        // can have come.
        let limit = if format == Format::IpLinux { 45 } else { 2 };
        assert!(percent <= limit, "{percent} % was sent again: {format:?}");
        assert!(in_vain <= (BURST + CALLS) / 8, "{in_vain} packets in vain: {format:?}");
    }
}
