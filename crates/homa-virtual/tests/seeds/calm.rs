//! Worlds in which nothing goes wrong: no loss, no late packet, ample buffers, memory for all,
//! everybody at work and honest. What is there for trouble may not happen in them, and calls take
//! no longer than their bytes and their handlers do.

use homa_core::{Config, Stats};
use homa_virtual::{Call, HostPlan, Response, World};

use super::{Counter, MS, SECOND, US};
use std::time::Duration;

/// Troubles that nobody may notice.
pub(super) const HARMLESS: [&str; 3] = ["window", "slow-readers", "refusals"];
/// Everything that is kept for a client is gone so long after the last call.
const KEPT_NS: u64 = 3 * SECOND;

/// So many of these concern what is sent again.
const SENT_AGAIN: usize = 4;
/// What only troubles are answered with.
const NEVER: [(&str, Counter); 32] = [
    ("bytes sent again", |stats| stats.bytes_retransmitted),
    ("retransmissions used", |stats| stats.retransmissions_used),
    ("retransmissions unneeded", |stats| stats.retransmissions_unneeded),
    ("duplicates", |stats| stats.dropped_duplicate),
    ("gap RESENDs", |stats| stats.resends_gap_sent),
    ("tail RESENDs", |stats| stats.resends_tail_sent),
    ("RESENDs of all", |stats| stats.resends_all_sent),
    ("lost GRANTs recovered", |stats| stats.grants_recovered),
    ("peers given up", |stats| stats.peer_timeouts),
    ("responses abandoned", |stats| stats.responses_abandoned),
    ("responses displaced", |stats| stats.responses_displaced),
    ("messages without memory", |stats| stats.messages_unallocated),
    ("unvalidated clients put off", |stats| stats.unvalidated_put_off),
    ("unvalidated clients displaced", |stats| stats.unvalidated_displaced),
    ("requests refused", |stats| stats.requests_refused),
    ("duplicates of finished requests", |stats| stats.finished_hits),
    ("requests for another incarnation", |stats| stats.stale_incarnations),
    ("impostors", |stats| stats.impostors),
    ("packets of a wrong peer", |stats| stats.dropped_wrong_peer),
    ("control packets dropped", |stats| stats.control_dropped),
    ("replies suppressed", |stats| stats.replies_suppressed),
    ("transmit unreachable", |stats| stats.transmit_unreachable),
    ("transmit refused", |stats| stats.transmit_refused),
    ("black holes", |stats| stats.mtu_black_holes),
    ("clock jumps", |stats| stats.clock_jumps),
    ("ICMP errors", |stats| stats.icmp_errors),
    ("malformed packets", |stats| stats.dropped_malformed),
    ("packets to other ports", |stats| stats.dropped_no_such_port),
    ("bad ranges", |stats| stats.dropped_bad_range),
    ("packets without memory", |stats| stats.dropped_no_memory),
    ("messages too long", |stats| stats.dropped_too_long),
    ("packets beyond a limit", |stats| stats.dropped_limit),
];

/// Makes a host and the network in front of it ample.
pub(super) fn make_ample(plan: &mut HostPlan) {
    plan.port.buffer_bytes = 1 << 30;
    plan.rx_buffer_bytes = 1 << 28;
    // Longer than all messages of a world take: what waits for a timeout shows.
    plan.config.recovery.resend_interval = Duration::from_secs(2);
    plan.config.fixed.resend_interval_max = Duration::from_secs(2);
    plan.config.recovery.timeout = Duration::from_secs(8);
}

/// How long a call may take: its handler, and several times what all bytes of the world take, in
/// windows and on the line.
fn limit_ns(
    call: &Call,
    bytes: u64,
    config: &Config,
    line_mbps: Option<u32>,
    delay_ns: u64,
    read_ns: u64,
) -> u64 {
    let plan = &call.plan;
    let service_ns = match plan.response {
        Response::After { service_ns } => service_ns,
        Response::InPieces { service_ns, piece_bytes } => {
            service_ns * u64::from(plan.response_bytes.div_ceil(piece_bytes) + 1)
        }
        Response::Rejected | Response::NotExecuted | Response::Never => 0,
    };
    let line_ns = line_mbps.map_or(0, |mbps| bytes * 8_000 / u64::from(mbps));
    let window = config.unscheduled.in_flight_max_bytes.min(10_000);
    let rounds = bytes / u64::from(window) + 20;
    service_ns + 10 * line_ns + rounds * (4 * delay_ns + 500 * US + read_ns) + 20 * MS
}

/// What did not hold. All calls have ended.
pub(super) fn broken_promises(
    world: &mut World,
    line_mbps: Option<u32>,
    delay_ns: u64,
    read_ns: u64,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let config = world.shard(0).expect("it is up").engine().config().clone();
    let bytes = |call: &Call| {
        u64::from(call.plan.request_bytes) + u64::from(call.plan.response_bytes) + 3_000
    };
    let all_bytes = world.ledger.calls.iter().map(bytes).sum();
    for (number, call) in world.ledger.calls.iter().enumerate() {
        let limit_ns = limit_ns(call, all_bytes, &config, line_mbps, delay_ns, read_ns);
        if call.ended_ns - call.plan.at_ns > limit_ns {
            wrong.push(format!("call {number} took longer than {limit_ns} ns: {call:?}"));
        }
    }
    let end_ns = world.now_ns() + KEPT_NS;
    world.run_until(end_ns);
    let left = world.hosts();
    for host in 0..left {
        let live = world.stats(host).last().map_or(0, |stats: Stats| stats.live_rpcs);
        if live > 0 {
            wrong.push(format!("host {host} keeps {live} RPCs {KEPT_NS} ns after the last call"));
        }
    }
    // A RESEND may overtake the request that the driver had no room for, and be answered that it
    // was never seen.
    let again = world.total(|stats| stats.restarts) > 0;
    let counted = NEVER
        .iter()
        .skip(if again { SENT_AGAIN } else { 0 })
        .map(|(what, counter)| (what, world.total(counter)));
    wrong.extend(
        counted.filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")),
    );
    wrong
}
