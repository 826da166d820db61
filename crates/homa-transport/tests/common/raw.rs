//! The raw IP driver by itself: a sink that keeps what comes, and packets to send.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use homa_core::{Carriage, IcmpKind, Path, RpcKey, RxMeta, Segment, Transmit};
use homa_io::driver::{Driver, PacketSink, Payloads, RxStatus, Unsent};
use homa_io::ip::{IpConfig, IpDriver, IpError};
use homa_sys::{PollFd, poll_fds};
use homa_wire::{Body, Common, Data, Header};

use super::{at_client, at_server};

/// Takes everything.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) packets: Vec<(RxMeta, Vec<u8>)>,
    pub(crate) errors: Vec<(IcmpKind, SocketAddr, Vec<u8>)>,
    pub(crate) mtus: Vec<(SocketAddr, u32)>,
    /// Treats what comes as for a port that serves nobody.
    pub(crate) refuses: bool,
}

impl PacketSink for Sink {
    fn packet(&mut self, meta: &RxMeta, packet: &[u8]) {
        self.packets.push((*meta, packet.to_vec()));
    }

    fn refused_port(&self) -> bool {
        self.refuses
    }

    fn icmp_error(&mut self, kind: IcmpKind, destination: SocketAddr, quoted: &[u8]) {
        self.errors.push((kind, destination, quoted.to_vec()));
    }

    fn path_mtu(&mut self, destination: SocketAddr, mtu: u32) {
        self.mtus.push((destination, mtu));
    }
}

/// The bytes of one packet.
struct Packet(Vec<u8>);

impl Payloads for Packet {
    fn pieces<'a>(&'a self, _: RpcKey, range: std::ops::Range<u32>, piece: impl FnMut(&'a [u8])) {
        self.0[range.start as usize..range.end as usize].chunks(700).for_each(piece);
    }
}

pub(crate) fn server(port: u16) -> Result<IpDriver, IpError> {
    let everywhere = SocketAddr::new("::".parse::<IpAddr>().unwrap(), port);
    at_server(|| IpDriver::bind(everywhere, &IpConfig::default()))
}

pub(crate) fn client() -> IpDriver {
    at_client(|| IpDriver::bind("[::]:0".parse().unwrap(), &IpConfig::default())).unwrap()
}

/// DATA of a request from `from` to `to` in the format of Linux, or of this implementation.
pub(crate) fn request(from: &IpDriver, to: SocketAddr, own: bool, payload_bytes: usize) -> Vec<u8> {
    let common = Common::data(from.local_addr().port(), to.port(), 2, 0);
    let length = payload_bytes as u32;
    let header = Header {
        common: if own { common.with_native_profile(7) } else { common },
        body: Body::Data(Data { message_length: length, incoming: length, ..Data::default() }),
        extension: None,
    };
    let mut packet = vec![0; header.encoded_bytes() + payload_bytes];
    header.encode(&mut packet).unwrap();
    packet
}

pub(crate) fn send(
    from: &mut IpDriver,
    to: SocketAddr,
    local_ip: Option<IpAddr>,
    dscp: u8,
    packet: &[u8],
    copies: usize,
) -> Result<(), Unsent> {
    let mut segment = Segment::EMPTY;
    segment.rpc = Some(RpcKey { index: 0, generation: 0 });
    segment.payload = 0..packet.len() as u32;
    let segments = vec![segment; copies];
    let path = Path {
        remote: to,
        local_ip,
        local_port: from.local_addr().port(),
        interface: 0,
        carriage: Carriage::Ip,
    };
    let transmit = Transmit {
        path,
        priority: 0,
        dscp,
        segments: copies,
        segment_bytes: packet.len() as u32,
        total_bytes: (packet.len() * copies) as u32,
        coalesced: false,
    };
    from.transmit(&transmit, &segments, &Packet(packet.to_vec()))
}

/// Receives until `enough`, for at most two seconds.
pub(crate) fn receive_until(
    driver: &mut IpDriver,
    sink: &mut Sink,
    enough: impl Fn(&Sink) -> bool,
) -> bool {
    let until = Instant::now() + Duration::from_secs(2);
    while !enough(sink) {
        if Instant::now() > until {
            return false;
        }
        let mut fds = [PollFd::new(driver.as_fd(), true, false)];
        poll_fds(&mut fds, Some(Duration::from_millis(20))).unwrap();
        while driver.receive(sink).unwrap() == RxStatus::More {}
    }
    true
}
