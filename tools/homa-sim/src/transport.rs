//! What a transport is to the simulation: one trait, implemented by an adapter per transport.

pub mod homa;
pub mod mixed;
pub mod ndp;
pub mod oracle;
mod parts;
pub mod pfabric;
pub mod phost;
pub mod pias;
pub mod tcp;
#[cfg(test)]
mod testing;

use homa_core::Config;

pub use self::parts::Header;
use self::pias::Thresholds;
use crate::{
    event::{HostId, MessageId},
    fabric::{Queues, Topology},
    packet::{Delivered, Outgoing, PacketSize},
    time::Time,
};

/// The transport of one host. After a message or a packet, and when its timer is due, it has a
/// turn: [`settle`](Self::settle), then the simulation asks for what has arrived, for packets and
/// for the next timer.
///
/// One that sends all at once, without any control:
///
/// ```
/// use std::{collections::{HashMap, VecDeque}, ops::ControlFlow};
///
/// use homa_sim::{
///     Delivered, Demand, HostId, MessageId, Outgoing, PacketSize, Run, Time, Topology,
///     reproduce::sigcomm18::Messages,
///     transport::{Choice, Protocol, Transport},
/// };
///
/// const SIZE: PacketSize = PacketSize { ip_bytes_max: 1500, header_bytes: 40 };
///
/// /// What hosts speak.
/// struct Blast;
///
/// impl Protocol for Blast {
///     type Host = Blaster;
///
///     fn hosts(&self, network: &Topology) -> Vec<Blaster> {
///         (0..network.hosts()).map(|_| Blaster::default()).collect()
///     }
///
///     fn packet_size(&self) -> PacketSize {
///         SIZE
///     }
///
///     fn control_bytes(&self, _bytes: u32) -> f64 {
///         0.0
///     }
/// }
///
/// /// A host. Packets name their message; their header is its length.
/// #[derive(Debug, Default)]
/// struct Blaster {
///     packets: VecDeque<Outgoing<u32>>,
///     received_packets: HashMap<MessageId, u32>,
///     arrived: VecDeque<MessageId>,
/// }
///
/// impl Transport for Blaster {
///     type Header = u32;
///
///     fn send(&mut self, _: Time, message: MessageId, to: HostId, bytes: u32) -> bool {
///         for index in 0..SIZE.packets(bytes) {
///             let packet = Outgoing::new(to, SIZE.ip_bytes(bytes, index), bytes);
///             self.packets.push_back(Outgoing { message: Some(message), ..packet });
///         }
///         true
///     }
///
///     fn receive(&mut self, _: Time, packet: &Delivered<'_, u32>) {
///         let (Some(message), bytes) = (packet.message, *packet.header) else { return };
///         let received = self.received_packets.entry(message).or_default();
///         *received += 1;
///         if *received == SIZE.packets(bytes) {
///             self.arrived.push_back(message);
///         }
///     }
///
///     fn arrived(&mut self, _: Time) -> Option<MessageId> {
///         self.arrived.pop_front()
///     }
///
///     fn transmit(&mut self, _: Time) -> Option<Outgoing<u32>> {
///         self.packets.pop_front()
///     }
///
///     fn timeout(&mut self, _: Time) -> Option<Time> {
///         None
///     }
/// }
///
/// let run = Run {
///     topology: Topology::sigcomm18(1),
///     sizes: Messages::published("w3").unwrap().sizes,
///     load: 0.5,
///     messages: 1_000,
///     demand: Demand::default(),
///     transport: Choice::Oracle, // whatever is chosen
///     seed: 1,
/// };
/// let outcome = run.simulate(&Blast, |_| ControlFlow::Continue(()))?.unwrap();
/// assert_eq!(outcome.samples.unfinished, 0);
/// # Ok::<(), homa_sim::SetupError>(())
/// ```
pub trait Transport {
    /// What a packet carries besides its route.
    type Header: Copy + std::fmt::Debug;

    /// The application sends a message. `false`: the transport cannot take it.
    fn send(&mut self, now: Time, message: MessageId, to: HostId, bytes: u32) -> bool;

    /// The application responds to a request that has arrived, by a message. Unless the transport
    /// has calls of its own, it is sent as any other one.
    fn respond(
        &mut self,
        now: Time,
        _request: MessageId,
        response: MessageId,
        to: HostId,
        bytes: u32,
    ) -> bool {
        self.send(now, response, to, bytes)
    }

    /// A packet has arrived.
    fn receive(&mut self, now: Time, packet: &Delivered<'_, Self::Header>);

    /// Everything that has arrived by now was received: begins a turn.
    fn settle(&mut self, _now: Time) {}

    /// The next message that has arrived whole.
    fn arrived(&mut self, now: Time) -> Option<MessageId>;

    /// The next packet to send. A NIC that pulls asks whenever it can send one, others at once.
    fn transmit(&mut self, now: Time) -> Option<Outgoing<Self::Header>>;

    /// Whether it could send bytes of a message, which is not over, if the NIC asked for them; of
    /// those who do not tell, that they could.
    fn may_send(&self, _message: MessageId) -> bool {
        true
    }

    /// Whether it waits to be told how many bytes have not left the NIC, having nothing else to
    /// send.
    fn asks_backlog(&self, _now: Time) -> bool {
        false
    }

    /// So many bytes have not left the NIC.
    fn set_backlog(&mut self, _now: Time, _bytes: u64) {}

    /// Messages that it gave up.
    fn failed(&self) -> u64 {
        0
    }

    /// When it wants a turn whatever arrives until then.
    fn timeout(&mut self, now: Time) -> Option<Time>;
}

/// What hosts can speak, with its settings.
#[derive(Clone, Debug)]
pub enum Choice {
    /// The engine that ships.
    Homa(Box<Config>),
    /// TCP, or DCTCP.
    Tcp(Box<tcp::Settings>),
    /// The scheduler that knows everything.
    Oracle,
    /// pFabric.
    PFabric,
    /// PIAS, with thresholds.
    Pias(Thresholds),
    /// pHost.
    PHost,
    /// NDP.
    Ndp,
}

impl Choice {
    /// The settings of Homa, if it is that.
    pub fn homa(&self) -> Option<&Config> {
        match self {
            Self::Homa(config) => Some(config),
            _ => None,
        }
    }

    /// Its name, as in published figures.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Homa(_) => "homa",
            Self::Tcp(settings) if settings.algorithm == tcp::Algorithm::Dctcp => "dctcp",
            Self::Tcp(_) => "tcp",
            Self::Oracle => "srpt-oracle",
            Self::PFabric => "pfabric",
            Self::Pias(_) => "pias",
            Self::PHost => "phost",
            Self::Ndp => "ndp",
        }
    }
}

impl From<Config> for Choice {
    fn from(homa: Config) -> Self {
        Self::Homa(Box::new(homa))
    }
}

/// What the simulation has to know of a transport besides.
pub trait Protocol {
    /// The transport of a host.
    type Host: Transport + std::fmt::Debug;

    /// The transports of the hosts of a network, in their order.
    fn hosts(&self, network: &Topology) -> Vec<Self::Host>;

    /// What it needs of the queues of switches.
    fn queues(&self) -> Queues {
        Queues::default()
    }

    /// How messages are divided into packets.
    fn packet_size(&self) -> PacketSize;

    /// Bytes of link time that packets without data take for a message of this length.
    fn control_bytes(&self, bytes: u32) -> f64;
}
