//! Settings of plans and runs by names that people know.

/// Keys and what they are called, with their unit.
const NAMES: [(&str, &str); 51] = [
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
    ("homa.link_mbps", "Rate that senders pace to, Mbit/s"),
    ("homa.mtu_max", "Longest packet, bytes"),
    ("homa.max_link_usage_percent", "Share of the link that is used, %"),
    ("homa.max_nic_backlog_us", "Sent ahead to the interface, µs"),
    ("homa.unscheduled_bytes", "Bytes sent without a grant"),
    ("homa.max_incoming_bytes", "Granted bytes on their way to a host at most"),
    ("homa.window_bytes", "Granted ahead to one message, bytes"),
    ("homa.grant_step_bytes", "Bytes per grant"),
    ("homa.incoming_packets_min", "Packets granted ahead at least"),
    ("homa.max_overcommit", "Messages granted to at a time"),
    ("homa.unscheduled_in_flight_max_bytes", "Ungranted bytes to one peer at most"),
    ("homa.num_priorities", "Priority levels"),
    ("homa.fifo_grant_permille", "Share of grants for the oldest message, ‰"),
    ("homa.pacer_fifo_permille", "Share of the sender's link for the oldest message, ‰"),
    ("homa.defer_min_bytes", "Shorter messages are not paced, bytes"),
    ("homa.resend_interval_us", "Silence before asking again, µs"),
    ("homa.request_ack_interval_us", "Wait for an acknowledgement, µs"),
    ("homa.cutoffs", "Longest messages of each level, bytes"),
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

/// What a setting is called; of those without a name, its key with spaces.
pub(crate) fn name(key: &str) -> String {
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
}
