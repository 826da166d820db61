//! Settings of Homa for a run: derived from the network in one place, and changed by name.
//!
//! Homa's fixed defaults fit links of 10 to 100 Gbit/s. On another link the same mechanisms need
//! other numbers: [`derive()`] computes them from the rate of the ports, the round-trip time of a
//! short message on the idle network, the precision of the machine's timers, and the message
//! sizes. [`with`] changes those that a plan gives, by the names in [`named`].

pub mod named;
mod value;

use std::time::Duration;

use homa_core::{CutoffSource, Cutoffs};
use homa_transport::Config;
use serde::{Deserialize, Serialize};

use self::named::SettingError;
use crate::workload::Workload;

/// What is known of the network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinkFacts {
    /// Rate of each host's link, in 10^6 bit/s.
    pub rate_mbps: u32,
    /// Round-trip time of the shortest messages on the idle network, in microseconds.
    pub rtt_us: f64,
    /// How late the machine's timers wake a process, in microseconds: the pacer has to hand over
    /// that much ahead.
    pub timer_us: f64,
    /// Longest IP packet, in bytes.
    pub mtu_bytes: u32,
}

impl LinkFacts {
    /// What is supposed of links before anything is measured: the round-trip and timer times of an
    /// emulated network.
    pub fn usual(rate_mbps: u32, mtu_bytes: u32) -> Self {
        LinkFacts { rate_mbps, rtt_us: 500.0, timer_us: 100.0, mtu_bytes }
    }
}

/// The settings for a network and the sizes of its messages.
///
/// * `unscheduled.bytes`: what the link carries until the first GRANT can be back: the idle round
///   trip, a full packet on two links, and timers that are late at both ends; in whole packets, at
///   least four.
/// * `output.quantum`: four packets, so that a wake-up serves several; `output.max_nic_backlog`: a
///   late timer must not leave the link idle, so as much as the link sends in the time that timers
///   may be late, and four packets.
/// * `grants.step_bytes`: a GRANT for four packets costs both ends a quarter of what one for each
///   does.
/// * `grants.window_bytes`: as the unscheduled bytes, and a step on top, since a GRANT waits until
///   a step is gathered; `grants.max_incoming_bytes` as much, and the step that is granted then,
///   for each of the messages granted to at a time.
/// * `recovery.resend_interval`: a message that others go ahead of is silent for as long as the
///   longest take, and nothing is lost: five of the longest, 5 ms to 1 s.
/// * `responses.request_ack_interval`: half of the longest message's time: by then the next request
///   has mostly brought the acknowledgement, and no packets are needed for it.
/// * What follows from others, as in [`with`].
pub fn derive(link: &LinkFacts, sizes: &Workload, message_bytes_max: u32) -> Config {
    let packet = u64::from(link.mtu_bytes.max(576));
    let bytes_in = |us: f64| (us.max(0.0) * f64::from(link.rate_mbps) / 8.0) as u64;
    let packets = |bytes: u64| bytes.div_ceil(packet) * packet;
    let us_of = |bytes: u64| bytes as f64 * 8.0 / f64::from(link.rate_mbps.max(1));
    let packet_us = us_of(packet);
    let rtt_us = link.rtt_us + 2.0 * packet_us + 2.0 * link.timer_us;
    let rtt_bytes = packets(bytes_in(rtt_us)).max(4 * packet);
    let step_bytes = 4 * packet;
    let window_bytes = rtt_bytes + step_bytes;
    let longest_us = us_of(sizes.quantile(1.0));
    let clamp = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    let mut config = Config::default().with(|config| {
        config.limits.max_message_bytes = message_bytes_max;
        config.unscheduled.bytes = clamp(rtt_bytes);
        config.unscheduled.in_flight_max_bytes = clamp((4 * rtt_bytes).max(98_304));
        config.grants.max_overcommit = 4;
        config.grants.max_incoming_bytes = clamp(4 * (window_bytes + step_bytes));
        config.grants.incoming_packets_min = 0;
        config.grants.window_bytes = clamp(window_bytes);
        config.grants.step_bytes = clamp(step_bytes);
        config.output.link_mbps = (link.rate_mbps > 0).then_some(link.rate_mbps);
        config.output.max_nic_backlog =
            Duration::from_micros((link.timer_us + 4.0 * packet_us).ceil().max(5.0) as u64);
        config.output.quantum = Duration::from_micros((4.0 * packet_us) as u64);
        config.output.mtu_max = link.mtu_bytes;
        config.recovery.resend_interval =
            Duration::from_micros(((5.0 * longest_us) as u64).clamp(5_000, 1_000_000));
        config.responses.request_ack_interval =
            Duration::from_micros(((longest_us / 2.0) as u64).clamp(2_000, 500_000));
    });
    follow(&mut config, &[], sizes);
    config
}

