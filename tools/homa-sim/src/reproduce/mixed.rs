//! Homa beside TCP on one network: what each does alone, and what they do to each other.
//!
//! The Linux implementations were compared so in January 2026, at 100 Gbit/s with W4 (of messages
//! up to 1 MB) at 80 % load.

use std::ops::ControlFlow;

use homa_bench::workload::Workload;
use homa_core::Config;
use serde::Serialize;

use super::sigcomm18::{Messages, Pacing, Profile};
use crate::{
    event::MessageId,
    fabric::{Buffer, PortKind, Shape, Topology},
    packet::PacketSize,
    run::{Moment, Outcome, Run, SetupError},
    summary::{Sample, percentiles},
    time::{Rate, Span},
    transport::{
        Choice, Protocol,
        homa::{Homa, Responses},
        mixed::{Mixed, Share},
        tcp::{Settings, Tcp},
    },
};

/// Hosts at one switch.
const HOSTS: u32 = 16;
/// Their links.
const MBPS: u32 = 100_000;
/// The switch's memory: that of the study of buffers.
const BUFFER: Buffer = Buffer::Shared { bytes: super::buffers::BUFFER_BYTES, alpha: 8.0 };
/// The load of the published figures.
pub const LOAD: f64 = 0.8;

/// Its sizes of messages.
pub const WORKLOAD: &str = "w4";

/// What hosts speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaks {
    /// Homa alone, with all of the load.
    Homa,
    /// TCP alone, with all of the load.
    Tcp,
    /// Homa alone, with its share.
    HomaShare,
    /// TCP alone, with the rest.
    TcpShare,
    /// Both together, with all of the load.
    Both,
}

impl Speaks {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Homa, Self::Tcp, Self::HomaShare, Self::TcpShare, Self::Both];
}

/// The comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Sizes of messages.
    pub sizes: Workload,
    /// Part of the hosts' links that is used.
    pub load: f64,
    /// Part of the messages that are Homa's where it is not alone.
    pub share: f64,
    /// Messages of all hosts at all of the load.
    pub messages: u32,
    /// TCP.
    pub tcp: Settings,
    /// What everything that is left to chance follows.
    pub seed: u64,
}

/// What one transport has of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What hosts speak.
    pub speaks: Speaks,
    /// Whose messages these are.
    pub transport: &'static str,
    /// Part of the links that all messages of the run use.
    pub load: f64,
    /// Messages that are measured.
    pub messages: usize,
    /// The shortest tenth of them.
    pub short: Times,
    /// All of them.
    pub all: Times,
    /// P99 of short messages, in microseconds, that was published.
    pub published_p99_us: Option<f64>,
    /// Bytes that wait at a port to a host, in the mean.
    pub queued_bytes_mean: f64,
    /// At most.
    pub queued_bytes_max: u64,
}

/// Times of messages, and those in times of what they take on the idle network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// Median, in microseconds.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Median.
    pub slowdown_p50: f64,
    /// 99th percentile.
    pub slowdown_p99: f64,
}

impl Comparison {
    /// A run, which [`simulate`](Self::simulate) runs.
    pub fn run(&self, speaks: Speaks) -> Run {
        let share = match speaks {
            Speaks::HomaShare => self.share,
            Speaks::TcpShare => 1.0 - self.share,
            Speaks::Homa | Speaks::Tcp | Speaks::Both => 1.0,
        };
        let transport = match speaks {
            Speaks::Tcp | Speaks::TcpShare => Choice::Tcp(Box::new(self.tcp.clone())),
            _ => Choice::Homa(Box::new(self.homa())),
        };
        let messages = (f64::from(self.messages) * share).round() as u32;
        let (sizes, load) = (self.sizes.clone(), self.load * share);
        let run = super::sigcomm18::run(sizes, transport, 1, load, messages, self.seed);
        Run { topology: topology(), ..run }
    }

    /// Simulates a run, and divides what came of it by transports. Nothing if `follow` ended it.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn simulate(
        &self,
        speaks: Speaks,
        follow: impl FnMut(&Moment<'_>) -> ControlFlow<()>,
    ) -> Result<Option<(Outcome, Vec<Row>)>, SetupError> {
        let run = self.run(speaks);
        let both = Mixed {
            first: Homa::new(self.homa(), Responses::Outside, self.seed)?,
            second: Tcp::new(self.tcp.clone(), self.seed),
            share: Share::new(self.share, self.seed),
        };
        let outcome = match speaks {
            Speaks::Both => run.simulate(&both, follow)?,
            _ => run.run(follow)?,
        };
        let Some(outcome) = outcome else { return Ok(None) };
        let is_homas = |sample: &&Sample| match speaks {
            Speaks::Homa | Speaks::HomaShare => true,
            Speaks::Tcp | Speaks::TcpShare => false,
            Speaks::Both => both.share.has(MessageId(sample.index)),
        };
        let (homas, tcps): (Vec<&Sample>, Vec<&Sample>) =
            outcome.samples.all().iter().partition(is_homas);
        let choice = Choice::Tcp(Box::new(self.tcp.clone()));
        let parts = [
            ("homa", both.first.packet_size(), homas),
            (choice.name(), both.second.packet_size(), tcps),
        ];
        let rows = parts.into_iter().filter_map(|(transport, size, samples)| {
            let times = Measured { run: &run, outcome: &outcome, size };
            let queues = outcome.ports.iter().find(|ports| ports.kind == PortKind::RackDown)?;
            Some(Row {
                speaks,
                transport,
                load: run.load,
                messages: samples.len(),
                short: times.of(&samples[..samples.len().div_ceil(10)])?,
                all: times.of(&samples)?,
                published_p99_us: self.published_p99_us(speaks),
                queued_bytes_mean: queues.queued_bytes_mean,
                queued_bytes_max: queues.queued_bytes_max,
            })
        });
        let rows = rows.collect();
        Ok(Some((outcome, rows)))
    }

