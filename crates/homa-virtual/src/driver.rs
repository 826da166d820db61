//! The driver of a virtual host.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;

use homa_core::{Carriage, IcmpKind, RxMeta, Segment, Transmit, TransmitError};

use crate::dice::Dice;
use crate::fault::RefusalRates;
use homa_io::driver::{Driver, PacketSink, Payloads, RxCapacity, RxStatus, Unsent};

/// Packets per call of `receive`.
const BATCH_PACKETS: usize = 64;
/// Ethernet header, checksum, preamble and gap in bytes.
const ETHERNET_BYTES: u64 = 38;
/// Space of a packet in a socket's receive buffer (measured on Linux): small and MTU-size.
const SMALL_TRUESIZE: u64 = 832;
const FULL_TRUESIZE: u64 = 2304;
const SMALL_BYTES: usize = 256;

/// Least wait after a refusal for want of room, and the longest that it grows to, in ns.
const NO_ROOM_WAIT_NS: u64 = 50_000;
const NO_ROOM_WAIT_MAX_NS: u64 = 1_000_000;

/// A packet on its way. `meta` is as its receiver will see it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) meta: RxMeta,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Packet {
    pub(crate) fn wire_bytes(&self) -> u64 {
        u64::from(self.ip_bytes()) + ETHERNET_BYTES
    }

    pub(crate) fn ip_bytes(&self) -> u32 {
        self.bytes.len() as u32 + header_bytes(self.meta.path.carriage)
    }

    fn truesize(&self) -> u64 {
        if self.bytes.len() <= SMALL_BYTES {
            SMALL_TRUESIZE
        } else {
            FULL_TRUESIZE * (self.bytes.len() as u64).div_ceil(1500)
        }
    }
}

/// Reports of the network to a host besides packets.
#[derive(Clone, Debug)]
pub(crate) enum Notice {
    PathMtu(SocketAddr, u32),
    Icmp(IcmpKind, SocketAddr, Vec<u8>),
}

/// What a driver did since somebody last looked.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) sent: Vec<Packet>,
    /// Something was refused.
    pub(crate) refused: bool,
    /// Calls against its contract.
    pub(crate) violations: Vec<String>,
}

/// Sends into and receives from a [`World`](super::World).
#[derive(Debug)]
pub struct VirtualDriver {
    pub(crate) address: SocketAddr,
    pub(crate) carriage: Carriage,
    pub(crate) received: VecDeque<Packet>,
    pub(crate) notices: VecDeque<Notice>,
    done: Done,
    pub(crate) refusals: RefusalRates,
    /// It sends through a card, which tells when it has room.
    pub(crate) has_card: bool,
    /// The time, in ns, as far as the host looks at it.
    pub(crate) now_ns: u64,
    /// Refusals for want of room in a row, and when the last one was, in ns.
    no_room: (u32, u64),
    /// Longest packets that the engine was told of, by destination.
    told_mtu: HashMap<SocketAddr, u32>,
    /// Longest IP packet per destination that this host knows of.
    pub(crate) known_mtu: HashMap<SocketAddr, u32>,
    pub(crate) default_mtu: u32,
    pub(crate) backlog_bytes: u64,
    pub(crate) backlog_max_bytes: u64,
    rx_buffer_bytes: u64,
    rx_used: u64,
    rx_dropped: u64,
    dice: Dice,
}

impl VirtualDriver {
    pub(crate) fn new(
        address: SocketAddr,
        carriage: Carriage,
        rx_buffer_bytes: u64,
        seed: u64,
    ) -> Self {
        Self {
            address,
            carriage,
            received: VecDeque::new(),
            notices: VecDeque::new(),
            done: Done::default(),
            refusals: RefusalRates::default(),
            has_card: false,
            now_ns: 0,
            no_room: (0, 0),
            told_mtu: HashMap::new(),
            known_mtu: HashMap::new(),
            default_mtu: 1500,
            backlog_bytes: 0,
            backlog_max_bytes: u64::MAX,
            rx_buffer_bytes,
            rx_used: 0,
            rx_dropped: 0,
            dice: Dice::new(seed),
        }
    }

    /// What it did since the last call.
    pub(crate) fn take_done(&mut self) -> Done {
        std::mem::take(&mut self.done)
    }

    /// Whether something waits to be received.
    pub(crate) fn has_received(&self) -> bool {
        !self.received.is_empty() || !self.notices.is_empty()
    }

    /// A packet reaches the receive buffer, or overflows it.
    pub(crate) fn arrive(&mut self, packet: Packet) {
        let size = packet.truesize();
        if self.rx_used + size > self.rx_buffer_bytes {
            self.rx_dropped += 1;
            return;
        }
        self.rx_used += size;
        self.received.push_back(packet);
    }

    /// A sender that finds no room tries again later, each time after a longer wait. A card tells
    /// when it has room.
    fn note_room(&mut self, room: bool) {
        let (count, last_ns) = self.no_room;
        let wait_ns = (NO_ROOM_WAIT_NS << count.saturating_sub(1).min(4)).min(NO_ROOM_WAIT_MAX_NS);
        if !self.has_card && count > 0 && self.now_ns < last_ns + wait_ns {
            let after_ns = self.now_ns - last_ns;
            self.done.violations.push(format!("tried again {after_ns} ns after refusal {count}"));
        }
        self.no_room = if room { (0, 0) } else { (count + 1, self.now_ns) };
    }

    fn mtu_to(&self, remote: SocketAddr) -> u32 {
        self.known_mtu.get(&remote).copied().unwrap_or(self.default_mtu)
    }