/// Derived settings with some that are given. Unless they are given themselves, others follow:
///
/// * `priorities.cutoffs`: every level carries about equally many unscheduled bytes
///   (docs/spec/protocol.md §5).
/// * `recovery.timeout`: at least eight of `recovery.resend_interval`.
/// * `limits.receive_memory_bytes`: at least two of the longest messages.
///
/// # Errors
/// A name that is no setting, or a value of the wrong kind or out of its range.
pub fn with(
    derived: &Config,
    given: &toml::Table,
    sizes: &Workload,
) -> Result<Config, SettingError> {
    let mut config = derived.clone();
    let given = named::apply(&mut config, given)?;
    follow(&mut config, &given, sizes);
    config.validate()?;
    Ok(config)
}

/// Sets what follows from other settings and is not given.
fn follow(config: &mut Config, given: &[&str], sizes: &Workload) {
    let defaults = Config::default();
    if !given.contains(&"priorities.cutoffs") {
        let bytes = u64::from(config.unscheduled.bytes);
        let count = config.priorities.count;
        let levels = cutoffs(sizes, bytes, count, unscheduled_levels(sizes, bytes, count));
        config.priorities.cutoffs = CutoffSource::Fixed(Cutoffs::new(levels));
    }
    if !given.contains(&"recovery.timeout") {
        let least = config.recovery.resend_interval.saturating_mul(8);
        config.recovery.timeout = defaults.recovery.timeout.max(least);
    }
    if !given.contains(&"limits.receive_memory_bytes") {
        let least = 2 * u64::from(config.limits.max_message_bytes);
        config.limits.receive_memory_bytes = defaults.limits.receive_memory_bytes.max(least);
    }
}

/// As many of the `levels` as the share of unscheduled bytes in all, at least one
/// (docs/spec/protocol.md §5).
pub fn unscheduled_levels(sizes: &Workload, unscheduled_bytes: u64, levels: u8) -> u8 {
    let unscheduled = sizes.mean(|length| length.min(unscheduled_bytes) as f64);
    let share = unscheduled / sizes.mean_bytes().max(1e-9);
    ((f64::from(levels) * share).round() as u8).clamp(1, levels.max(1))
}

