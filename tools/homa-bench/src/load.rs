//! How much is offered: from a share of the link's rate to RPCs per second.

use homa_lab::calibrate::Load;

use crate::{
    plan::{LoadPlan, Pattern, Plan},
    spec::Reply,
    workload::Workload,
};

/// Ethernet header; rates of emulated ports count frames without preamble and check sequence.
const FRAME_BYTES: u64 = 14;

/// Headers per packet that the load is computed with: those of Homa over UDP, the longest of all
/// transports compared, so that the same RPCs are offered to each and none gets more than the share
/// asked for.
const HEADERS_BYTES: u64 = 20 + 8 + 60;

/// Bytes on the link for a message, headers of its data packets included (grants and
/// acknowledgements are not).
pub fn wire_bytes(message_bytes: u64, mtu_bytes: u32) -> u64 {
    let payload = u64::from(mtu_bytes).saturating_sub(HEADERS_BYTES).max(1);
    message_bytes + message_bytes.div_ceil(payload).max(1) * (HEADERS_BYTES + FRAME_BYTES)
}

/// Mean bytes on the link for a message of a workload.
pub fn mean_wire_bytes(sizes: &Workload, mtu_bytes: u32) -> f64 {
    let mut before = 0.0;
    let mut mean = 0.0;
    for (length, fraction) in sizes.points() {
        mean += wire_bytes(*length, mtu_bytes) as f64 * (fraction - before);
        before = *fraction;
    }
    mean
}

/// Packets without data per packet with data, about: a TCP acknowledgement for two packets, a GRANT
/// for four and an acknowledgement for each RPC.
const CONTROL_SHARE: f64 = 0.5;

/// A packet without data, as a frame.
const CONTROL_BYTES: f64 = 80.0;

/// What the network of a plan has to carry, all ports together.
pub fn expected(plan: &Plan, sizes: &Workload) -> Load {
    let (load, mtu_bytes) = (&plan.load, plan.network.mtu);
    let hosts = plan.network.hosts;
    let callers = match load.pattern {
        Pattern::AllToAll | Pattern::Ring => hosts,
        Pattern::Incast => hosts.saturating_sub(1),
    };
    let rpcs = rpc_per_s(load, sizes, plan.network.rate, mtu_bytes, hosts) * f64::from(callers);
    let payload = u64::from(mtu_bytes).saturating_sub(HEADERS_BYTES).max(1);
    let (mut before, mut packets, mut bytes) = (0.0, 0.0, 0.0);
    for (length, fraction) in sizes.points() {
        for message in [*length, load.reply.bytes(*length)] {
            packets += message.div_ceil(payload).max(1) as f64 * (fraction - before);
            bytes += wire_bytes(message, mtu_bytes) as f64 * (fraction - before);
        }
        before = *fraction;
    }
    let all = packets * (1.0 + CONTROL_SHARE);
    let frame_bytes = (bytes + packets * CONTROL_SHARE * CONTROL_BYTES) / all.max(1e-9);
    Load { packets_per_s: rpcs * all, frame_bytes }
}

/// RPCs per second that each host begins so that the busiest direction of a link carries the plan's
/// share of its rate.
pub fn rpc_per_s(
    plan: &LoadPlan,
    sizes: &Workload,
    rate_mbps: u32,
    mtu_bytes: u32,
    hosts: u32,
) -> f64 {
    let capacity_bytes_per_s = f64::from(rate_mbps) * 125_000.0 * plan.load;
    let request = mean_wire_bytes(sizes, mtu_bytes);
    let answer = match plan.reply {
        Reply::Echo => request,
        Reply::Bytes(bytes) => wire_bytes(bytes.into(), mtu_bytes) as f64,
    };
    match plan.pattern {
        // Each link carries the requests of its host and the answers to others', in each direction.
        Pattern::AllToAll | Pattern::Ring => capacity_bytes_per_s / (request + answer),
        // Requests of all others come down the first host's link, its answers go up.
        Pattern::Incast => capacity_bytes_per_s / request.max(answer) / f64::from(hosts.max(2) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_its_packets_headers() {
        assert_eq!(wire_bytes(1, 1500), 1 + 102);
        assert_eq!(wire_bytes(1_412, 1500), 1_514);
        assert_eq!(wire_bytes(1_413, 1500), 1_413 + 2 * 102);
    }

    #[test]
    fn full_packets_at_full_load_are_as_many_as_the_links_carry_and_half_as_many_without_data() {
        let sizes = Workload::load("fixed:1412").unwrap();
        let mut plan = Plan::default();
        plan.load.load = 1.0;
        let load = expected(&plan, &sizes);
        let full = 6.0 * 100e6 / 8.0 / 1_514.0;
        assert!((load.packets_per_s / full - 1.5).abs() < 1e-9, "{load:?}");
        assert!((load.frame_bytes - (1_514.0 + 40.0) / 1.5).abs() < 1e-9, "{load:?}");
        plan.load.pattern = Pattern::Incast;
        plan.load.reply = Reply::Bytes(1);
        // One link carries requests, and as many short answers come back.
        let load = expected(&plan, &sizes);
        assert!((load.packets_per_s / (full / 6.0) - 3.0).abs() < 1e-9, "{load:?}");
    }

    #[test]
    fn the_rate_gives_the_share_asked_for() {
        let sizes = Workload::load("fixed:1412").unwrap();
        let plan = LoadPlan { load: 0.8, ..LoadPlan::default() };
        let rate = rpc_per_s(&plan, &sizes, 100, 1500, 6);
        assert!((rate * 2.0 * 1_514.0 * 8.0 / 80e6 - 1.0).abs() < 1e-9, "{rate}");
        let incast = LoadPlan { pattern: Pattern::Incast, ..plan };
        let rate = rpc_per_s(&incast, &sizes, 100, 1500, 6);
        assert!((rate * 5.0 * 1_514.0 * 8.0 / 80e6 - 1.0).abs() < 1e-9, "{rate}");
    }
}
