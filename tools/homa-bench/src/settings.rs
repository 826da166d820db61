//! Settings that depend on the network, derived in one place.
//!
//! Homa's fixed defaults fit links of 10 to 100 Gbit/s. On another link the same mechanisms need
//! other numbers: [`HomaSettings::derive`] computes them from the rate of the ports, the round-trip
//! time of a short message on the idle network, the precision of the machine's timers, and the
//! message sizes.

use std::time::Duration;

use homa_core::{CutoffSource, Cutoffs};
use homa_transport::Config;
use serde::{Deserialize, Serialize};

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

/// Settings of Homa for a run; see the fields of the same name of [`Config`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomaSettings {
    /// [`output.link_mbps`](Config::output); 0: no pacing.
    pub link_mbps: u32,
    /// [`output.mtu_max`](Config::output).
    pub mtu_max: u32,
    /// [`output.max_link_usage_percent`](Config::output).
    pub max_link_usage_percent: u8,
    /// [`output.max_nic_backlog`](Config::output), in microseconds.
    pub max_nic_backlog_us: u64,
    /// [`unscheduled.bytes`](Config::unscheduled).
    pub unscheduled_bytes: u32,
    /// [`grants.max_incoming_bytes`](Config::grants).
    pub max_incoming_bytes: u32,
    /// [`grants.window_bytes`](Config::grants).
    pub window_bytes: u32,
    /// [`grants.step_bytes`](Config::grants).
    pub grant_step_bytes: u32,
    /// [`grants.incoming_packets_min`](Config::grants).
    pub incoming_packets_min: u8,
    /// [`grants.max_overcommit`](Config::grants).
    pub max_overcommit: u8,
    /// [`unscheduled.in_flight_max_bytes`](Config::unscheduled).
    pub unscheduled_in_flight_max_bytes: u32,
    /// [`priorities.count`](Config::priorities).
    pub num_priorities: u8,
    /// [`grants.fifo_permille`](Config::grants).
    pub fifo_grant_permille: u16,
    /// [`output.fifo_permille`](Config::output).
    pub pacer_fifo_permille: u16,
    /// [`output.defer_min_bytes`](Config::output).
    pub defer_min_bytes: u32,
    /// [`recovery.resend_interval`](Config::recovery), in microseconds.
    pub resend_interval_us: u64,
    /// [`responses.request_ack_interval`](Config::responses), in microseconds.
    pub request_ack_interval_us: u64,
    /// [`priorities.cutoffs`](Config::priorities): thresholds by level, level 0 first; empty: the
    /// engine finds them itself.
    pub cutoffs: Vec<u32>,
}

