//! Packets of the models: their lengths, their header, and how they are made.

use crate::{
    event::{HostId, MessageId},
    packet::{Outgoing, PRIORITIES, PacketSize},
};

/// Lengths as TCP's: IP and 20 bytes.
pub(crate) const SIZE: PacketSize = PacketSize { ip_bytes_max: 1500, header_bytes: 40 };
/// The highest priority.
pub(crate) const TOP: u8 = PRIORITIES as u8 - 1;

/// Header of a packet of a message.
#[derive(Clone, Copy, Debug)]
pub struct Header<K> {
    pub(crate) message: MessageId,
    /// Length of the message.
    pub(crate) bytes: u32,
    pub(crate) kind: K,
}

impl<K> Header<K> {
    /// A packet without data, of the highest priority.
    pub(crate) fn control(self, to: HostId) -> Outgoing<Self> {
        let flow = self.message.0;
        Outgoing { priority: TOP, flow, ..Outgoing::new(to, SIZE.header_bytes, self) }
    }

    /// The packet `index` of the message, of the lowest priority.
    pub(crate) fn data(self, to: HostId, index: u32) -> Outgoing<Self> {
        let (message, ip_bytes) = (self.message, SIZE.ip_bytes(self.bytes, index));
        let packet = Outgoing::new(to, ip_bytes, self);
        Outgoing { flow: message.0, message: Some(message), ..packet }
    }
}
