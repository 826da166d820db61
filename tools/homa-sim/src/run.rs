//! A run: what is simulated, and what it shows.

use std::{
    collections::HashMap,
    ops::{ControlFlow, Range},
};

use homa_bench::workload::Workload;
use homa_core::ConfigError;

use crate::{
    event::MessageId,
    fabric::{PortKind, PortSummary, PortView, SwitchSummary, Topology, TopologyError},
    journey::Journey,
    packet::PacketSize,
    summary::Samples,
    time::{Span, Time},
    traffic::{Background, Demand, Incast, Load, Pattern, Traffic, TrafficError},
    transport::{
        Choice, Protocol, Transport,
        homa::{Homa, Responses},
        ndp::Ndp,
        oracle::Oracle,
        pfabric::PFabric,
        phost::PHost,
        pias::Pias,
        tcp::Tcp,
    },
    world::{Counts, Message, World},
};

/// A run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The network.
    pub topology: Topology,
    /// Sizes of messages.
    pub sizes: Workload,
    /// Part of the links that is used, headers and control packets included: of which links says
    /// the [pattern](crate::Pattern).
    pub load: f64,
    /// Messages of all hosts, responses excepted.
    pub messages: u32,
    /// How they come.
    pub demand: Demand,
    /// What hosts speak.
    pub transport: Choice,
    /// What everything that is left to chance follows.
    pub seed: u64,
}

/// Why a run cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The network cannot be: see the text.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A setting of the engine is out of its range: see the text.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The load is not above 0 and below 1: give another.
    #[error("the load must be above 0 and below 1")]
    Load,
    /// The traffic cannot be: see the text.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
}

/// What a run shows.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Slowdown of the messages that count.
    pub samples: Samples,
    /// What ports did while those began.
    pub ports: Vec<PortSummary>,
    /// What waited in switches meanwhile.
    pub switches: Vec<SwitchSummary>,
    /// Part of the capacity of the links to hosts that was idle meanwhile although a message of
    /// several packets was on its way there.
    pub wasted: f64,
    /// How messages were divided into packets.
    pub packet_size: PacketSize,
    /// What the simulation did.
    pub counts: Counts,
    /// Messages that a transport gave up.
    pub failed: u64,
    /// What was to happen did not within the time that it should take several times over.
    pub stuck: bool,
    /// All messages, of which samples name their own.
    pub messages: Vec<Message>,
    /// Where the time of those went that were to be explained.
    pub journeys: HashMap<MessageId, Journey>,
}

/// Part of the load that counts: not while the queues fill, nor while they drain.
const COUNTED: Range<f64> = 0.1..0.95;
/// Steps in which a load is run.
const STEPS: u32 = 200;
/// Those before the part that counts.
const STEPS_UNCOUNTED: u32 = (STEPS as f64 * COUNTED.start) as u32;
/// Lengths of the load in which a run is over, unless it waits for timers.
const LENGTHS: u32 = 10;
/// Time after that in which timers have run out, and a run that is not over never will be.
const PATIENCE: Span = Span::from_ns(5_000_000_000);

/// A run at a moment, for whoever follows it.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// Part of the load that is done: 1 when the last message has begun.
    pub part: f64,
    /// Since the load began.
    pub time: Span,
    /// How long the load lasts.
    pub length: Span,
    now: Time,
    /// The first message of the load.
    first: usize,
    packet_size: PacketSize,
    world: &'a dyn Observed,
}

/// What can be seen of a world whatever it speaks.
trait Observed {
    fn topology(&self) -> &Topology;
    fn messages(&self) -> &[Message];
    fn ports(&self, kind: PortKind) -> Vec<PortView>;
}

impl<P: Protocol> Observed for World<P> {
    fn topology(&self) -> &Topology {
        World::topology(self)
    }

    fn messages(&self) -> &[Message] {
        World::messages(self)
    }

    fn ports(&self, kind: PortKind) -> Vec<PortView> {
        self.port_views(kind)
    }
}

impl Moment<'_> {
    /// Messages of the load that have begun, in this order.
    pub fn messages(&self) -> &[Message] {
        self.world.messages().get(self.first..).unwrap_or_default()
    }

    /// The time of a message, up to now if it is under way.
    pub fn age(&self, message: &Message) -> Span {
        message.ended.min(self.now).since(message.begun)
    }

    /// That in times of what the message takes on the idle network.
    pub fn slowdown(&self, message: &Message) -> f64 {
        let Message { from, to, bytes, .. } = *message;
        let idle = self.world.topology().idle_time(from, to, bytes, &self.packet_size);
        self.age(message).as_ps() as f64 / idle.as_ps() as f64
    }

    /// What ports of a kind do.
    pub fn ports(&self, kind: PortKind) -> Vec<PortView> {
        self.world.ports(kind)
    }
}

impl std::fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moment").field("part", &self.part).field("time", &self.time).finish()
    }
}

