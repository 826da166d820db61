//! How much is offered: from a share of the link's rate to RPCs per second.

use crate::{
    plan::{LoadPlan, Pattern, ReplyPlan},
    spec::Reply,
    workload::Workload,
};

/// Ethernet header; rates of emulated ports count frames without preamble and check sequence.
const FRAME_BYTES: u64 = 14;

/// Headers per packet that the load is computed with: those of Homa over UDP, the longest of all transports
/// compared, so that the same RPCs are offered to each and none gets more than the share asked for.
const HEADERS_BYTES: u64 = 20 + 8 + 60;

impl From<ReplyPlan> for Reply {
    fn from(plan: ReplyPlan) -> Reply {
        match plan {
            ReplyPlan::Echo => Reply::Echo,
            ReplyPlan::Bytes(bytes) => Reply::Bytes(bytes),
        }
    }
}

/// Bytes on the link for a message, headers of its data packets included (grants and acknowledgements are not).
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

/// RPCs per second that each host begins so that the busiest direction of a link carries the plan's share of its
/// rate.
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
        ReplyPlan::Echo => request,
        ReplyPlan::Bytes(bytes) => wire_bytes(bytes.into(), mtu_bytes) as f64,
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