/// Thresholds with which each of the `unscheduled` upper ones of so many `levels`, 1 to 8, carries
/// about equally many unscheduled bytes; level 0 first.
pub fn cutoffs(sizes: &Workload, unscheduled_bytes: u64, levels: u8, unscheduled: u8) -> [u32; 8] {
    const EVERY_LENGTH: u32 = u32::MAX >> 1;
    let levels = usize::from(levels.clamp(1, 8));
    let unscheduled = usize::from(unscheduled).clamp(1, levels);
    let bytes = |length: u64| length.min(unscheduled_bytes) as f64;
    let each = sizes.mean(bytes) / unscheduled as f64;
    let mut table = [0_u32; 8];
    table[..levels].fill(EVERY_LENGTH);
    let (mut level, lowest, mut carried) = (levels - 1, levels - unscheduled, 0.0);
    for (length, share) in sizes.shares() {
        carried += bytes(length) * share;
        if level > lowest && carried >= each * (levels - level) as f64 {
            table[level] = u32::try_from(length).unwrap_or(EVERY_LENGTH);
            level -= 1;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared_out(workload: &str, levels: u8) -> [u32; 8] {
        let sizes = Workload::load(workload).unwrap();
        cutoffs(&sizes, 10_000, levels, unscheduled_levels(&sizes, 10_000, levels))
    }

    #[test]
    fn every_unscheduled_level_carries_as_many_bytes() {
        let points =
            (1..=70_u64).map(|tenth| format!("{},{}\n", 1_000 + tenth, tenth as f64 / 70.0));
        let sizes = Workload::exact(points.collect::<String>().as_bytes()).unwrap();
        let cutoffs = Cutoffs::new(cutoffs(&sizes, 10_000, 8, 7));
        // Lengths differ little, so levels with as many bytes have about as many lengths.
        let mut lengths = [0; 8];
        (1_001..=1_070).for_each(|bytes| lengths[usize::from(cutoffs.priority(bytes, 8))] += 1);
        assert_eq!(lengths[0], 0, "{lengths:?}");
        assert!(lengths[1..].iter().all(|count| (8..=12).contains(count)), "{lengths:?}");
    }

    const LINK: LinkFacts =
        LinkFacts { rate_mbps: 100, rtt_us: 400.0, timer_us: 100.0, mtu_bytes: 1500 };

    #[test]
    fn a_slow_link_gets_small_windows_and_the_engine_takes_them() {
        for name in ["w1", "w2", "w3", "w4", "w5"] {
            let sizes = Workload::load(name).unwrap();
            let config = derive(&LINK, &sizes, 1_000_000);
            // 840 us until the first GRANT: 10,500 bytes.
            assert_eq!(config.unscheduled.bytes, 10_500);
            assert!(config.grants.window_bytes >= config.unscheduled.bytes);
            config.validate().unwrap();
        }
    }

    #[test]
    fn levels_follow_the_share_of_unscheduled_bytes() {
        let w1 = shared_out("w1", 8);
        let w5 = shared_out("w5", 8);
        assert!(w1[1] < 1_000_000, "{w1:?}: short messages take all levels but one");
        assert!(w5.iter().all(|length| *length == u32::MAX >> 1), "{w5:?}: one unscheduled level");
        assert!(w1.windows(2).all(|pair| pair[0] >= pair[1]), "{w1:?}");
        let four = shared_out("w3", 4);
        assert_eq!(four[4..], [0; 4]);
    }

    /// Derived settings with those of a text.
    fn given(text: &str) -> Result<Config, SettingError> {
        let sizes = Workload::load("w3").unwrap();
        with(&derive(&LINK, &sizes, 1_000_000), &toml::from_str(text).unwrap(), &sizes)
    }

    #[test]
    fn given_settings_replace_derived_ones_and_wrong_ones_are_refused() {
        let (base, two) = (given("").unwrap(), given("priorities.count = 2").unwrap());
        assert_eq!(two.priorities.count, 2);
        assert_eq!(two.unscheduled, base.unscheduled);
        let refused = |text: &str| given(text).unwrap_err();
        assert_eq!(refused("priorities.number = 2").name, "priorities.number");
        assert_eq!(refused("priorities.count = 9").must_be, "between 1 and 8");
        assert_eq!(refused("grants.window_bytes = \"x\"").name, "grants.window_bytes");
    }

    #[test]
    fn what_follows_from_other_settings_does_so_unless_it_is_given() {
        let levels = |config: &Config| match &config.priorities.cutoffs {
            CutoffSource::Fixed(cutoffs) => *cutoffs.levels(),
            other => panic!("{other:?}"),
        };
        assert_eq!(levels(&given("priorities.count = 2").unwrap())[2..], [0; 6]);
        let lengths = "priorities = { count = 2, cutoffs = [9, 8, 7, 6, 5, 4, 3, 2] }";
        assert_eq!(levels(&given(lengths).unwrap())[2..], [7, 6, 5, 4, 3, 2]);

        let timeout = |text: &str| given(text).unwrap().recovery.timeout;
        assert_eq!(timeout("recovery.resend_interval = \"1s\""), Duration::from_secs(8));
        assert_eq!(timeout("recovery.resend_interval = \"1ms\""), Duration::from_secs(1));
        let both = "recovery = { resend_interval = \"1s\", timeout = \"2s\" }";
        assert_eq!(timeout(both), Duration::from_secs(2));

        let memory = |text: &str| given(text).unwrap().limits.receive_memory_bytes;
        assert_eq!(memory("limits.max_message_bytes = 1000000000"), 2_000_000_000);
        let both = "limits = { max_message_bytes = 5000, receive_memory_bytes = 6000 }";
        assert_eq!(memory(both), 6_000);
    }
}
