//! What a transport is to the simulation: one trait, implemented by an adapter per transport.

pub mod homa;
pub mod tcp;

use homa_core::Config;

use crate::{
    event::{HostId, MessageId},
    fabric::Queues,
    packet::{Delivered, Outgoing, PacketSize},
    time::Time,
};

/// The transport of one host. After a message or a packet, and when its timer is due, it has a
/// turn: [`settle`](Self::settle), then the simulation asks for what has arrived, for packets and
/// for the next timer.
pub trait Transport {
    /// What a packet carries besides its route.
    type Header: Copy + std::fmt::Debug;

    /// The application sends a message. `false`: the transport cannot take it.
    fn send(&mut self, now: Time, message: MessageId, to: HostId, bytes: u32) -> bool;

    /// A packet has arrived.
    fn receive(&mut self, now: Time, packet: &Delivered<'_, Self::Header>);

    /// Everything that has arrived by now was received: begins a turn.
    fn settle(&mut self, now: Time);

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
}

impl Choice {
    /// The settings of Homa, if it is that.
    pub fn homa(&self) -> Option<&Config> {
        match self {
            Self::Homa(config) => Some(config),
            Self::Tcp(_) => None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Homa(_) => "homa",
            Self::Tcp(settings) if settings.algorithm == tcp::Algorithm::Dctcp => "dctcp",
            Self::Tcp(_) => "tcp",
        }
    }
}

/// What the simulation has to know of a transport besides.
pub trait Protocol {
    /// The transport of a host.
    type Host: Transport + std::fmt::Debug;

    /// The transport of host `host`.
    fn host(&self, host: HostId) -> Self::Host;

    /// What it needs of the queues of switches.
    fn queues(&self) -> Queues {
        Queues::default()
    }

    /// How messages are divided into packets.
    fn packet_size(&self) -> PacketSize;

    /// Bytes of link time that packets without data take for a message of this length.
    fn control_bytes(&self, bytes: u32) -> f64;
}