impl HomaSettings {
    /// The settings for a network and the sizes of its messages.
    ///
    /// * `unscheduled_bytes`: what the link carries until the first GRANT can be back: the idle
    ///   round trip, a full packet on two links, and timers that are late at both ends; in whole
    ///   packets, at least four.
    /// * `max_nic_backlog`: a late timer must not leave the link idle, so as much as the link sends
    ///   in the time that timers may be late, and four packets, so that a wake-up serves several.
    /// * `grant_step_bytes`: a GRANT for four packets costs both ends a quarter of what one for
    ///   each does.
    /// * `window_bytes`: as the unscheduled bytes, and two steps on top, since a GRANT waits until
    ///   a step is gathered; `max_incoming_bytes` as much for each of the messages granted to at a
    ///   time.
    /// * `resend_interval`: a message that others go ahead of is silent for as long as the longest
    ///   take, and nothing is lost: five of the longest, 5 ms to 1 s.
    /// * `request_ack_interval`: half of the longest message's time: by then the next request has
    ///   mostly brought the acknowledgement, and no packets are needed for it.
    /// * `cutoffs`: every level carries about equally many unscheduled bytes
    ///   (docs/spec/protocol.md §5).
    pub fn derive(link: &LinkFacts, sizes: &Workload) -> Self {
        let packet = u64::from(link.mtu_bytes.max(576));
        let bytes_in = |us: f64| (us.max(0.0) * f64::from(link.rate_mbps) / 8.0) as u64;
        let packets = |bytes: u64| bytes.div_ceil(packet) * packet;
        let us_of = |bytes: u64| bytes as f64 * 8.0 / f64::from(link.rate_mbps.max(1));
        let packet_us = us_of(packet);
        let rtt_us = link.rtt_us + 2.0 * packet_us + 2.0 * link.timer_us;
        let rtt_bytes = packets(bytes_in(rtt_us)).max(4 * packet);
        let grant_step_bytes = 4 * packet;
        let window_bytes = rtt_bytes + 2 * grant_step_bytes;
        let longest_us = us_of(sizes.quantile(1.0));
        let max_overcommit = 4;
        let num_priorities = 8;
        let clamp = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        HomaSettings {
            link_mbps: link.rate_mbps,
            mtu_max: link.mtu_bytes,
            max_link_usage_percent: 99,
            max_nic_backlog_us: (link.timer_us + 4.0 * packet_us).ceil().max(5.0) as u64,
            unscheduled_bytes: clamp(rtt_bytes),
            max_incoming_bytes: clamp(window_bytes * u64::from(max_overcommit)),
            window_bytes: clamp(window_bytes),
            grant_step_bytes: clamp(grant_step_bytes),
            incoming_packets_min: 0,
            max_overcommit,
            unscheduled_in_flight_max_bytes: clamp((4 * rtt_bytes).max(98_304)),
            num_priorities,
            fifo_grant_permille: 50,
            pacer_fifo_permille: 50,
            defer_min_bytes: 1_000,
            resend_interval_us: ((5.0 * longest_us) as u64).clamp(5_000, 1_000_000),
            request_ack_interval_us: ((longest_us / 2.0) as u64).clamp(2_000, 500_000),
            cutoffs: cutoffs(sizes, rtt_bytes, num_priorities),
        }
    }

    /// The same with some settings given. Thresholds follow the number of levels and of unscheduled
    /// bytes unless they are given themselves.
    ///
    /// # Errors
    /// A key that is no setting, or a value of the wrong kind; the text names it.
    pub fn with(&self, given: &toml::Table, sizes: &Workload) -> Result<Self, String> {
        let mut table = toml::Table::try_from(self).map_err(|error| error.to_string())?;
        for (key, value) in given {
            table.insert(key.clone(), value.clone());
        }
        let mut settings: HomaSettings =
            table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        if !given.contains_key("cutoffs") {
            let bytes = u64::from(settings.unscheduled_bytes);
            settings.cutoffs = cutoffs(sizes, bytes, settings.num_priorities);
        }
        let valid = settings.config(1_000_000).validate();
        valid.map(|()| settings).map_err(|error| error.to_string())
    }

    /// The settings as the engine takes them.
    pub fn config(&self, message_bytes_max: u32) -> Config {
        let mut config = Config::default();
        config.limits.max_message_bytes = message_bytes_max;
        config.limits.receive_memory_bytes =
            config.limits.receive_memory_bytes.max(2 * u64::from(message_bytes_max));
        config.output.link_mbps = (self.link_mbps > 0).then_some(self.link_mbps);
        config.output.mtu_max = self.mtu_max;
        config.output.max_link_usage_percent = self.max_link_usage_percent;
        config.output.max_nic_backlog = Duration::from_micros(self.max_nic_backlog_us);
        config.unscheduled.bytes = self.unscheduled_bytes;
        config.grants.max_incoming_bytes = self.max_incoming_bytes;
        config.grants.window_bytes = self.window_bytes;
        config.grants.step_bytes = self.grant_step_bytes;
        config.grants.incoming_packets_min = self.incoming_packets_min;
        config.grants.max_overcommit = self.max_overcommit;
        config.unscheduled.in_flight_max_bytes = self.unscheduled_in_flight_max_bytes;
        config.priorities.count = self.num_priorities;
        config.grants.fifo_permille = self.fifo_grant_permille;
        config.output.fifo_permille = self.pacer_fifo_permille;
        config.output.defer_min_bytes = self.defer_min_bytes;
        config.recovery.resend_interval = Duration::from_micros(self.resend_interval_us);
        config.responses.request_ack_interval = Duration::from_micros(self.request_ack_interval_us);
        config.recovery.timeout = config.recovery.timeout.max(8 * config.recovery.resend_interval);
        if let Ok(levels) = <[u32; 8]>::try_from(self.cutoffs.as_slice()) {
            config.priorities.cutoffs = CutoffSource::Fixed(Cutoffs::new(levels));
        }
        config
    }
}

