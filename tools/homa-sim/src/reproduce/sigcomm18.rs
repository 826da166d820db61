//! The evaluation of SIGCOMM 2018: 144 hosts at 10 Gbit/s, one-way messages of five workloads.

use std::{ops::RangeInclusive, time::Duration};

use homa_bench::{
    settings::{
        cutoffs,
        named::{self, SettingError},
        unscheduled_levels,
    },
    workload::Workload,
};
use homa_core::{Config, CutoffSource, Cutoffs};
use serde::{Deserialize, Serialize};

use super::published::{Class, Slowdown};
use crate::{
    fabric::Topology,
    packet::{PRIORITIES, PacketSize},
    run::Run,
    summary::{Samples, percentiles, percentiles_of_hosts},
    traffic::Demand,
    transport::{Choice, pias::Thresholds, tcp},
};

/// The workloads of the paper: name, sizes, levels for scheduled data of the eight.
const WORKLOADS: [(&str, &str, u8); 5] = [
    ("w1", include_str!("../../workloads/w1.csv"), 1),
    ("w2", include_str!("../../workloads/w2.csv"), 3),
    ("w3", include_str!("../../workloads/w3.csv"), 4),
    ("w4", include_str!("../../workloads/w4.csv"), 7),
    ("w5", include_str!("../../workloads/w5.csv"), 7),
];

/// Names of transports: those of the evaluation as in its published figures, and TCP.
pub const TRANSPORTS: [&str; 8] =
    ["homa", "tcp", "dctcp", "pfabric", "pias", "phost", "ndp", "srpt-oracle"];

/// Messages of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Messages {
    /// Sizes.
    pub sizes: Workload,
    /// Levels of the eight that the profile of the paper gives to scheduled data.
    pub scheduled_levels: u8,
    /// Levels of PIAS.
    pub thresholds: Thresholds,
}

impl Messages {
    /// A workload of the paper by its name.
    pub fn published(name: &str) -> Option<Self> {
        let (_, text, levels) = WORKLOADS.iter().find(|(known, ..)| *known == name)?;
        let sizes = Workload::exact(text.as_bytes()).expect("the file is ours");
        let thresholds = Thresholds::published(name)?;
        Some(Self { sizes, scheduled_levels: *levels, thresholds })
    }

    /// Messages of other sizes. Scheduled data gets as many of the levels as its part of all bytes,
    /// at least one and at most seven.
    pub fn of(sizes: Workload) -> Self {
        let scheduled_levels =
            (LEVELS - unscheduled_levels(&sizes, UNSCHEDULED_BYTES.into(), LEVELS)).max(1);
        let thresholds = Thresholds::of(&sizes);
        Self { sizes, scheduled_levels, thresholds }
    }

    /// A transport by its name, one of [`TRANSPORTS`]; Homa with settings.
    pub fn transport(&self, name: &str, homa: Config) -> Option<Choice> {
        let tcp = |algorithm| Choice::Tcp(Box::new(tcp::Settings::new(algorithm)));
        Some(match name {
            "homa" => Choice::Homa(Box::new(homa)),
            "srpt-oracle" | "oracle" => Choice::Oracle,
            "pfabric" => Choice::PFabric,
            "pias" => Choice::Pias(self.thresholds),
            "phost" => Choice::PHost,
            "ndp" => Choice::Ndp,
            "tcp" => tcp(tcp::Algorithm::Cubic),
            "dctcp" => tcp(tcp::Algorithm::Dctcp),
            _ => return None,
        })
    }

    /// Lengths of many of them, in bytes.
    fn lengths(&self) -> impl Iterator<Item = u32> {
        const COUNT: u32 = 10_000;
        let part = |index: u32| (f64::from(index) + 0.5) / f64::from(COUNT);
        (0..COUNT).map(move |index| self.sizes.quantile(part(index)) as u32)
    }

    /// How many of them make so many packets, within bounds.
    pub fn count(&self, packets: f64, bounds: RangeInclusive<u32>) -> u32 {
        let payload_max = u64::from(PACKET.payload_max());
        let each = self.sizes.mean(|bytes| bytes.div_ceil(payload_max) as f64);
        ((packets / each) as u32).clamp(*bounds.start(), *bounds.end())
    }

    /// Parameters of the paper.
    fn paper(&self, config: &mut Config) {
        config.unscheduled.bytes = UNSCHEDULED_BYTES;
        // A round trip of whole packets, since a GRANT for each packet keeps it full.
        config.grants.window_bytes = UNSCHEDULED_BYTES;
        config.unscheduled.remainder_bytes = 0;
        config.grants.step_bytes = 0;
        config.grants.boost_bytes = RTT_BYTES;
        config.grants.max_overcommit = self.scheduled_levels;
        config.grants.fifo_permille = 0;
        config.output.fifo_permille = 0;
        // The paper's network loses nothing.
        config.recovery.resend_interval = Duration::from_millis(200);
        config.recovery.timeout = Duration::from_secs(20);
        config.responses.silence = Duration::from_secs(30);
    }
}

