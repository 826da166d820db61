//! Packets that one system call receives or sends.

use super::message::{self, PACKETS_MAX, Slot};
use crate::address::{Family, array};
use crate::control::ControlBuffer;
use crate::udp::receive::{Received, unspecified_like};
use crate::udp::{GATHER_MAX, Pieces};
use arrayvec::ArrayVec;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;

/// Longest IP packet in bytes: 65,535, of IPv6 without its header.
const PACKET_BYTES_MAX: usize = 65_536;

/// Room for the packets of one receive, kept between receives. The system provides the memory as it
/// is filled.
#[derive(Debug)]
pub struct RxBatch {
    bytes: Box<[u8]>,
    pub(super) slots: Box<[Slot]>,
    slot_bytes: usize,
    family: Family,
}

/// A received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawReceived<'a> {
    /// Where it came from and to; the port means nothing.
    pub meta: Received,
    /// The address its header names as its destination: unlike [`Received::local_ip`], the address
    /// of this host that a reply should come from, this may be a broadcast or multicast address.
    pub destination: IpAddr,
    /// The packet after the IP header.
    pub payload: &'a [u8],
}

impl RxBatch {
    /// Room for `packets` (at least 1, at most [`PACKETS_MAX`]) of any length.
    pub fn new(packets: usize) -> Self {
        Self::with_room(packets, PACKET_BYTES_MAX)
    }

    /// Room for `packets` of which only the first `bytes` (with the IP header over IPv4) matter.
    pub fn with_room(packets: usize, bytes: usize) -> Self {
        let packets = packets.clamp(1, PACKETS_MAX);
        Self {
            bytes: vec![0; packets * bytes].into_boxed_slice(),
            slots: (0..packets).map(|_| Slot::new()).collect(),
            slot_bytes: bytes.max(1),
            family: Family::V4,
        }
    }

    pub(super) fn fill(
        &mut self,
        fd: BorrowedFd<'_>,
        family: Family,
        max: usize,
    ) -> io::Result<usize> {
        self.family = family;
        message::receive_some(fd, &mut self.bytes, self.slot_bytes, &mut self.slots, max)
    }

    /// Packet `index` of the last receive; `None` beyond its number, and for what is no IP packet.
    pub fn packet(&self, index: usize) -> Option<RawReceived<'_>> {
        let slot = self.slots.get(index)?;
        let at = index.checked_mul(self.slot_bytes)?;
        let room = self.bytes.get(at..at.checked_add(self.slot_bytes)?)?;
        let bytes = room.get(..slot.length.min(room.len()))?;
        let remote = slot.name.decode()?;
        let mut meta = Received {
            len: slot.length,
            gro_segment_bytes: None,
            remote,
            local_ip: unspecified_like(remote.ip()),
            interface: 0,
            tos: 0,
            truncated: slot.flags & libc::MSG_TRUNC != 0,
            drops_total: None,
        };
        slot.control.messages().for_each(|message| meta.note(&message));
        match self.family {
            Family::V6 => Some(RawReceived { destination: meta.local_ip, meta, payload: bytes }),
            Family::V4 => {
                let header_bytes = usize::from(*bytes.first()? & 15) * 4;
                let destination = Ipv4Addr::from(array::<4>(bytes, 16)?).into();
                meta.tos = *bytes.get(1)?;
                meta.len = slot.length.saturating_sub(header_bytes);
                if let Some(ip) = specific_ip(&slot.control) {
                    meta.local_ip = ip;
                }
                Some(RawReceived { destination, meta, payload: bytes.get(header_bytes..)? })
            }
        }
    }
}

/// The local address an IPv4 packet concerns: for a broadcast, that of the interface.
fn specific_ip(control: &ControlBuffer) -> Option<IpAddr> {
    let info = control
        .messages()
        .find(|message| (message.level, message.kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO))?;
    Some(Ipv4Addr::from(array::<4>(info.data, 4)?).into())
}

/// The pieces of a packet that is being added to [`Outgoing`].
#[derive(Debug)]
pub struct PacketPieces<'p, 'a> {
    pieces: &'p mut Pieces<'a>,
    fits: bool,
}

impl<'a> PacketPieces<'_, 'a> {
    /// Adds the next one.
    pub fn push(&mut self, piece: &'a [u8]) {
        self.fits &= self.pieces.try_push(IoSlice::new(piece)).is_ok();
    }
}

/// Packets to send, each gathered from pieces; without allocation.
#[derive(Debug, Default)]
pub struct Outgoing<'a> {
    pieces: Pieces<'a>,
    /// Where each packet ends among the pieces.
    ends: ArrayVec<u16, PACKETS_MAX>,
}

impl<'a> Outgoing<'a> {
    /// No packets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a packet whose pieces `fill` adds one by one. `false`, and nothing added, if they are
    /// too many for one call.
    pub fn push(&mut self, fill: impl FnOnce(&mut PacketPieces<'_, 'a>)) -> bool {
        let before = self.pieces.len();
        let mut packet = PacketPieces { fits: !self.ends.is_full(), pieces: &mut self.pieces };
        fill(&mut packet);
        if !packet.fits {
            self.pieces.truncate(before);
            return false;
        }
        // At most half of the 1,024 that one packet may have.
        const { assert!(GATHER_MAX / 2 <= u16::MAX as usize) };
        self.ends.push(self.pieces.len() as u16);
        true
    }

    /// How many packets there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no packet.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The pieces of each packet.
    pub(super) fn packets(&self) -> impl Iterator<Item = &[IoSlice<'a>]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let end = usize::from(end);
            let pieces = self.pieces.get(start..end).unwrap_or(&[]);
            start = end;
            pieces
        })
    }
}