    /// Of short messages, where each was alone.
    fn published_p99_us(&self, speaks: Speaks) -> Option<f64> {
        let is_published =
            self.load == LOAD && Workload::load(WORKLOAD).is_ok_and(|sizes| sizes == self.sizes);
        match speaks {
            Speaks::Homa if is_published => Some(90.7),
            Speaks::Tcp if is_published => Some(1_272.0),
            _ => None,
        }
    }

    /// The engine's defaults.
    fn homa(&self) -> Config {
        Profile::Default.config(&Messages::of(self.sizes.clone()), Pacing::Nic)
    }
}

fn topology() -> Topology {
    Topology {
        shape: Shape::SingleSwitch { hosts: HOSTS },
        host_rate: Rate::from_mbps(MBPS).expect("not 0"),
        switch_delay: Span::from_ns(500),
        send_delay: Span::from_ns(3_000),
        receive_delay: Span::from_ns(3_000),
        buffer: BUFFER,
        ..Topology::sigcomm18(1)
    }
}

/// Messages of a run, in packets of such a size.
struct Measured<'a> {
    run: &'a Run,
    outcome: &'a Outcome,
    size: PacketSize,
}

impl Measured<'_> {
    /// Nothing without messages.
    fn of(&self, samples: &[&Sample]) -> Option<Times> {
        let measured = |of: &dyn Fn(&Sample) -> f64| {
            let sample = |sample: &&Sample| Sample { slowdown: of(sample), ..**sample };
            percentiles(&samples.iter().map(sample).collect::<Vec<_>>(), [0.5, 0.99])
        };
        let [p50_us, p99_us] = measured(&|sample| self.ps(sample) / 1e6)?;
        let [slowdown_p50, slowdown_p99] =
            measured(&|sample| self.ps(sample) / self.idle_ps(sample))?;
        Some(Times { p50_us, p99_us, slowdown_p50, slowdown_p99 })
    }

    fn ps(&self, sample: &Sample) -> f64 {
        let message = &self.outcome.messages[sample.index as usize];
        message.ended.since(message.begun).as_ps() as f64
    }

    fn idle_ps(&self, sample: &Sample) -> f64 {
        let message = &self.outcome.messages[sample.index as usize];
        let topology = &self.run.topology;
        topology.idle_time(message.from, message.to, message.bytes, &self.size).as_ps() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::tcp::Algorithm;

    fn comparison(seed: u64) -> Comparison {
        Comparison {
            sizes: Workload::load("w4").unwrap(),
            load: 0.6,
            share: 0.4,
            messages: 2_000,
            tcp: Settings::new(Algorithm::Dctcp),
            seed,
        }
    }

    fn simulated(speaks: Speaks, seed: u64) -> (Outcome, Vec<Row>) {
        let comparison = comparison(seed);
        comparison.simulate(speaks, |_| ControlFlow::Continue(())).unwrap().unwrap()
    }

    #[test]
    fn every_message_of_both_arrives_once_and_is_counted_for_one_of_them() {
        let (outcome, rows) = simulated(Speaks::Both, 1);
        assert!(!outcome.stuck);
        assert_eq!((outcome.failed, outcome.samples.unfinished), (0, 0));
        let [homa, tcp] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((homa.transport, tcp.transport), ("homa", "dctcp"));
        assert_eq!(homa.messages + tcp.messages, outcome.samples.all().len());
        let part = homa.messages as f64 / outcome.samples.all().len() as f64;
        assert!((0.36..0.44).contains(&part), "{part}");
        for row in &rows {
            assert!(row.short.slowdown_p50 >= 0.999, "{row:?}");
            assert!(row.short.slowdown_p50 <= row.short.slowdown_p99, "{row:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_rows_and_another_one_others() {
        assert_eq!(simulated(Speaks::Both, 1).1, simulated(Speaks::Both, 1).1);
        assert_ne!(simulated(Speaks::Both, 1).1, simulated(Speaks::Both, 2).1);
    }

    #[test]
    fn alone_each_has_its_share_of_messages_and_load() {
        for (speaks, transport, part) in
            [(Speaks::HomaShare, "homa", 0.4), (Speaks::TcpShare, "dctcp", 0.6)]
        {
            let (outcome, rows) = simulated(speaks, 1);
            assert_eq!((rows.len(), rows[0].transport), (1, transport));
            assert_eq!(rows[0].messages, (0.85 * 2_000.0 * part) as usize);
            assert!((rows[0].load - 0.6 * part).abs() < 1e-9);
            assert_eq!(outcome.samples.unfinished, 0);
        }
    }
}