impl Run {
    /// Checks that it can begin.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn check(&self) -> Result<(), SetupError> {
        // A recording has the load that it has.
        let is_recorded = matches!(self.demand.pattern, Pattern::Recorded(_));
        if !(is_recorded || self.load > 0.0 && self.load < 1.0) {
            return Err(SetupError::Load);
        }
        self.topology.validate()?;
        self.demand.check(self.topology.hosts(), self.load)?;
        match &self.transport {
            Choice::Homa(config) => Ok(config.validate()?),
            _ => Ok(()),
        }
    }

    /// Runs to the end of all messages. `follow` sees the run from time to time, and ends it by
    /// [`ControlFlow::Break`]: then there is no outcome.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn run(
        &self,
        follow: impl FnMut(&Moment<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Outcome>, SetupError> {
        self.explain(&[], follow)
    }

    /// As [`run`](Self::run), and finds out where the time of some messages went, of which an
    /// earlier run tells the names: all runs are the same.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn explain(
        &self,
        messages: &[MessageId],
        follow: impl FnMut(&Moment<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Outcome>, SetupError> {
        match &self.transport {
            Choice::Homa(config) => {
                let responses = match self.topology.nic_pulls {
                    true => Responses::Outside,
                    false => Responses::Inside,
                };
                let homa = Homa::new(Clone::clone(config), responses, self.seed)?
                    .with_calls(self.demand.responses.is_some());
                self.simulate_explaining(&homa, messages, follow)
            }
            Choice::Tcp(settings) => self.simulate_explaining(
                &Tcp::new(Clone::clone(settings), self.seed),
                messages,
                follow,
            ),
            Choice::Oracle => self.simulate_explaining(&Oracle, messages, follow),
            Choice::PFabric => self.simulate_explaining(&PFabric, messages, follow),
            Choice::Pias(thresholds) => {
                self.simulate_explaining(&Pias::new(*thresholds), messages, follow)
            }
            Choice::PHost => self.simulate_explaining(&PHost, messages, follow),
            Choice::Ndp => self.simulate_explaining(&Ndp, messages, follow),
        }
    }

    /// As [`run`](Self::run), with hosts that speak `protocol` whatever is chosen.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn simulate<P: Protocol>(
        &self,
        protocol: &P,
        follow: impl FnMut(&Moment<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Outcome>, SetupError> {
        self.simulate_explaining(protocol, &[], follow)
    }

    fn simulate_explaining<P: Protocol>(
        &self,
        protocol: &P,
        messages: &[MessageId],
        mut follow: impl FnMut(&Moment<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Outcome>, SetupError> {
        self.check()?;
        let traffic = Traffic::new(self.offered(protocol), self.topology.hosts(), self.seed);
        let (first, begins) = (traffic.introductions(), traffic.load_begins());
        let (count, length) = (f64::from(traffic.messages()), traffic.length_ps());
        let mut world = World::new(self.topology.clone(), protocol, traffic, self.seed)?;
        if !messages.is_empty() {
            world.follow(messages.iter().copied());
        }
        let at = |part: f64| begins + Span::from_ps((length * part) as u64);

        let mut measured = None;
        for step in 0..STEPS * LENGTHS {
            let part = f64::from(step + 1) / f64::from(STEPS);
            if step == STEPS_UNCOUNTED {
                world.measure_ports();
            }
            if part >= COUNTED.end && measured.is_none() {
                world.run_until(at(COUNTED.end));
                measured = Some((world.ports(), world.switches(), world.wasted()));
            }
            world.run_until(at(part));
            let moment = Moment {
                part: if world.is_over() { 1.0 } else { part.min(1.0) },
                time: world.now().since(begins),
                now: world.now(),
                packet_size: protocol.packet_size(),
                length: Span::from_ps(length as u64),
                first: world.messages().partition_point(|message| message.begun < begins),
                world: &world,
            };
            if follow(&moment).is_break() {
                return Ok(None);
            }
            if world.is_over() {
                break;
            }
        }
        world.run_until(at(f64::from(LENGTHS)) + PATIENCE);
        let place = |part: f64| first as usize + (part * count) as usize;
        let counted = place(COUNTED.start)..place(COUNTED.end);
        let at_the_end = || (world.ports(), world.switches(), world.wasted());
        let (ports, switches, wasted) = measured.unwrap_or_else(at_the_end);
        let samples = Samples::of(&world, &protocol.packet_size(), counted);
        let failed = world.transports().map(Transport::failed).sum();
        let (counts, stuck) = (world.counts(), !world.is_over());
        let (messages, journeys) = world.into_found();
        let packet_size = protocol.packet_size();
        Ok(Some(Outcome {
            samples,
            ports,
            switches,
            wasted,
            packet_size,
            counts,
            failed,
            stuck,
            messages,
            journeys,
        }))
    }

    /// What is sent, so often that links are used as they should be.
    fn offered(&self, protocol: &impl Protocol) -> Load {
        let size = protocol.packet_size();
        let link_bytes = |sizes: &Workload| {
            sizes.mean(|bytes| {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                size.message_wire_bytes(bytes) as f64 + protocol.control_bytes(bytes)
            })
        };
        let byte_ps = 8e6 / f64::from(self.topology.host_rate.mbps());
        let every = |bytes: f64, load: f64| Span::from_ps((bytes * byte_ps / load) as u64);
        let responses = self.demand.responses.as_ref().map_or(0.0, link_bytes);
        let (interval, round) = match &self.demand.pattern {
            // Each host's link carries as many requests as responses in each direction.
            Pattern::AllToAll | Pattern::Permutation => {
                (Some(every(link_bytes(&self.sizes) + responses, self.load)), None)
            }
            // The receiver's link carries requests in one direction, responses in the other.
            Pattern::Incast(Incast { senders, background }) => {
                let each = link_bytes(&self.sizes).max(responses);
                let own = |own: &Background| every(link_bytes(&own.sizes) + responses, own.load);
                let round = every(each * f64::from(*senders), self.load);
                (background.as_ref().map(own), Some(round))
            }
            Pattern::Recorded(_) => (None, None),
        };
        let (sizes, demand) = (self.sizes.clone(), self.demand.clone());
        Load { sizes, messages: self.messages, demand, interval, round }
    }
}
