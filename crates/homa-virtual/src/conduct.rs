//! Hosts that do not do what the protocol demands. Their engine does; what leaves them is changed.

use homa_core::Carriage;
use homa_wire::{AckEntry, Body, Header, Packets};

use crate::driver::Packet;

/// How a host keeps to the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conduct {
    /// As it is written.
    #[default]
    Honest,
    /// It never acknowledges a response, and says BUSY whenever it is asked.
    NeverAcknowledges,
    /// It sends the first packet of a message and never more of it.
    OnlyAnnounces,
    /// It sends data, and nothing else: no grant, no NEED_ACK, no answer to one.
    OnlySendsData,
}

impl Conduct {
    /// The part of a packet that leaves the host. `None`: nothing.
    pub(crate) fn change(self, packet: Packet) -> Option<Packet> {
        if self == Self::Honest {
            return Some(packet);
        }
        let length = packet.bytes.len() as u32;
        let mut bytes = Vec::with_capacity(packet.bytes.len());
        match packet.meta.path.carriage {
            Carriage::Udp => Packets::new(&packet.bytes, length)
                .for_each(|(packet, length)| self.append(packet, length, &mut bytes)),
            _ => self.append(&packet.bytes, length, &mut bytes),
        }
        (!bytes.is_empty()).then_some(Packet { bytes, ..packet })
    }

    fn append(self, packet: &[u8], length: u32, out: &mut Vec<u8>) {
        let Ok(mut header) = Header::parse(packet, length) else {
            return;
        };
        let header_bytes = header.encoded_bytes();
        let sequence = header.common.sequence;
        match (self, &mut header.body) {
            (Self::NeverAcknowledges, Body::Data(data)) => data.ack = AckEntry::NONE,
            (Self::NeverAcknowledges, body @ Body::Ack(_)) => *body = Body::Busy,
            (Self::OnlyAnnounces, Body::Data(data)) if data.offset(sequence) > 0 => return,
            (Self::OnlySendsData, body) if !matches!(body, Body::Data(_)) => return,
            _ => return out.extend_from_slice(packet),
        }
        let mut changed = [0; 128];
        let written = header.encode(&mut changed).unwrap_or(0);
        out.extend_from_slice(changed.get(..written).unwrap_or(&[]));
        out.extend_from_slice(packet.get(header_bytes..).unwrap_or(&[]));
    }
}