/// Settings of Homa.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Parameters and policies of the paper.
    #[serde(rename = "2018")]
    Paper,
    /// The engine's defaults; the speed of the link is known.
    Default,
}

impl Profile {
    /// The settings for messages.
    pub fn config(self, messages: &Messages, pacing: Pacing) -> Config {
        Config::default().with(|config| {
            let mbps = Topology::sigcomm18(1).host_rate.mbps();
            config.output.link_mbps = (pacing == Pacing::Clock).then_some(mbps);
            config.output.mtu_max = PACKET.ip_bytes_max;
            config.limits.max_message_bytes = MESSAGE_BYTES_MAX;
            config.limits.receive_memory_bytes = 8 << 30;
            // A packet is never under way for long, and tables stay small.
            config.recovery.finished_memory = Duration::from_millis(100);
            if self == Profile::Paper {
                messages.paper(config);
            }
            let unscheduled = LEVELS - messages.scheduled_levels;
            config.priorities.cutoffs = self.cutoffs(messages, config, unscheduled);
        })
    }

    /// Cutoffs: of the paper for so many unscheduled levels, or those that the engine computes when
    /// it has seen enough messages, for which these runs are too short.
    fn cutoffs(self, messages: &Messages, config: &Config, unscheduled: u8) -> CutoffSource {
        let (bytes, count) = (config.unscheduled.bytes.into(), config.priorities.count);
        CutoffSource::Fixed(match self {
            Self::Paper => Cutoffs::new(cutoffs(&messages.sizes, bytes, count, unscheduled)),
            Self::Default => config.computed_cutoffs(messages.lengths()),
        })
    }

    /// The settings for messages, with some that are given. Cutoffs follow those.
    ///
    /// # Errors
    /// A name that is no setting, or a value of the wrong kind or out of its range.
    pub fn config_with(
        self,
        messages: &Messages,
        pacing: Pacing,
        given: &toml::Table,
    ) -> Result<Config, SettingError> {
        let mut config = self.config(messages, pacing);
        let names = named::apply(&mut config, given)?;
        let follow =
            ["priorities.count", "unscheduled.bytes"].iter().any(|name| names.contains(name));
        if follow && !names.contains(&"priorities.cutoffs") {
            let (bytes, count) = (config.unscheduled.bytes.into(), config.priorities.count);
            let unscheduled = unscheduled_levels(&messages.sizes, bytes, count);
            config.priorities.cutoffs = self.cutoffs(messages, &config, unscheduled);
        }
        config.validate()?;
        Ok(config)
    }
}

/// What keeps packets from waiting in the NIC of a sender, where all have one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pacing {
    /// The NIC asks for a packet when it can send one, as in the paper.
    Nic,
    /// The engine's clock (`output.link_mbps`), as over sockets: it hands packets over ahead of
    /// their time, and they wait in the NIC.
    Clock,
    /// What the driver tells of the NIC's queue, as over sockets where nobody knows the speed of
    /// the link: the NIC asks for nothing then ([`Topology::nic_pulls`]).
    Backlog,
}

/// A run of the evaluation: racks of 16 hosts at a load, headers and control packets included.
/// With `output.link_mbps` the engine's clock paces senders, and responses travel through the
/// network, since the clock counts them; without, and with other transports, the NIC asks for
/// packets, and responses travel outside.
pub fn run(
    sizes: Workload,
    transport: impl Into<Choice>,
    racks: u32,
    load: f64,
    messages: u32,
    seed: u64,
) -> Run {
    let transport = transport.into();
    let nic_pulls = match &transport {
        Choice::Homa(config) => config.output.link_mbps.is_none(),
        _ => true,
    };
    let topology = Topology { nic_pulls, ..Topology::sigcomm18(racks) };
    Run { topology, sizes, load, messages, demand: Demand::default(), transport, seed }
}

/// Longest message.
pub const MESSAGE_BYTES_MAX: u32 = 1 << 26;
/// Levels of priority.
const LEVELS: u8 = PRIORITIES as u8;
/// Unscheduled bytes of the paper, in whole packets of ours.
const UNSCHEDULED_BYTES: u32 = 7 * PACKET.payload_max();
/// How messages are divided.
const PACKET: PacketSize =
    PacketSize { ip_bytes_max: 1500, header_bytes: 20 + homa_wire::DATA_HEADER_BYTES as u32 };
/// Bytes of a round trip, as in the paper.
const RTT_BYTES: u32 = 10_000;

