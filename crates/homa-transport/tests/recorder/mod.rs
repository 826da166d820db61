//! Everything that passes the link between the two hosts, and what their TCP counts.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use homa_capture::{Decoded, Decoder, Frame, LinkType};
use homa_sys::{PollFd, poll_fds};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt,
};
use std::os::fd::AsFd;

use crate::common::{at_client, at_server};

/// All ethertypes, as a packet socket is told.
const ALL: u32 = (libc::ETH_P_ALL as u16).to_be() as u32;
/// Longest frame kept whole: more than the MTU; long frames of TCP are cut.
const FRAME_BYTES: usize = 2_000;
const ETHERNET_BYTES: usize = 14;

/// A recording that runs.
pub(crate) struct Recorder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

/// Frames of all kinds, as the server's host saw them.
pub(crate) struct Recording(Vec<Vec<u8>>);

impl Recorder {
    /// Begins to record at the server's host.
    pub(crate) fn start() -> Self {
        let socket = at_server(|| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let protocol = std::num::NonZero::new(ALL).map(Protocol::from_raw);
            socket_with(AddressFamily::PACKET, SocketType::RAW, flags, protocol).unwrap()
        });
        sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || record(&socket, &seen));
        Self { stop, thread }
    }

    /// What was recorded.
    pub(crate) fn stop(self) -> Recording {
        self.stop.store(true, Ordering::Release);
        Recording(self.thread.join().unwrap())
    }
}

/// Takes frames until there are no more after the order to stop.
fn record(socket: &OwnedFd, stop: &AtomicBool) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut bytes = [0; FRAME_BYTES];
    loop {
        while let Ok((length, _)) = recv(socket, &mut bytes[..], RecvFlags::empty()) {
            frames.push(bytes[..length].to_vec());
        }
        if stop.load(Ordering::Acquire) {
            return frames;
        }
        let mut fds = [PollFd::new(socket.as_fd(), true, false)];
        poll_fds(&mut fds, Some(Duration::from_millis(20))).unwrap();
    }
}

impl Recording {
    /// Every Homa packet.
    pub(crate) fn homa(&self, mut found: impl FnMut(&Frame<'_>)) {
        for frame in &self.0 {
            decode(LinkType::Ethernet, frame, |frame| found(&frame));
        }
    }

    /// TCP segments that reset a connection and are no Homa packets.
    pub(crate) fn rsts(&self) -> usize {
        self.0.iter().filter(|frame| is_rst(frame)).count()
    }
}

/// Without IP options or extension headers, which nothing sends here.
fn is_rst(frame: &[u8]) -> bool {
    let header_bytes = match frame.get(12..14) {
        Some([0x08, 0x00]) if frame.get(ETHERNET_BYTES + 9) == Some(&6) => 20,
        Some([0x86, 0xDD]) if frame.get(ETHERNET_BYTES + 6) == Some(&6) => 40,
        _ => return false,
    };
    let flags = frame.get(ETHERNET_BYTES + header_bytes + 13).copied().unwrap_or(0);
    flags & 0x04 != 0 && flags != 0x06
}

/// Gives the Homa packet in a frame, if there is one, to `found`.
pub(crate) fn decode(link: LinkType, bytes: &[u8], mut found: impl FnMut(Frame<'_>)) {
    Decoder::default().decode(link, bytes, bytes.len() as u32, |decoded| {
        if let Decoded::Homa(frame) = decoded {
            found(frame);
        }
    });
}

/// The sum of an IPv4 header in one's complement: all ones if its checksum is right.
pub(crate) fn header_sum(header: &[u8]) -> u32 {
    let words = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    (sum & 0xFFFF) + (sum >> 16)
}

/// RSTs that the TCP of the two hosts has sent so far.
pub(crate) fn rsts_sent() -> (u64, u64) {
    (at_server(|| counter("OutRsts")), at_client(|| counter("OutRsts")))
}

/// Segments that TCP has received in the network namespace of this thread.
pub(crate) fn segments_received() -> u64 {
    counter("InSegs")
}

fn counter(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split_whitespace().position(|one| one == name).unwrap();
    values.split_whitespace().nth(place).unwrap().parse().unwrap()
}
