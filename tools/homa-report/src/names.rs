//! Settings of plans and runs by names that people know.

/// Keys and what they are called, with their unit.
const NAMES: [(&str, &str); 64] = [
    ("network.kind", "Network"),
    ("network.hosts", "Hosts"),
    ("network.rate", "Rate of the links"),
    ("network.mtu", "Longest packet, bytes"),
    ("network.backend", "Switch of the lab"),
    ("network.buffer", "Buffer of a switch port, bytes"),
    ("network.uplink_buffer", "Buffer of a host's interface, bytes"),
    ("load.workload", "Workload"),
    ("load.message_max", "Longest message, bytes"),
    ("load.load", "Load, as a share of the links"),
    ("load.pattern", "Who calls whom"),
    ("load.reply", "Answers"),
    ("load.client_max", "RPCs of a host under way at most"),
    ("load.warm_up", "Warm-up, s"),
    ("load.secs", "Measured time, s"),
    ("load.drain", "Wait for the last answers, s"),
    ("load.rounds", "Rounds"),
    ("load.seed", "Seed"),
    ("load.together", "All transports at the same time"),
    ("load.fail_host", "Host that fails"),
    ("load.service_us", "Time a server takes per request, µs"),
    ("homa.limits.max_message_bytes", "Longest message, bytes"),
    ("homa.limits.receive_memory_bytes", "Memory for incoming messages, bytes"),
    ("homa.limits.max_rpcs", "RPCs of a host at most"),
    ("homa.unscheduled.bytes", "Bytes sent without a grant"),
    ("homa.unscheduled.remainder_bytes", "Longest remainder sent without a grant, bytes"),
    ("homa.unscheduled.in_flight_max_bytes", "Ungranted bytes to one peer at most"),
    ("homa.grants.max_overcommit", "Messages granted to at a time"),
    ("homa.grants.max_incoming_bytes", "Granted bytes on their way to a host at most"),
    ("homa.grants.incoming_packets_min", "Packets granted ahead at least"),
    ("homa.grants.window_bytes", "Granted ahead to one message, bytes"),
    ("homa.grants.window_rtt_percent", "Granted ahead to one message, % of a round trip"),
    ("homa.grants.step_bytes", "Bytes per grant"),
    ("homa.grants.boost_bytes", "Last bytes granted at unscheduled priority"),
    ("homa.grants.fifo_permille", "Share of grants for the oldest message, ‰"),
    ("homa.priorities.count", "Priority levels"),
    ("homa.priorities.cutoffs", "Longest messages of each level, bytes"),
    ("homa.output.link_mbps", "Rate that senders pace to, Mbit/s"),
    ("homa.output.max_link_usage_percent", "Share of the link that is used, %"),
    ("homa.output.max_nic_backlog", "Sent ahead to the interface at most"),
    ("homa.output.quantum", "Sent at a time"),
    ("homa.output.defer_min_bytes", "Shorter messages are not paced, bytes"),
    ("homa.output.fifo_permille", "Share of the sender's link for the oldest message, ‰"),
    ("homa.output.mtu_max", "Longest packet, bytes"),
    ("homa.recovery.resend_interval", "Silence before asking again"),
    ("homa.recovery.timeout", "Silence before giving a peer up"),
    ("homa.recovery.finished_memory", "Finished RPCs are remembered for"),
    ("homa.responses.unacknowledged_bytes", "Responses kept for clients, bytes"),
    ("homa.responses.silence", "Unacknowledged responses are kept for"),
    ("homa.responses.request_ack_interval", "Wait for an acknowledgement"),
    ("homa.peers.max", "Peers of a host at most"),
    ("homa.peers.discover", "Peers of this implementation are recognised"),
    ("link.rate_mbps", "Rate of the links, Mbit/s"),
    ("link.rtt_us", "Round trip of a short message when idle, µs"),
    ("link.timer_us", "Timers are late by, µs"),
    ("link.mtu_bytes", "Longest packet, bytes"),
    ("rpc_per_s", "RPCs per second of each calling host"),
    ("mean_message_bytes", "Mean message, bytes"),
    ("kernel", "Kernel"),
    ("cpu", "Processor"),
    ("cores", "Processors"),
    ("memory_kib", "Memory, KiB"),
    ("load_average", "Load average at the end"),
    ("transports", "Transports"),
];

/// Keys of Homa's settings in runs of schema 1, and the keys of the same settings since, with the
/// unit of those that were numbers of it.
const RENAMED: [(&str, &str, &str); 18] = [
    ("homa.link_mbps", "homa.output.link_mbps", ""),
    ("homa.mtu_max", "homa.output.mtu_max", ""),
    ("homa.max_link_usage_percent", "homa.output.max_link_usage_percent", ""),
    ("homa.max_nic_backlog_us", "homa.output.max_nic_backlog", ", µs"),
    ("homa.unscheduled_bytes", "homa.unscheduled.bytes", ""),
    ("homa.max_incoming_bytes", "homa.grants.max_incoming_bytes", ""),
    ("homa.window_bytes", "homa.grants.window_bytes", ""),
    ("homa.grant_step_bytes", "homa.grants.step_bytes", ""),
    ("homa.incoming_packets_min", "homa.grants.incoming_packets_min", ""),
    ("homa.max_overcommit", "homa.grants.max_overcommit", ""),
    ("homa.unscheduled_in_flight_max_bytes", "homa.unscheduled.in_flight_max_bytes", ""),
    ("homa.num_priorities", "homa.priorities.count", ""),
    ("homa.fifo_grant_permille", "homa.grants.fifo_permille", ""),
    ("homa.pacer_fifo_permille", "homa.output.fifo_permille", ""),
    ("homa.defer_min_bytes", "homa.output.defer_min_bytes", ""),
    ("homa.resend_interval_us", "homa.recovery.resend_interval", ", µs"),
    ("homa.request_ack_interval_us", "homa.responses.request_ack_interval", ", µs"),
    ("homa.cutoffs", "homa.priorities.cutoffs", ""),
];

/// What a setting is called; of those without a name, its key with spaces.
pub(crate) fn name(key: &str) -> String {
    if let Some((_, now, unit)) = RENAMED.iter().find(|known| known.0 == key) {
        return name(now) + unit;
    }
    match NAMES.iter().find(|known| known.0 == key) {
        Some((_, name)) => (*name).to_owned(),
        None => key.replace(['.', '_'], " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_called_as_people_call_them() {
        assert_eq!(name("load.workload"), "Workload");
        assert_eq!(name("homa.new_setting"), "homa new setting");
    }

    #[test]
    fn settings_of_earlier_runs_are_called_as_those_of_today() {
        for (key, now, unit) in RENAMED {
            assert!(NAMES.iter().any(|known| known.0 == now), "{now}");
            assert_eq!(name(key), name(now) + unit);
        }
        assert_eq!(name("homa.resend_interval_us"), "Silence before asking again, µs");
    }
}
