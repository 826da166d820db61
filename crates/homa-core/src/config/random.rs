//! Settings at random, each within its documented range, for virtual worlds.

use core::time::Duration;

use super::{
    Config, CutoffSource, Fixed, Grants, Limits, Output, PRIORITIES_MAX, Peers, Priorities,
    Recovery, Responses, Unscheduled,
};
use crate::cutoffs::Cutoffs;

/// Chooses a number between two, both included.
struct Dice<'a>(&'a mut dyn FnMut(u64, u64) -> u64);

impl Dice<'_> {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        (self.0)(low, high)
    }

    /// Each order of magnitude is as likely as any other.
    fn log(&mut self, low: u64, high: u64) -> u64 {
        let bits = self.between(u64::from(low.max(1).ilog2()), u64::from(high.ilog2()));
        self.between(1 << bits, (2 << bits) - 1).clamp(low, high)
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.between(1, chances) == 1
    }

    fn u32(&mut self, low: u64, high: u64) -> u32 {
        self.log(low, high) as u32
    }

    fn micros(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.log(low, high))
    }
}

impl Config {
    /// Every setting at random; `choose` gives a number between two, both included. All pass
    /// [`Config::validate`], and times are no longer than 10 s, so that worlds end.
    pub fn random(choose: &mut dyn FnMut(u64, u64) -> u64) -> Self {
        let dice = &mut Dice(choose);
        let max_message_bytes = dice.u32(1_000, 10_000_000);
        let resend_interval = dice.micros(100, 50_000);
        let interval_us = resend_interval.as_micros() as u64;
        let automatic = CutoffSource::Automatic {
            interval: dice.micros(1_000, 10_000_000),
            messages_min: dice.log(1, 20_000),
            drift_min_permille: dice.u32(1, 4_000),
        };
        let fixed = CutoffSource::Fixed(Cutoffs::new([(); 8].map(|()| dice.u32(1, 1 << 24))));
        // In this order, which the digests of worlds depend on.
        let receive_memory_bytes = dice.log(1, 4 << 20) - 1;
        let unread_bytes_max = dice.u32(1 << 16, 1 << 22);
        let max_rpcs = dice.u32(1, 1 << 18);
        let gaps_max = dice.log(16, 65_535) as u16;
        let control_queue_max = dice.log(16, 65_535) as u16;
        let unscheduled_bytes = dice.u32(1, 200_000);
        let max_incoming_bytes = dice.u32(1, 1 << 20);
        let incoming_packets_min = dice.between(0, 64) as u8;
        let window_bytes = if dice.one_in(2) { dice.u32(1_000, 1 << 20) } else { 0 };
        let step_bytes = if dice.one_in(2) { dice.u32(1, 1 << 17) } else { 0 };
        let boost_bytes = if dice.one_in(2) { dice.u32(1, 1 << 17) } else { 0 };
        let max_overcommit = dice.between(1, 64) as u8;
        let fifo_grant_permille = dice.between(0, 500) as u16;
        let fifo_grant_bytes = if dice.one_in(8) { 0 } else { dice.u32(1, 1 << 20) };
        let num_priorities = dice.between(1, u64::from(PRIORITIES_MAX)) as u8;
        let priority_map = [(); 8].map(|()| dice.between(0, 7) as u8);
        let cutoffs = if dice.one_in(2) { automatic } else { fixed };
        let link_mbps = dice.one_in(2).then(|| dice.u32(100, 400_000));
        let max_link_usage_percent = dice.between(5, 100) as u8;
        let max_nic_backlog = dice.micros(1, 1_000);
        let quantum = dice.micros(1, 1_000);
        let defer_min_bytes = dice.u32(1, 100_000);
        let pacer_fifo_permille = if dice.one_in(8) { 1000 } else { dice.between(0, 500) as u16 };
        let unscheduled_in_flight_max_bytes = dice.u32(1, 400_000);
        let mtu_max = dice.u32(576, 65_535);
        let resend_interval_max = dice.micros(interval_us, 5_000_000);
        let timeout = dice.micros(interval_us, 4_000_000);
        let request_ack_interval = dice.micros(10, 100_000);
        let request_ack_interval_max = dice.micros(10, 1_000_000);
        let unacknowledged_bytes = dice.log(1, 64 << 20);
        // A client that never takes a response is asked for it a thousand times, not millions.
        let response_silence = dice.micros(10_000, 10_000_000).min(resend_interval_max * 1_000);
        let clock_jump_min = dice.micros(1_000, 1_000_000);
        let finished_memory = dice.micros(10_000, 4_000_000);
        let finished_max = dice.u32(16, 1 << 22);
        let discover_peers = dice.one_in(2);
        let peers_max = dice.u32(1, 65_536);
        let peer_idle_min = dice.micros(1_000, 10_000_000);
        let peer_idle_max = dice.micros(1_000, 10_000_000);
        let frame_bytes = max_incoming_bytes % 5_000;
        let limits = Limits {
            max_message_bytes,
            frame_bytes,
            receive_memory_bytes: receive_memory_bytes + u64::from(max_message_bytes + frame_bytes),
            max_rpcs,
        };
        // Every field by its name: a new setting has to get its range here. One that follows from a
        // number drawn before leaves what is drawn later as it was.
        Self {
            limits,
            unscheduled: Unscheduled {
                bytes: unscheduled_bytes,
                remainder_bytes: unscheduled_bytes % 10_001,
                in_flight_max_bytes: unscheduled_in_flight_max_bytes,
            },
            grants: Grants {
                max_overcommit,
                max_incoming_bytes,
                incoming_packets_min,
                window_bytes,
                window_rtt_percent: (max_incoming_bytes % 401) as u16,
                step_bytes,
                boost_bytes,
                fifo_permille: fifo_grant_permille,
            },
            priorities: Priorities { count: num_priorities, cutoffs },
            output: Output {
                link_mbps,
                max_link_usage_percent,
                max_nic_backlog,
                quantum,
                defer_min_bytes,
                fifo_permille: pacer_fifo_permille,
                mtu_max,
            },
            recovery: Recovery {
                resend_interval,
                timeout,
                finished_memory,
                quiet_time: resend_interval * (max_incoming_bytes % 3),
            },
            responses: Responses {
                unacknowledged_bytes,
                silence: response_silence,
                request_ack_interval,
            },
            peers: Peers { max: peers_max, discover: discover_peers },
            fixed: Fixed {
                unread_bytes_max,
                gaps_max,
                control_queue_max,
                fifo_grant_bytes,
                priority_map,
                resend_interval_max,
                request_ack_interval_max,
                clock_jump_min,
                finished_max,
                peer_idle_min,
                peer_idle_max,
                short_form: max_incoming_bytes % 4 != 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_at_random_are_valid() {
        let mut state = 1_u64;
        for _ in 0..10_000 {
            let mut choose = |low, high| {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                low + (state >> 33) % (high - low + 1)
            };
            assert_eq!(Config::random(&mut choose).validate(), Ok(()));
        }
    }
}