/// Ours, and what was published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// What messages it is about, and what was published of them.
    pub class: Class,
    /// Messages that were measured.
    pub messages: usize,
    /// Their slowdown, as the published one was measured.
    pub slowdown: Slowdown,
    /// Their slowdown, those of all hosts together.
    pub pooled: Slowdown,
}

/// Percentiles of a row.
const PERCENTILES: [f64; 2] = [0.5, 0.99];

/// Samples by class, where there are any.
pub fn rows(samples: &Samples, classes: &[Class]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut over = 0;
    for class in classes {
        let found = samples.between(over, class.message_bytes);
        over = class.message_bytes;
        let Some(of_all) = percentiles(found, PERCENTILES) else { continue };
        // Hosts count by their messages, and the host of a message has one more than the mean.
        let each_host = class.each_host.map(|others| 1 + others.round() as usize);
        let of_hosts = each_host.and_then(|each| percentiles_of_hosts(found, each, PERCENTILES));
        let mean = found.iter().map(|sample| sample.slowdown).sum::<f64>() / found.len() as f64;
        let slowdown = |[p50, p99]: [f64; 2]| Slowdown { mean: Some(mean), p50, p99 };
        rows.push(Row {
            class: *class,
            messages: found.len(),
            slowdown: slowdown(of_hosts.unwrap_or(of_all)),
            pooled: slowdown(of_all),
        });
    }
    rows
}

/// Rows gathered until each has at least `percent_min` of all messages. Figures are averaged by
/// shares, ours as those that were published.
pub fn gather_rows(rows: &[Row], percent_min: f64) -> Vec<Row> {
    let gathered = |group: &[Row]| {
        let classes: Vec<Class> = group.iter().map(|row| row.class).collect();
        let mean = |of: fn(&Row) -> Slowdown| average(group, |row| row.class.count_percent, of);
        Row {
            class: gathered(&classes),
            messages: group.iter().map(|row| row.messages).sum(),
            slowdown: mean(|row| row.slowdown),
            pooled: mean(|row| row.pooled),
        }
    };
    groups(rows, |row| row.class.count_percent, percent_min).map(gathered).collect()
}

/// Classes gathered until each has at least `percent_min` of all messages; what was published of
/// them is averaged by their shares.
pub fn gather(classes: &[Class], percent_min: f64) -> Vec<Class> {
    groups(classes, |class| class.count_percent, percent_min).map(gathered).collect()
}

/// Neighbours until each group has at least so many percent; the last one has the rest.
fn groups<T>(
    all: &[T],
    percent: impl Fn(&T) -> f64,
    percent_min: f64,
) -> impl Iterator<Item = &[T]> {
    let mut rest = all;
    std::iter::from_fn(move || {
        let mut sum = 0.0;
        let enough = |one: &T| {
            sum += percent(one);
            sum >= percent_min
        };
        let length = rest.iter().position(enough).map_or(rest.len(), |last| last + 1);
        let (group, after) = rest.split_at(length);
        rest = after;
        (!group.is_empty()).then_some(group)
    })
}

/// Classes as one.
fn gathered(classes: &[Class]) -> Class {
    let published: Option<Vec<_>> =
        classes.iter().map(|class| Some((class.count_percent, class.published?))).collect();
    let each_host: Option<f64> =
        classes.iter().map(|class| Some(class.count_percent * class.each_host?)).sum();
    let count_percent: f64 = classes.iter().map(|class| class.count_percent).sum();
    Class {
        message_bytes: classes.last().map_or(0, |class| class.message_bytes),
        count_percent,
        published: published.map(|found| average(&found, |found| found.0, |found| found.1)),
        each_host: each_host.map(|sum| sum / count_percent),
    }
}

/// The mean of slowdowns with weights.
fn average<T>(all: &[T], weight: impl Fn(&T) -> f64, of: impl Fn(&T) -> Slowdown) -> Slowdown {
    let weights: f64 = all.iter().map(&weight).sum();
    let mean = |figure: fn(Slowdown) -> f64| {
        all.iter().map(|one| weight(one) * figure(of(one))).sum::<f64>() / weights
    };
    let means: Option<f64> = all.iter().map(|one| Some(weight(one) * of(one).mean?)).sum();
    Slowdown {
        mean: means.map(|sum| sum / weights),
        p50: mean(|slowdown| slowdown.p50),
        p99: mean(|slowdown| slowdown.p99),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_of_short_messages_leaves_one_level_to_scheduled_data_and_one_of_long_ones_seven()
    {
        let levels = |bytes| Messages::of(Workload::of_length(bytes)).scheduled_levels;
        assert_eq!((levels(100), levels(20_000), levels(10_000_000)), (1, 4, 7));
    }
}