/// Thresholds with which every unscheduled level carries about equally many unscheduled bytes, and
/// as many levels are unscheduled as their share of all bytes (docs/spec/protocol.md §5); level 0
/// first.
pub fn cutoffs(sizes: &Workload, unscheduled_bytes: u64, num_priorities: u8) -> Vec<u32> {
    const UNBOUNDED_BYTES: u32 = 1_000_000;
    let levels = usize::from(num_priorities.clamp(1, 8));
    let mut before = 0.0;
    let bins: Vec<(u64, f64, f64)> = sizes
        .points()
        .iter()
        .map(|(length, fraction)| {
            let share = fraction - before;
            before = *fraction;
            (*length, share * (*length).min(unscheduled_bytes) as f64, share * *length as f64)
        })
        .collect();
    let unscheduled: f64 = bins.iter().map(|bin| bin.1).sum();
    let total: f64 = bins.iter().map(|bin| bin.2).sum();
    let wanted = (levels as f64 * unscheduled / total.max(1e-9)).round() as usize;
    let unscheduled_levels = wanted.clamp(1, levels);
    let target = unscheduled / unscheduled_levels as f64;
    let mut table = vec![0_u32; 8];
    table[..levels].fill(UNBOUNDED_BYTES);
    let mut level = levels - 1;
    let lowest = levels - unscheduled_levels;
    let mut carried = 0.0;
    for (length, bytes, _) in &bins {
        carried += bytes;
        if carried >= target && level > lowest {
            table[level] = u32::try_from(*length).unwrap_or(UNBOUNDED_BYTES);
            level -= 1;
            carried = 0.0;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_link_gets_small_windows_and_the_engine_takes_them() {
        let link = LinkFacts { rate_mbps: 100, rtt_us: 400.0, timer_us: 100.0, mtu_bytes: 1500 };
        for name in ["w1", "w2", "w3", "w4", "w5"] {
            let sizes = Workload::load(name).unwrap();
            let settings = HomaSettings::derive(&link, &sizes);
            // 840 us until the first GRANT: 10,500 bytes.
            assert_eq!(settings.unscheduled_bytes, 10_500);
            assert!(settings.window_bytes >= settings.unscheduled_bytes);
            settings.config(1_000_000).validate().unwrap();
        }
    }

    #[test]
    fn levels_follow_the_share_of_unscheduled_bytes() {
        let w1 = cutoffs(&Workload::load("w1").unwrap(), 10_000, 8);
        let w5 = cutoffs(&Workload::load("w5").unwrap(), 10_000, 8);
        assert!(w1[1] < 1_000_000, "{w1:?}: short messages take all levels but one");
        assert!(w5.iter().all(|length| *length == 1_000_000), "{w5:?}: one unscheduled level");
        assert!(w1.windows(2).all(|pair| pair[0] >= pair[1]), "{w1:?}");
        let four = cutoffs(&Workload::load("w3").unwrap(), 10_000, 4);
        assert_eq!(four[4..], [0; 4]);
    }

    #[test]
    fn given_settings_replace_derived_ones_and_unknown_ones_are_refused() {
        let link = LinkFacts { rate_mbps: 100, rtt_us: 400.0, timer_us: 100.0, mtu_bytes: 1500 };
        let sizes = Workload::load("w3").unwrap();
        let base = HomaSettings::derive(&link, &sizes);
        let with = |text: &str| base.with(&toml::from_str(text).unwrap(), &sizes);
        let two = with("num_priorities = 2").unwrap();
        assert_eq!((two.num_priorities, &two.cutoffs[2..]), (2, &[0; 6][..]));
        assert_eq!(two.unscheduled_bytes, base.unscheduled_bytes);
        assert!(with("num_priority = 2").unwrap_err().contains("num_priority"));
        assert!(with("num_priorities = 9").unwrap_err().contains("priorities.count"));
        assert!(with("window_bytes = \"x\"").is_err());
    }
}