    /// Whether and how this train is to be refused, and after how many segments.
    fn refusal(&mut self, transmit: &Transmit) -> Option<Unsent> {
        let mtu = self.mtu_to(transmit.path.remote);
        if transmit.segment_bytes + header_bytes(self.carriage) > mtu {
            if self.told_mtu.get(&transmit.path.remote) == Some(&mtu) {
                let bytes = transmit.segment_bytes;
                self.done.violations.push(format!("{bytes} B although it knows that {mtu} B fit"));
            }
            return Some(Unsent { first: 0, why: TransmitError::TooBig(mtu) });
        }
        let rates = self.refusals;
        let why = if self.backlog_bytes > self.backlog_max_bytes
            || self.dice.hits_ppm(rates.no_room_ppm)
        {
            TransmitError::NoRoom
        } else if self.dice.hits_ppm(rates.unreachable_ppm) {
            TransmitError::Unreachable
        } else if self.dice.hits_ppm(rates.refused_ppm) {
            TransmitError::Refused
        } else {
            return None;
        };
        let first = match why {
            TransmitError::NoRoom if !transmit.coalesced => {
                self.dice.below(transmit.segments as u64) as usize
            }
            _ => 0,
        };
        Some(Unsent { first, why })
    }
}

impl Driver for VirtualDriver {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        while let Some(notice) = self.notices.pop_front() {
            match notice {
                Notice::PathMtu(remote, mtu) => {
                    self.known_mtu.insert(remote, mtu);
                    self.told_mtu.insert(remote, mtu);
                    sink.path_mtu(remote, mtu);
                }
                Notice::Icmp(kind, remote, quoted) => sink.icmp_error(kind, remote, &quoted),
            }
        }
        for _ in 0..BATCH_PACKETS {
            let Some(packet) = self.received.pop_front() else {
                return Ok(RxStatus::Drained);
            };
            self.rx_used -= packet.truesize();
            sink.packet(&packet.meta, &packet.bytes);
        }
        Ok(RxStatus::More)
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        check_train(transmit, segments);
        let refusal = self.refusal(transmit);
        self.done.refused |= refusal.is_some();
        let no_room = refusal.filter(|unsent| unsent.why == TransmitError::NoRoom);
        self.note_room(no_room.is_none());
        let count = refusal.map_or(segments.len(), |unsent| unsent.first);
        let mut meta = RxMeta::new(transmit.path);
        meta.path.remote = SocketAddr::new(self.address.ip(), transmit.path.local_port);
        meta.path.local_ip = Some(transmit.path.remote.ip());
        meta.path.local_port = transmit.path.remote.port();
        meta.dscp = transmit.dscp;
        let segments = segments.get(..count).unwrap_or(segments);
        let in_datagram = if transmit.coalesced { segments.len().max(1) } else { 1 };
        for datagram in segments.chunks(in_datagram) {
            let mut bytes = Vec::new();
            for segment in datagram {
                append_packet(segment, payloads, &mut bytes);
            }
            if self.has_card {
                self.backlog_bytes += bytes.len() as u64;
            }
            self.done.sent.push(Packet { meta, to: transmit.path.remote, bytes });
        }
        refusal.map_or(Ok(()), Err)
    }

    fn path(&mut self, remote: SocketAddr) -> (Option<u32>, Option<u32>) {
        (Some(self.mtu_to(remote)), None)
    }

    fn rx_capacity(&self) -> RxCapacity {
        RxCapacity {
            bytes: self.rx_buffer_bytes / FULL_TRUESIZE * 1444,
            packets: u32::try_from(self.rx_buffer_bytes / SMALL_TRUESIZE).unwrap_or(u32::MAX),
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn carriage(&self) -> Carriage {
        self.carriage
    }

    fn tx_backlog_bytes(&self) -> Option<u64> {
        Some(self.backlog_bytes)
    }

    fn rx_dropped(&self) -> u64 {
        self.rx_dropped
    }
}

/// Adds what `segment` is on the wire to `packet`.
fn append_packet(segment: &Segment, payloads: &impl Payloads, packet: &mut Vec<u8>) {
    packet.extend_from_slice(segment.header());
    if let Some(rpc) = segment.rpc.filter(|_| !segment.payload.is_empty()) {
        payloads.pieces(rpc, segment.payload.clone(), |piece| packet.extend_from_slice(piece));
    }
    packet.resize(packet.len() + usize::from(segment.padding), 0);
}

/// Bytes of the IPv4 header, with that of UDP where there is one.
fn header_bytes(carriage: Carriage) -> u32 {
    match carriage {
        Carriage::Ip => 20,
        _ => 28,
    }
}

/// Checks the contract of every train: the kernel cuts blindly, and would corrupt other ones.
fn check_train(transmit: &Transmit, segments: &[Segment]) {
    assert_eq!(transmit.segments, segments.len());
    assert!(transmit.priority < 8 && transmit.dscp < 64);
    let total: u32 = segments.iter().map(Segment::wire_bytes).sum();
    assert_eq!(transmit.total_bytes, total);
    if transmit.coalesced {
        assert_eq!((transmit.segment_bytes, transmit.path.carriage), (total, Carriage::Udp));
        return assert!(segments.len() > 1);
    }
    let (last, others) = segments.split_last().expect("a train has at least one segment");
    assert!(others.iter().all(|it| it.wire_bytes() == transmit.segment_bytes), "unequal segments");
    assert!(last.wire_bytes() <= transmit.segment_bytes, "the last segment is longer");
    if others.is_empty() {
        assert_eq!(last.wire_bytes(), transmit.segment_bytes);
    }
}
