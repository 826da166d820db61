//! Settings that an input describes.

use std::time::Duration;

use homa_core::{Config, CutoffSource, Cutoffs};

use crate::input::Input;

/// The defaults with some changes, each within its range. Times stay short enough for all to end in
/// minutes.
pub(crate) fn config(input: &mut Input<'_>) -> Config {
    let mut config = Config::default();
    for _ in 0..input.below(12) {
        change(input, &mut config);
    }
    config.limits.max_message_bytes = config.limits.max_message_bytes.min(1 << 20);
    // A message of one byte is charged with more, and the longest in whole pieces of 64 KiB.
    let longest = config.limits.max_message_bytes.next_multiple_of(1 << 16);
    config.limits.receive_memory_bytes = config.limits.receive_memory_bytes.max(u64::from(longest));
    config.recovery.resend_interval = config.recovery.resend_interval.min(config.recovery.timeout);
    config.validate().expect("every change is within its range");
    config
}

fn change(input: &mut Input<'_>, config: &mut Config) {
    let number = |input: &mut Input<'_>, bits_max| input.magnitude(bits_max) as u32;
    match input.below(36) {
        0 => config.limits.max_message_bytes = 1 + number(input, 20),
        1 => config.limits.receive_memory_bytes = 1 + input.magnitude(22),
        2 => config.fixed.unread_bytes_max = (1 << 16) + input.magnitude(18) as u32,
        3 => config.limits.max_rpcs = 1 + number(input, 8),
        4 => config.fixed.gaps_max = 16 + number(input, 8) as u16,
        5 => config.fixed.control_queue_max = 16 + number(input, 8) as u16,
        6 => config.unscheduled.bytes = 1 + number(input, 20),
        7 => config.grants.max_incoming_bytes = 256 + number(input, 20),
        8 => config.grants.incoming_packets_min = input.byte() as _,
        9 => config.grants.window_bytes = number(input, 20),
        10 => config.grants.step_bytes = number(input, 18),
        11 => config.grants.max_overcommit = 1 + input.below(64) as u8,
        12 => config.grants.fifo_permille = 2 * u16::from(input.byte()) % 501,
        13 => config.fixed.fifo_grant_bytes = number(input, 20),
        14 => config.priorities.count = 1 + input.below(8) as u8,
        15 => config.fixed.priority_map = [0; 8].map(|_| input.byte() % 8),
        16 => {
            let table = [0; 8].map(|_| number(input, 20));
            config.priorities.cutoffs = CutoffSource::Fixed(Cutoffs::new(table));
        }
        17 => {
            config.priorities.cutoffs = CutoffSource::Automatic {
                interval: time(input, 20, 30),
                messages_min: 1 + input.magnitude(4),
                drift_min_permille: number(input, 10) as _,
            }
        }
        18 => config.output.link_mbps = Some(10 + number(input, 17)),
        19 => config.output.max_link_usage_percent = 5 + input.below(96) as u8,
        20 => config.output.max_nic_backlog = time(input, 0, 24),
        21 => config.output.defer_min_bytes = number(input, 17),
        22 => config.output.fifo_permille = input.choose(&[0, 1, 100, 500, 1000]),
        23 => config.unscheduled.in_flight_max_bytes = number(input, 20),
        24 => config.output.mtu_max = 576 + number(input, 16),
        25 => config.recovery.resend_interval = time(input, 16, 30),
        26 => config.fixed.resend_interval_max = time(input, 16, 32),
        27 => config.recovery.timeout = time(input, 20, 32),
        28 => config.responses.request_ack_interval = time(input, 16, 28),
        29 => config.fixed.request_ack_interval_max = time(input, 16, 32),
        30 => config.responses.unacknowledged_bytes = input.magnitude(24),
        31 => config.responses.silence = time(input, 20, 33),
        32 => config.fixed.clock_jump_min = time(input, 20, 32),
        33 => config.fixed.finished_max = 16 + number(input, 10),
        34 => config.peers.discover = input.flag(),
        _ => {
            config.peers.max = 1 + input.below(16) as u32;
            config.fixed.peer_idle_min = time(input, 20, 34);
            config.fixed.peer_idle_max = config.fixed.peer_idle_min + time(input, 20, 34);
        }
    }
}

/// Between 2^`low` and 2^`high` ns.
fn time(input: &mut Input<'_>, low: u32, high: u32) -> Duration {
    Duration::from_nanos(1 << (low + u32::from(input.byte()) % (high - low + 1)))
}
